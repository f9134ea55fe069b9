"""People's ratings of answers, from 0 to 1: by the scale on which each was given.

A campaign's criteria may change, so a rating is read by the version of the campaign that its voter
saw. Ratings by a criterion that version does not have, as imports can hold, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from plumbline.collect import asking
from plumbline.collect.asking import Criterion
from plumbline.collect.models import Ballot, Campaign, CampaignVersion

Scales = Mapping[str, Criterion]  # by name


class Ratings:
    """Reads ballots' ratings; asks for a campaign's versions once."""

    def __init__(self) -> None:
        self._found: dict[int, dict[int, Scales]] = {}

    def of(self, ballot: Ballot, campaign: Campaign) -> list[tuple[int, str, float]]:
        """(slot, criterion, 0 to 1) of everything rated."""
        if not ballot.ratings:
            return []
        scales = self._scales(campaign, ballot.settings_version)
        return [
            (int(slot), name, (value - scale.least) / (scale.most - scale.least))
            for slot, given in sorted(ballot.ratings.items())
            for name, value in sorted(given.items())
            if (scale := scales.get(name)) is not None and scale.least <= value <= scale.most
        ]

    def _scales(self, campaign: Campaign, version: int) -> Scales:
        if campaign.pk not in self._found:
            versions = CampaignVersion.objects.filter(campaign=campaign)
            self._found[campaign.pk] = {
                number: _by_name(settings.get("criteria") or [])
                for number, settings in versions.values_list("number", "settings")
            }
        # A campaign that never changed has no version written; its criteria are the first ones.
        return self._found[campaign.pk].get(version) or _by_name(campaign.criteria)


def _by_name(rows: Iterable[Mapping[str, object]]) -> Scales:
    return {one.name: one for one in asking.criteria(rows)}
