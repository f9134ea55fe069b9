"""What a hierarchy would say of a project's newest answers, before it is a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from align import hierarchy
from align.hierarchy import Level
from plumbline.accounts.models import Project
from plumbline.collect.models import Completion
from plumbline.judges import factored
from plumbline.policies.models import RewardModel

MOST = 300  # pairs looked at


@dataclass(frozen=True)
class Preview:
    """pairs: how many were compared. shares: of them decided by each level; undecided: by none."""

    pairs: int
    shares: Sequence[float]
    undecided: float
    margins: Sequence[float]


def preview(project: Project, levels: Sequence[Level], model: RewardModel | None) -> Preview | None:
    """None where no prompt has two answers yet. Raises ValueError as `hierarchy` does, for levels
    that cannot work and factors that are not known of the answers."""
    hierarchy.check(levels)
    names = [one.factor for one in levels]
    newest = {
        one.pk: one
        for one in Completion.objects.filter(prompt__set__project=project)
        .select_related("prompt")
        .order_by("-created_at", "pk")[: factored.BUFFER]
    }
    values = factored.stored(newest, names, model)
    margins = hierarchy.deltas(levels, list(values.values()))
    decided: Counter[int | None] = Counter()
    last: dict[int, Completion] = {}
    for one in newest.values():
        other = last.get(one.prompt_id)
        last[one.prompt_id] = one
        if other is not None and sum(decided.values()) < MOST:
            found = hierarchy.decide(levels, margins, values[other.pk], values[one.pk])
            decided[found.level] += 1
    total = sum(decided.values())
    if not total:
        return None
    shares = [decided[level] / total for level in range(len(levels))]
    return Preview(total, shares, decided[None] / total, margins)
