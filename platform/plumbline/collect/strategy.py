"""What a selection strategy is: it picks which answers to a prompt deserve a person's time.

A file in `selection/` picks prompt by prompt (`choose`) or for a batch of prompts at once
(`choose_batch`). How likely a pair was to be shown is logged for every comparison: `p_select` is
exact, given what was sampled and what models say, and never 0 for what is shown.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from uuid import UUID

from plumbline.collect.models import Completion

Need = Literal["contrast", "members", "features"]


@dataclass(frozen=True)
class Picked:
    """Answers to put side by side, and how likely the strategy was to pick just these.

    p_select: the chance, before anything was drawn, that these answers were shown: of one prompt
    for strategies that pick prompt by prompt, in the whole batch for the others. why: the figures
    that it was picked by, for researchers.
    """

    answers: tuple[Completion, ...]
    p_select: float  # for weights that undo the selection
    why: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What models said of a prompt's answers before people are asked.

    contrast: the two answers that a contrast job found (`align.gpu.contrast`), or none. members: by
    answer, what each member of the last reward model says of it; empty where there is no such
    model. temperature: what differences of those are divided by. features: by answer, where it lies
    among what a reward model could learn (`align.gpu.features`).
    """

    contrast: tuple[Completion, ...] = ()
    members: Mapping[UUID, Sequence[float]] = field(default_factory=dict)
    temperature: float = 1.0
    features: Mapping[UUID, Sequence[float]] = field(default_factory=dict)


NOTHING = Known()


@dataclass(frozen=True)
class Asked:
    """A pair that people were asked about before: the difference of its answers' features, and
    p (1 - p) of what was foretold."""

    z: Sequence[float]
    variance: float = 0.25


@dataclass(frozen=True)
class Batch:
    """Prompts that compete for people's time, in the order of whose turn it is.

    prompts: the answers to each, two or more, all different. wanted: about how many prompts people
    shall be asked. seed: the same one gives the same picks. before: pairs of earlier batches.
    """

    prompts: Mapping[int, Sequence[Completion]]
    wanted: int
    seed: str
    known: Mapping[int, Known] = field(default_factory=dict)
    before: Sequence[Asked] = ()

    def of(self, prompt: int) -> Known:
        return self.known.get(prompt, NOTHING)


class Strategy:
    """One file in `selection/`, found by its name. needs: what it wants to know, if it can be."""

    title: ClassVar[str]
    for_algorithms: ClassVar[bool] = False  # asked for by an algorithm, not by a researcher
    needs: ClassVar[frozenset[Need]] = frozenset()

    def choose(
        self, answers: Sequence[Completion], rng: random.Random, known: Known = NOTHING
    ) -> list[Picked]:
        """Comparisons of one prompt's answers, whose texts all differ; at least two answers."""
        alone = Batch({0: answers}, 1, str(rng.random()), {0: known})
        return self.choose_batch(alone).get(0, [])

    def choose_batch(self, batch: Batch) -> dict[int, list[Picked]]:
        """Comparisons by prompt, one a prompt. Prompt by prompt, in turn, unless a strategy weighs
        prompts against each other; one that does need not have a `choose` of its own."""
        assert type(self).choose is not Strategy.choose, "a strategy has one of the two"
        picked: dict[int, list[Picked]] = {}
        for turn, (prompt, answers) in enumerate(batch.prompts.items()):
            if len(picked) >= batch.wanted:
                break
            rng = random.Random(f"{batch.seed}:{turn}")  # not of its row, the same in any database
            if found := self.choose(answers, rng, batch.of(prompt)):
                picked[prompt] = found
        return picked

    def worth(self, known: Known, pair: Sequence[Completion]) -> float | None:
        """How much a vote on a pair that was picked is worth by what is known now: the more, the
        sooner people are asked. None where the strategy does not say, or not by what is known."""
        return None

    @classmethod
    def about(cls) -> str:
        """What the strategy's own file says of it."""
        return inspect.getdoc(inspect.getmodule(cls)) or ""
