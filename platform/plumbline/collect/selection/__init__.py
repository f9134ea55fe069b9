"""Every file in this folder is a selection strategy, found by its name."""

from __future__ import annotations

import random
from collections.abc import Sequence

from align import discovery
from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Picked, Strategy


def discover() -> dict[str, type[Strategy]]:
    """Strategy classes by file name."""
    return discovery.discover(__name__, Strategy)


def find(name: str) -> Strategy:
    """The named strategy. Raises ValueError for a name no file has."""
    return discovery.find(__name__, Strategy, name)()


def different(answers: Sequence[Completion]) -> list[Completion]:
    """Answers with the same text are one answer: the first."""
    return list({answer.text.strip(): answer for answer in reversed(answers)}.values())[::-1]


def choose(
    name: str,
    answers: Sequence[Completion],
    rng: random.Random,
    known: Known = NOTHING,
) -> list[Picked]:
    """What the named strategy would ask people about one prompt's answers; with fewer than two
    different ones there is nothing to ask."""
    strategy, several = find(name), different(answers)
    return strategy.choose(several, rng, known) if len(several) > 1 else []
