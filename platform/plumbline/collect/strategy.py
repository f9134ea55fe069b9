"""What a selection strategy is: it picks which answers to a prompt deserve a person's time."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from plumbline.collect.models import Completion


@dataclass(frozen=True)
class Picked:
    """Answers to put side by side, and how likely the strategy was to pick just these."""

    answers: tuple[Completion, ...]
    p_select: float  # for weights that undo the selection


class Strategy:
    """One file in `selection/`, found by its name.

    contrasts: whether it asks for the two answers that a contrast job found (`align.gpu.contrast`).
    """

    contrasts: ClassVar[bool] = False

    def choose(
        self,
        answers: Sequence[Completion],
        rng: random.Random,
        contrast: Collection[Completion] = (),
    ) -> list[Picked]:
        """Comparisons of one prompt's answers, whose texts all differ; at least two answers.
        `contrast` is two of them, or none where no job has looked."""
        raise NotImplementedError
