"""What a selection strategy is: it picks which answers to a prompt deserve a person's time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.collect.models import Completion


@dataclass(frozen=True)
class Picked:
    """Answers to put side by side, and how likely the strategy was to pick just these."""

    answers: tuple[Completion, ...]
    p_select: float  # for weights that undo the selection


class Strategy:
    """One file in `selection/`, found by its name."""

    def choose(self, answers: Sequence[Completion], rng: random.Random) -> list[Picked]:
        """Comparisons of one prompt's answers, whose texts all differ; at least two answers."""
        raise NotImplementedError
