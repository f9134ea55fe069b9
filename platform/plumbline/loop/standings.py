"""Policies against each other: win rates with counts, ratings, and rates at equal lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from align.measure import length_control
from align.measure.length_control import Controlled
from align.measure.ratings import ELO, Meeting, Rating, ratings
from plumbline.loop.winrate import WinRate
from plumbline.policies.models import Policy

ENOUGH = 10  # meetings of a pair before lengths are controlled for


@dataclass(frozen=True)
class Met:
    """The row's policy against the column's. `votes` are all cast; each meeting counts once, by the
    majority of its votes, in the rate and its interval."""

    outcome: WinRate
    votes: float

    @property
    def rate(self) -> float:
        return self.outcome.rate

    @property
    def interval(self) -> tuple[float, float]:
        return self.outcome.interval()


@dataclass(frozen=True)
class Standing:
    """A policy's place: its rating against the anchor (None: they never met, not even through
    others) and its rate against the anchor at equal lengths (None: too few meetings)."""

    policy: Policy
    rating: Rating | None
    controlled: Controlled | None
    meetings: int

    @property
    def points(self) -> float | None:
        """On chess players' scale."""
        return self.rating.value * ELO if self.rating else None

    @property
    def points_low(self) -> float | None:
        return self.rating.low * ELO if self.rating else None

    @property
    def points_high(self) -> float | None:
        return self.rating.high * ELO if self.rating else None


@dataclass(frozen=True)
class Standings:
    """Best first; `cells` by (row, column)."""

    rows: list[Standing]
    cells: Mapping[tuple[UUID, UUID], Met]
    steadied: bool


def standings(policies: Sequence[Policy], found: Sequence[Meeting], anchor: Policy) -> Standings:
    rated = ratings(found, anchor.pk)
    counts: dict[Hashable, int] = defaultdict(int)
    for one in found:
        counts[one.first] += 1
        counts[one.second] += 1
    at_equal = controlled(policies, found, anchor)
    rows = [
        Standing(one, rated.by.get(one.pk), at_equal.get(one.pk), counts[one.pk])
        for one in policies
    ]
    rows.sort(key=lambda row: (row.rating is None, -(row.rating.value if row.rating else 0.0)))
    return Standings(rows, matrix(found), rated.steadied)


def matrix(found: Sequence[Meeting]) -> dict[tuple[UUID, UUID], Met]:
    """Every pair that met, from either side."""
    shares: dict[tuple[UUID, UUID], list[Meeting]] = defaultdict(list)
    for one in found:
        assert isinstance(one.first, UUID)
        assert isinstance(one.second, UUID)
        shares[one.first, one.second].append(one)
    sides: dict[tuple[UUID, UUID], list[tuple[float, float]]] = defaultdict(list)
    for (first, second), some in shares.items():
        sides[first, second] += [(one.p, one.weight) for one in some]
        sides[second, first] += [(1 - one.p, one.weight) for one in some]
    return {pair: _met(some) for pair, some in sides.items()}


def controlled(
    policies: Sequence[Policy], found: Sequence[Meeting], anchor: Policy
) -> dict[Hashable, Controlled]:
    """Each policy's rate against the anchor at equal lengths. What a prompt does to all of them is
    learned from all, and what length is worth to this judge is what each one's own slope is drawn
    towards."""
    met: dict[Hashable, dict[Hashable, tuple[float, float]]] = {}
    for policy in policies:
        rows: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
        for one in found:
            if {one.first, one.second} == {policy.pk, anchor.pk} and policy.pk != anchor.pk:
                mine = one.first == policy.pk
                longer = one.longer if mine else -one.longer
                rows[one.group].append((one.p if mine else 1 - one.p, longer))
        if len(rows) >= ENOUGH:
            met[policy.pk] = {group: _mean(some) for group, some in rows.items()}
    if not met:
        return {}
    hard = length_control.difficulties(met) if len(met) > 1 else {}
    columns = {
        pk: (
            [share for share, _ in rows.values()],
            [longer for _, longer in rows.values()],
            [hard[group] for group in rows] if hard else None,
        )
        for pk, rows in met.items()
    }
    slope = length_control.common_slope(list(columns.values()))
    return {pk: length_control.controlled(*column, slope=slope) for pk, column in columns.items()}


def _met(some: Sequence[tuple[float, float]]) -> Met:
    wins = sum(p > 0.5 for p, _ in some)
    ties = sum(p == 0.5 for p, _ in some)
    outcome = WinRate(wins, ties, len(some) - wins - ties)
    return Met(outcome, sum(weight for _, weight in some))


def _mean(some: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return (
        sum(share for share, _ in some) / len(some),
        sum(longer for _, longer in some) / len(some),
    )
