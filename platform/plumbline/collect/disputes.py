"""Comparisons that people disagree about, and how far apart they are.

Of two answers: some prefer the one and some the other, or somebody calls a tie what another calls
clearly better; "slightly better" beside a tie is no dispute, nor are two strengths of one opinion.
Of three or more: people name different best ones. And where some call all bad what others rank.
"""

from __future__ import annotations

from typing import Any

from django.db.models import (
    Case,
    Count,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    When,
)
from django.db.models.functions import Coalesce

from plumbline.collect import queue
from plumbline.collect.models import Ballot, Comparison

CLEAR = 2  # a preference that contradicts a tie; also what is taken where no strength was asked
STRENGTHS = {1: "slightly better", 2: "clearly better", 3: "much better"}

_strength = Coalesce(F("strength"), CLEAR)
# +3 (the first answer is much better) to -3; nothing where more than two are ranked, or none.
LEAN = Case(
    When(ranking=[[0], [1]], then=_strength),
    When(ranking=[[1], [0]], then=-_strength),
    When(ranking__in=[[[0, 1]], [[1, 0]]], then=0),
    output_field=IntegerField(),
)
OPPOSED = Q(low__lt=0, high__gt=0) | Q(low=0, high__gte=CLEAR) | Q(low__lte=-CLEAR, high=0)


def among(comparisons: QuerySet[Comparison], also: Q | None = None) -> QuerySet[Comparison]:
    """The disputed ones, and those of the condition `also`; furthest apart first.

    With `low` and `high`, the ends of what people said of two answers, `apart`, the steps between
    those (1 to 6; None of more answers), `best`, how many were called best, and `outcomes`.
    """
    ranked = Q(outcome=Ballot.Outcome.RANKED)
    judged = (
        queue.standing(comparisons)
        .filter(outcome__in=[Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD])
        .order_by()
        .values("comparison")
        .annotate(
            low=Min(LEAN),
            high=Max(LEAN),
            best=Count("ranking__0", filter=ranked, distinct=True),
            outcomes=Count("outcome", distinct=True),
        )
        .filter(OPPOSED | Q(low__isnull=True, best__gt=1) | Q(outcomes__gt=1))
        .annotate(apart=F("high") - F("low"))
    )
    here = judged.filter(comparison=OuterRef("pk"))
    names = ("low", "high", "apart", "best", "outcomes")
    found = Comparison.objects.filter(Q(pk__in=judged.values("comparison")) | (also or Q(pk=None)))
    found = found.annotate(**{name: Subquery(here.values(name)) for name in names})
    return found.order_by(F("apart").desc(nulls_last=True), "-priority", "pk")


def told(comparison: Any) -> str:
    """What people said of a comparison that `among` found, A being the first answer; "" of any
    other, and of a known comparison that people of proven skill failed."""
    low, high = getattr(comparison, "low", None), getattr(comparison, "high", None)
    said = []
    if low is not None and high is not None:
        said = [_one(high), _one(low)] if low != high else [_one(high)]
    elif getattr(comparison, "best", None):
        said = ["Different answers are best" if comparison.best > 1 else "An order"]
    if said and comparison.outcomes > 1:
        said.append("All bad")
    return "; ".join(said)


def _one(lean: int) -> str:
    return f"{'A' if lean > 0 else 'B'} {STRENGTHS[abs(lean)]}" if lean else "A tie"
