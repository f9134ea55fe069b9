"""Which examples make a step, and how a step is cut to fit into memory.

A step's mean is taken over its whole batch, so a cut changes nothing but memory and rounding.
Examples of one prompt are kept side by side, because it is computed once for all of them: within a
step all that are there, between steps a few at a time, so that a step stays a random batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch

from align.gpu.data import Exchange
from align.gpu.ranks import Ranks
from align.jobs import Optimiser

MIXED = 4  # prompts of a batch at the least, where batches and prompts allow it
Done = TypeVar("Done")


@dataclass(frozen=True)
class Examples:
    """What the loop knows of the data: each example's weight in the mean, its tokens, and the
    sequences that it reads, its own prompt's first. shared: whether examples that are computed
    together share prompts and responses."""

    weights: Sequence[float]
    tokens: Sequence[int]
    rows: Sequence[Sequence[Exchange]] = ()
    shared: bool = True

    @cached_property
    def prompts(self) -> list[int]:
        """A number for each example; examples of one prompt have the same."""
        numbers: dict[tuple[int, ...], int] = {}
        if not self.rows:
            return list(range(len(self.weights)))
        return [numbers.setdefault(rows[0].prompt, len(numbers)) for rows in self.rows]

    @cached_property
    def segments(self) -> list[dict[int, int]]:
        """What each example is computed from: tokens by a number that equal segments share."""
        if not self.rows:
            return [{index: tokens} for index, tokens in enumerate(self.tokens)]
        numbers: dict[object, int] = {}
        found: list[dict[int, int]] = []
        for index, rows in enumerate(self.rows):
            mine: dict[int, int] = {}
            for at, row in enumerate(rows):
                whose = None if self.shared else (index, at)
                for name, length in (
                    ((whose, row.prompt), len(row.prompt)),
                    ((whose, row.prompt, row.response), len(row.response)),
                ):
                    mine[numbers.setdefault(name, len(numbers))] = length
            found.append(mine)
        return found

    def packed(self, indices: Iterable[int]) -> int:
        """Tokens that some examples are computed from, together."""
        return sum({k: n for index in indices for k, n in self.segments[index].items()}.values())

    def longest(self, indices: Iterable[int]) -> int:
        """Tokens of the longest sequence, prompt and response."""
        if not self.rows:
            return max(self.tokens[index] for index in indices)
        return max(len(row) for index in indices for row in self.rows[index])


def plan(
    count: int, settings: Optimiser, prompts: Sequence[int] | None = None
) -> list[list[list[int]]]:
    """Example indices by epoch, step and place, from the seed alone: every example once an epoch.

    prompts: a number for each example. Examples of one prompt then come a few at a time, at most a
    `MIXED`-th of a batch. Which ones, and where, is drawn; each example is as likely in any step as
    in any other, so a step's gradient is expected to be the epoch's.
    """
    epochs = []
    for epoch in range(settings.epochs):
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator).tolist()
        size = settings.batch_size
        if prompts is not None:
            order = _together(order, prompts, max(1, size // MIXED), generator)
        epochs.append([order[at : at + size] for at in range(0, count, size)])
    return epochs


def micro_batches(
    batch: Sequence[int], examples: Examples, size: int, budget: int = 0
) -> list[list[int]]:
    """A batch cut into micro-batches of like lengths, longest first, a prompt's examples together.

    size: examples of a micro-batch at most. budget: if not 0, packed tokens of one at most, and
    any number of examples; one that has more tokens by itself is alone.
    """
    groups: dict[int, list[int]] = {}
    for index in sorted(batch, key=lambda index: (-examples.tokens[index], index)):
        groups.setdefault(examples.prompts[index], []).append(index)
    parts: list[list[int]] = []
    room = _Room(examples, size, budget)
    for group in groups.values():
        if room.held and not room.takes(group) and _Room(examples, size, budget).takes(group):
            parts.append(room.emptied())  # rather than to compute its prompt in two of them
        for index in group:
            if room.held and not room.takes([index]):
                parts.append(room.emptied())
            room.put(index)
    return [*parts, room.emptied()] if room.held else parts


class Cuts:
    """How batches are cut, between ranks and on each; more finely once memory has run out."""

    def __init__(
        self,
        examples: Examples,
        settings: Optimiser,
        log: Callable[[str], None],
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.examples = examples
        self.size = settings.micro_batch_size
        self.budget = settings.micro_batch_tokens
        self.log = log

    def of(self, batch: Sequence[int]) -> list[list[int]]:
        """This rank's micro-batches."""

        def cut(share: Sequence[int]) -> list[list[int]]:
            return micro_batches(share, self.examples, self.size, self.budget)

        return self.ranks.parts(batch, self.examples.tokens, self.examples.prompts, cut)

    def run(self, batch: Sequence[int], work: Callable[[list[list[int]]], Done]) -> Done:
        """`work` on a batch's micro-batches, from the start again in smaller ones when memory runs
        out. Raises MemoryError with a sentence when an example alone is too much; several ranks
        do not start again, because the others wait in vain for one that does."""
        while True:
            parts = self.of(batch)
            try:
                return work(parts)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.ranks.size > 1:
                    raise
                if max(map(len, parts)) == 1:
                    raise MemoryError(self._too_long(batch)) from error
            # Out here nothing refers to what the failed attempt had in memory.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._halve(parts)

    def _halve(self, parts: Sequence[Sequence[int]]) -> None:
        """Cut so that the largest of these parts that can be becomes two."""
        if self.budget:
            self.budget = max(self.examples.packed(part) for part in parts if len(part) > 1) // 2
            self.log(f"out of memory: micro-batches of {self.budget:,} tokens from here")
        else:
            self.size = max(map(len, parts)) // 2
            self.log(f"out of memory: micro-batches of {self.size} from here")

    def _too_long(self, batch: Sequence[int]) -> str:
        return (
            "memory runs out with a single example at a time; the longest sequence of this step "
            f"has {self.examples.longest(batch):,} tokens. A lower max_length, activation "
            "checkpointing or LoRA instead of full weights need less"
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or a CPU."""
    told = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    # What torch's CPU allocator raises has no type of its own.
    return told or "can't allocate memory" in str(error) or "not enough memory" in str(error)


class _Room:
    """A micro-batch being filled."""

    def __init__(self, examples: Examples, size: int, budget: int) -> None:
        self.examples = examples
        self.size = size
        self.budget = budget
        self.held: list[int] = []
        self.segments: dict[int, int] = {}
        self.tokens = 0

    def takes(self, indices: Sequence[int]) -> bool:
        if not self.budget:
            return len(self.held) + len(indices) <= self.size
        more = {k: n for index in indices for k, n in self.examples.segments[index].items()}
        new = sum(n for k, n in more.items() if k not in self.segments)
        return self.tokens + new <= self.budget

    def put(self, index: int) -> None:
        self.held.append(index)
        if self.budget:
            mine = self.examples.segments[index]
            self.tokens += sum(n for k, n in mine.items() if k not in self.segments)
            self.segments |= mine

    def emptied(self) -> list[int]:
        held, self.held, self.segments, self.tokens = self.held, [], {}, 0
        return held


def _together(
    order: Sequence[int], prompts: Sequence[int], most: int, generator: torch.Generator
) -> list[int]:
    """A random order with examples of one prompt in runs of at most `most`."""
    runs: list[list[int]] = []
    latest: dict[int, list[int]] = {}
    for index in order:
        run = latest.get(prompts[index])
        if run is None or len(run) == most:
            run = latest[prompts[index]] = []
            runs.append(run)
        run.append(index)
    if len(runs) == len(order):
        return list(order)
    # Runs stand where their first example was drawn, long ones early: draw places anew, and turn
    # the whole by a random number of places, which makes any place equally likely for each example.
    places = torch.randperm(len(runs), generator=generator).tolist()
    found = [index for place in places for index in runs[place]]
    turn = int(torch.randint(len(found), (1,), generator=generator))
    return found[turn:] + found[:turn]
