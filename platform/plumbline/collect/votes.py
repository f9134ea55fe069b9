"""From what people said to who beat whom.

One ballot on k answers speaks of each of its k(k-1)/2 pairs. A tie group gives 0.5; "all bad" says
nothing of the order and gives nothing here. No ballot is dropped or reweighted silently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from django.db.models import Exists, OuterRef, QuerySet

from plumbline.collect.models import Ballot, Comparison, Enrolment, Flag

VOTES = (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD, Ballot.Outcome.ABSOLUTE)
SAID = (*VOTES, Ballot.Outcome.SKIPPED, Ballot.Outcome.FLAGGED)
TESTS = (Comparison.Kind.GOLD, Comparison.Kind.REPEAT)  # hidden among what is asked in earnest
COUNTED = (Comparison.Kind.ORDINARY, Comparison.Kind.LIVE)  # what is asked in earnest


def counted(comparisons: QuerySet[Comparison]) -> QuerySet[Comparison]:
    """Comparisons whose votes train and judge policies: no gold, no repeat, no training."""
    return comparisons.filter(kind__in=COUNTED)


def kept(ballots: QuerySet[Ballot]) -> QuerySet[Ballot]:
    """Without the votes of people who are excluded from the campaign they voted in."""
    excluded = Enrolment.objects.filter(
        campaign=OuterRef("comparison__campaign"),
        user=OuterRef("annotator"),
        excluded_at__isnull=False,
    )
    return ballots.filter(~Exists(excluded))


def in_doubt() -> Exists:
    """Whether somebody has flagged the comparison of the outer query and no researcher has looked
    at it yet."""
    return Exists(Flag.objects.filter(ballot__comparison=OuterRef("pk"), resolved_at=None))


def preferences(ballots: Iterable[Ballot]) -> list[tuple[int, int, float, float]]:
    """What the standing ballots of one comparison say of each pair of its slots.

    Returns (i, j, p, weight) with i < j: `p` is the share of ballots that put i over j, a tie
    counting half, and `weight` the number of ballots that ranked both.
    """
    wins: dict[tuple[int, int], list[float]] = defaultdict(list)
    for ballot in ballots:
        if ballot.outcome != Ballot.Outcome.RANKED:
            continue
        place = {slot: rank for rank, group in enumerate(ballot.ranking) for slot in group}
        if ballot.probability is not None and set(place) == {0, 1}:
            wins[0, 1].append(ballot.probability)  # an imported judge said how sure it was
            continue
        for i, j in combinations(sorted(place), 2):
            wins[i, j].append(0.5 if place[i] == place[j] else float(place[i] < place[j]))
    return [(i, j, sum(p) / len(p), float(len(p))) for (i, j), p in sorted(wins.items())]


def tie_shares(ballots: Iterable[Ballot]) -> dict[tuple[int, int], float]:
    """By pair of slots (i < j): the share of the ballots that ranked both which called it a tie."""
    ties: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for ballot in ballots:
        if ballot.outcome != Ballot.Outcome.RANKED:
            continue
        place = {slot: rank for rank, group in enumerate(ballot.ranking) for slot in group}
        for i, j in combinations(sorted(place), 2):
            ties[i, j].append(place[i] == place[j] and ballot.probability is None)
    return {pair: sum(found) / len(found) for pair, found in ties.items()}


def bad_shares(ballots: Iterable[Ballot]) -> tuple[float, int]:
    """The share of ballots that called every answer bad, and how many judged at all."""
    judged = [b for b in ballots if b.outcome in (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD)]
    bad = sum(ballot.outcome == Ballot.Outcome.ALL_BAD for ballot in judged)
    return (bad / len(judged) if judged else 0.0), len(judged)
