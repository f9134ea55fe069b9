"""Why a round's comparisons were asked: by the way they were picked, how many and by what figures.

For researchers; annotators never see why they are asked something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from plumbline.collect import votes
from plumbline.loop.models import Round

PARTS = {
    "informed": "By what the strategy goes by",
    "thompson": "What may be best (double Thompson)",
    "random": "Any pair",
    "": "One prompt at a time",
}


@dataclass(frozen=True)
class Part:
    """Comparisons that were picked one way, and their means; None where none has the figure."""

    title: str
    count: int
    p_select: float
    chance: float | None  # P(the likelier answer is better)
    information: float | None  # of a vote, in nats
    gain: float | None  # in log det of the design's information


def why(round: Round) -> list[Part]:
    """A row for each way of picking; none where people compared nothing."""
    if round.campaign is None:
        return []
    asked = votes.counted(round.campaign.comparisons.all()).values_list("why", "p_select")
    by_part: dict[str, list[tuple[Mapping[str, Any], float]]] = {}
    for figures, p_select in asked:
        by_part.setdefault(figures.get("part", ""), []).append((figures, p_select))
    return [_part(title, by_part[name]) for name, title in PARTS.items() if name in by_part]


def _part(title: str, found: list[tuple[Mapping[str, Any], float]]) -> Part:
    def mean(name: str) -> float | None:
        values = [figures[name] for figures, _ in found if name in figures]
        return fmean(values) if values else None

    sure = [max(one["chance"], 1 - one["chance"]) for one, _ in found if "chance" in one]
    return Part(
        title=title,
        count=len(found),
        p_select=fmean(p for _, p in found),
        chance=fmean(sure) if sure else None,
        information=mean("information"),
        gain=mean("gain"),
    )
