"""Every file in this folder is a selection strategy, found by its name."""

from __future__ import annotations

import random
from collections.abc import Sequence

from align import discovery
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Picked, Strategy


def discover() -> dict[str, type[Strategy]]:
    """Strategy classes by file name."""
    return discovery.discover(__name__, Strategy)


def choose(name: str, answers: Sequence[Completion], rng: random.Random) -> list[Picked]:
    """What the named strategy would ask people about one prompt's answers.

    Answers with the same text are one answer; with fewer than two different ones there is nothing
    to ask. Raises ValueError for a name no file has.
    """
    strategy = discovery.find(__name__, Strategy, name)()
    different = list({answer.text.strip(): answer for answer in reversed(answers)}.values())
    return strategy.choose(different[::-1], rng) if len(different) > 1 else []
