"""What must hold of ballots: one standing vote a person, no more people than were wanted, and
comparisons that know whether they are full."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce

from plumbline.collect.models import Ballot, Campaign, CampaignVersion, Comparison
from plumbline.collect.queue import history
from plumbline.collect.votes import COUNTED, VOTES
from plumbline.operations.check import Check, Finding
from plumbline.transfer.models import ImportedComparison


class VotesCheck(Check):
    title = "Nobody counts twice, and no comparison has more votes than were asked for."

    def look(self) -> Iterator[Finding]:
        self.seen = Ballot.objects.exclude(outcome="").count()
        yield from self._twice()
        yield from self._too_many()
        yield from self._not_full()

    def _twice(self) -> Iterator[Finding]:
        who = ("comparison", "annotator__username")
        standing = history.standing(Comparison.objects.all())
        seated = Ballot.objects.filter(seat__isnull=False)
        for rows, what in ((standing, "standing votes"), (seated, "seats")):
            counted = rows.order_by().values(*who).annotate(n=Count("pk")).filter(n__gt=1)
            for row in counted.order_by(*who).iterator():
                yield self.found(
                    f"comparison {row['comparison']}",
                    f"{row['annotator__username']} has {row['n']} {what} on comparison "
                    f"{row['comparison']}; there is to be one at most.",
                    "Retract one of them on its page, so that the person counts once.",
                )

    def _too_many(self) -> Iterator[Finding]:
        """Of comparisons that go by their campaign's overlap, at its highest so far."""
        asked = Comparison.objects.filter(kind__in=COUNTED, overlap=None).filter(
            ~Exists(ImportedComparison.objects.filter(comparison=OuterRef("pk")))
        )
        highest = _highest()
        voted = asked.order_by().annotate(n=_votes()).filter(n__gt=F("campaign__overlap"))
        for pk, campaign, n in voted.order_by("pk").values_list("pk", "campaign", "n"):
            if n > highest[campaign]:
                yield self.found(
                    f"comparison {pk}",
                    f"Comparison {pk} has {n} votes and asked for {highest[campaign]} at most.",
                    "Retract the votes that came last, if they are to count alike.",
                )

    def _not_full(self) -> Iterator[Finding]:
        """`full` where votes are missing is as it should be while somebody's flag waits."""
        settled = Comparison.objects.filter(
            kind__in=COUNTED, campaign__overlap_applied=F("campaign__overlap")
        )
        people = Coalesce("overlap", "campaign__overlap")
        wrong = settled.order_by().annotate(n=_votes(), people=people)
        wrong = wrong.filter(Q(full=False, n__gte=F("people")))
        for pk, n, wanted in wrong.order_by("pk").values_list("pk", "n", "people"):
            yield self.found(
                f"comparison {pk}",
                f"Comparison {pk} has the {n} votes it wants ({wanted}) and still asks for more.",
                "Set its overlap again on its page; that counts anew.",
            )


def _votes() -> Count:
    return Count("ballots", filter=Q(ballots__seat__isnull=False, ballots__outcome__in=VOTES))


def _highest() -> dict[int, int]:
    """The largest overlap that each campaign ever had."""
    found: dict[int, int] = dict(Campaign.objects.values_list("pk", "overlap"))
    versions = CampaignVersion.objects.values_list("campaign", "settings")
    for campaign, settings in versions.iterator():
        found[campaign] = max(found[campaign], int(settings.get("overlap") or 1))
    return found
