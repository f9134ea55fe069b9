"""Every file in this folder is a selection strategy, found by its name."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from align import discovery
from plumbline.collect import alike
from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Batch, Known, Picked, Strategy

different = alike.different


def discover() -> dict[str, type[Strategy]]:
    """Strategy classes by file name."""
    return discovery.discover(__name__, Strategy)


def offered() -> dict[str, type[Strategy]]:
    """Those that a researcher may choose, any two first: not what only an algorithm asks for."""
    found = {name: one for name, one in discover().items() if not one.for_algorithms}
    return {"random": found.pop("random"), **found}


def find(name: str) -> Strategy:
    """The named strategy. Raises ValueError for a name no file has."""
    return discovery.find(__name__, Strategy, name)()


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


def choose_batch(name: str, batch: Batch) -> dict[int, list[Picked]]:
    """What the named strategy would ask people about a batch of prompts, at most one pair each;
    prompts with fewer than two different answers are left out."""
    several = {prompt: different(answers) for prompt, answers in batch.prompts.items()}
    left = {prompt: answers for prompt, answers in several.items() if len(answers) > 1}
    return find(name).choose_batch(replace(batch, prompts=left))
