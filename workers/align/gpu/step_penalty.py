"""A penalty over all the judgements of an optimiser step, of which only a part is in memory.

It is a function of sums over judgements. They are added up over micro-batches and ranks first,
without gradient; each micro-batch then adds its own sums times the penalty's slope at the whole
ones, which together is the penalty's exact gradient. So a cut still changes nothing but rounding,
at the price of a second forward pass wherever there is a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from align.gpu.optimise import Sums
from align.gpu.ranks import Idle, Ranks
from align.objective import Objective, Said

Forward = Callable[[Sequence[int]], tuple[Tensor, Said, Tensor]]


class StepPenalty:
    """forward: indices -> what members say (M, R, W), the judgements, and how often each member
    counts each of them (N, M). `prepare` is shown a step's micro-batches before its first one."""

    def __init__(
        self, objective: Objective, forward: Forward, weights: Sequence[float], ranks: Ranks
    ) -> None:
        self.objective = objective
        self.forward = forward
        self.weights = weights
        self.ranks = ranks
        self.total = 0.0  # weight of the step's batch
        self.sums: Tensor | None = None  # (M, ...); None: of the one micro-batch there is

    @torch.no_grad()
    def prepare(self, parts: Sequence[Sequence[int]]) -> None:
        mine = [part for part in parts if not isinstance(part, Idle)]
        weight = sum(self.weights[index] for part in mine for index in part)
        self.total = sum(self.ranks.gather(weight))
        self.sums = None
        if self.ranks.size == 1 and len(parts) == 1:
            return
        found: list[Tensor] = []
        for part in parts:
            sums = self.ranks.through(partial(self._read, part))
            if not isinstance(part, Idle):
                found.append(sums)
        # A rank that has nothing says so: another one's shape is not known here.
        said = self.ranks.gather(torch.stack(found).sum(0).tolist() if found else None)
        every = torch.tensor([one for one in said if one is not None], dtype=torch.float64)
        self.sums = every.sum(0)

    def __call__(
        self, indices: Sequence[int], values: Tensor, said: Said, times: Tensor, head: Tensor
    ) -> tuple[Tensor, Sums]:
        """What a micro-batch adds to a step's loss, before it is divided by the batch's weight, and
        the step's figures. head: members' rows (M, W, H)."""
        mine = self._sums(values, said, times)
        weight = sum(self.weights[index] for index in indices)
        whole = mine if self.sums is None else self.sums.to(mine.device)
        seen = whole.detach().requires_grad_()
        value = torch.stack(
            [self.objective.penalty(*one) for one in zip(seen, head, strict=True)]
        ).mean()
        slope = torch.autograd.grad(value, seen, retain_graph=True)[0]
        moved = (slope * (mine - mine.detach())).sum()  # no value of its own, only a gradient
        told = self.objective.step_figures(whole[0].detach())
        sums = {name: (weight * figure, weight) for name, figure in told.items()}
        return weight * value + self.total * moved, sums

    def _read(self, indices: Sequence[int]) -> Tensor:
        return self._sums(*self.forward(indices))

    def _sums(self, values: Tensor, said: Said, times: Tensor) -> Tensor:
        pairs = said.preferences
        counted = [
            replace(said, preferences=replace(pairs, weight=pairs.weight * often))
            for often in times.unbind(1)
        ]
        each = zip(values, counted, strict=True)
        return torch.stack([self.objective.sums(*one) for one in each])
