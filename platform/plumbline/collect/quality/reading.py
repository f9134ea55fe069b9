"""What people said in a campaign, read in a few queries and without model instances.

Reports look at the latest answers only, so that a page's time does not grow with the campaign.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import Length

from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison
from plumbline.collect.quality.gold import DISPUTED

LATEST = 20_000  # answers that a report looks at
FIELDS = (
    *("comparison", "comparison__kind", "comparison__repeats", "annotator", "revision", "shown"),
    *("outcome", "ranking", "strength", "ratings", "active_ms", "cast_at"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """A person's latest answer to a comparison, a skip or a flag included."""

    comparison: int
    kind: str
    repeats: int | None
    rater: int
    revision: int
    shown: list[int]
    outcome: str
    ranking: list[list[int]]
    strength: int | None
    ratings: dict[str, dict[str, int]]
    active_ms: int | None
    at: datetime

    @property
    def ranked(self) -> bool:
        return self.outcome == Ballot.Outcome.RANKED

    @property
    def is_vote(self) -> bool:
        return self.outcome in (
            Ballot.Outcome.RANKED,
            Ballot.Outcome.ALL_BAD,
            Ballot.Outcome.ABSOLUTE,
        )


@dataclass(frozen=True, slots=True)
class Gold:
    """A known comparison. A disputed one counts for nobody."""

    comparison: int
    expected: dict[str, Any]
    retired: bool
    disputed: bool

    @property
    def is_duplicate(self) -> bool:
        """Whether the answers are equally good, so that a tie is expected."""
        return len(self.expected.get("ranking") or self.expected.get("rated") or []) == 1


def said(campaign: Campaign, latest: int = LATEST) -> list[Said]:
    """The standing answers among the latest ones, newest first."""
    answered = Ballot.objects.filter(comparison__campaign=campaign, cast_at__isnull=False)
    return _standing(answered, latest)


def said_by(annotator: int, campaigns: Iterable[int], latest: int = LATEST) -> list[Said]:
    """The same of one person in some campaigns."""
    return _standing(
        Ballot.objects.filter(annotator=annotator, comparison__campaign__in=campaigns).exclude(
            outcome=""
        ),
        latest,
    )


def beside(annotator: int, campaigns: Iterable[int]) -> list[Said]:
    """The standing answers, by anybody, on the comparisons in some campaigns that a person has
    answered: what their agreement with others is made of."""
    mine = Ballot.objects.filter(annotator=annotator, comparison__campaign__in=campaigns)
    answered = mine.exclude(outcome="").order_by("-cast_at").values("comparison")
    return _standing(Ballot.objects.filter(comparison__in=answered).exclude(outcome=""), LATEST)


def golds(campaign: Campaign) -> dict[int, Gold]:
    """The campaign's known comparisons, by id."""
    rows = Comparison.objects.filter(campaign=campaign, kind=Comparison.Kind.GOLD)
    return {
        pk: Gold(pk, expected or {}, retired is not None, DISPUTED in why)
        for pk, expected, retired, why in rows.values_list("pk", "expected", "retired_at", "why")
    }


def characters(votes: Iterable[Said], campaign: Campaign) -> dict[int, int]:
    """How long the answers of the comparisons voted on are together, in characters."""
    oldest = min((vote.at for vote in votes), default=None)
    if oldest is None:
        return {}
    voted = Ballot.objects.filter(comparison__campaign=campaign, cast_at__gte=oldest)
    return dict(
        Candidate.objects.filter(comparison__in=voted.order_by().values("comparison"))
        .order_by()
        .values_list("comparison")
        .annotate(characters=Sum(Length("completion__text")))
    )


def texts(comparisons: Iterable[int]) -> dict[int, dict[int, str]]:
    """The answers of some comparisons, by slot."""
    found: dict[int, dict[int, str]] = {}
    rows = Candidate.objects.filter(comparison__in=list(comparisons)).order_by()
    for comparison, slot, text in rows.values_list("comparison", "slot", "completion__text"):
        found.setdefault(comparison, {})[slot] = text
    return found


def _standing(ballots: QuerySet[Ballot], latest: int) -> list[Said]:
    """Of each person on each comparison the latest, unless that took an answer back."""
    rows = ballots.order_by("-cast_at").values_list(*FIELDS)[:latest]
    newest: dict[tuple[int, int], Said] = {}
    for row in rows:
        one = Said(*row)
        known = newest.get((one.comparison, one.rater))
        if known is None or known.revision < one.revision:
            newest[one.comparison, one.rater] = one
    return [one for one in newest.values() if one.outcome != Ballot.Outcome.WITHDRAWN]
