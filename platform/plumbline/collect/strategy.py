"""What a selection strategy is: it picks which answers to a prompt deserve a person's time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import ClassVar, Literal
from uuid import UUID

from plumbline.collect.models import Completion

Need = Literal["", "contrast", "members"]  # of what models said


@dataclass(frozen=True)
class Picked:
    """Answers to put side by side, and how likely the strategy was to pick just these."""

    answers: tuple[Completion, ...]
    p_select: float  # for weights that undo the selection


@dataclass(frozen=True)
class Known:
    """What models said of a prompt's answers before people are asked.

    contrast: the two answers that a contrast job found (`align.gpu.contrast`), or none. members: by
    answer, what each member of the last reward model says of it; empty where there is no such
    model. temperature: what differences of those are divided by.
    """

    contrast: tuple[Completion, ...] = ()
    members: Mapping[UUID, Sequence[float]] = field(default_factory=dict)
    temperature: float = 1.0


NOTHING = Known()


class Strategy:
    """One file in `selection/`, found by its name. needs: what it wants to know, if it can be."""

    needs: ClassVar[Need] = ""

    def choose(
        self, answers: Sequence[Completion], rng: random.Random, known: Known = NOTHING
    ) -> list[Picked]:
        """Comparisons of one prompt's answers, whose texts all differ; at least two answers."""
        raise NotImplementedError


def mostly(
    pair: tuple[Completion, ...], share: float, answers: Sequence[Completion], rng: random.Random
) -> list[Picked]:
    """The pair for a share of the prompts, any two answers for the others, so that every pair has
    a chance; any two for all of them where there is no such pair."""
    share = share if pair else 0.0
    at_random = (1 - share) / comb(len(answers), 2)
    if rng.random() < share:
        return [Picked(pair, p_select=share + at_random)]
    drawn = tuple(rng.sample(answers, 2))
    found = {answer.pk for answer in drawn} == {answer.pk for answer in pair}
    return [Picked(drawn, p_select=at_random + share * found)]
