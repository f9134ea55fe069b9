"""A language model's backbone with a linear head on each answer's last token: what a reward model
is in memory, and how one starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from align import ensemble, jobs
from align.gpu import model
from align.gpu.data import Exchange
from align.gpu.panel import Marks, Panel
from align.jobs import ModelRef
from align.objective import Objective, Said
from align.objectives.bradley_terry import BradleyTerry

MEMBERS_START = 1.0  # spread of the members' scores before training, so that they differ


@dataclass
class RewardModel:
    """A language model's backbone and a linear head in fp32, M members with W numbers each.

    centre: each number's mean over the answers that were trained on, (M * W,). tastes: the shares
    (K,) by which a mixture is read, where it is not read for everybody.
    """

    policy: model.Policy
    head: nn.Linear
    objective: Objective = field(default_factory=BradleyTerry)
    panel: Panel = field(default_factory=Panel)
    centre: Tensor | None = None
    tastes: Tensor | None = None
    whole_prompts = False

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        return (self.head,)

    def values(self, rows: Sequence[Exchange]) -> Tensor:
        """What the head says of each row's response, (B, M * W), in fp32."""
        layout = self.policy.lay(rows, ends=True)
        states = self.policy.hidden(layout)
        asked = self.objective.asked
        at = torch.cat([layout.last, layout.asked]) if asked else layout.last
        read: Tensor = self.head(states.index_select(0, at).float())
        if asked:
            read = self._mixed(read, asked)
        return read.index_select(0, layout.rows)

    def _mixed(self, read: Tensor, asked: int) -> Tensor:
        """What is read of answers and then of their prompts (2 * S, M * W) as the answers' numbers
        (S, M * W), of which each member's last `asked` are the prompt's."""
        ours, theirs = read.view(len(read), self.panel.how.members, -1).chunk(2)
        return torch.cat([ours[:, :, :-asked], theirs[:, :, -asked:]], 2).flatten(1)

    def read(self, rows: Sequence[Exchange], said: Said | None = None) -> Tensor:
        """The same by member, (M, B, W)."""
        values = self.values(rows)
        return values.view(len(values), self.panel.how.members, -1).transpose(0, 1)

    def marks(self, rows: Sequence[Exchange]) -> Marks:
        """The reward of each row's response, (B,), and what each member says."""
        found = self.read(rows)
        centre = found.new_zeros(found.shape[0], found.shape[2])
        if self.centre is not None:
            centre = self.centre.view_as(centre)
        each = [
            self.objective.score(values, field)
            if self.tastes is None
            else self.objective.routed(values, self.tastes)
            for values, field in zip(found, centre, strict=True)
        ]
        return self.panel(torch.stack(each, 1))

    def scores(self, rows: Sequence[Exchange]) -> Tensor:
        return self.marks(rows).reward

    def parameters(self) -> dict[str, nn.Parameter]:
        return {**self.policy.parameters(), "head.weight": cast(nn.Parameter, self.head.weight)}

    def save(self, folder: Path, state: dict[str, Tensor] | None = None) -> None:
        """state: see `model.save`; the head is written by itself, since ranks hold slices of it."""
        model.save(self.policy, folder, state)


def start(
    ref: ModelRef,
    weights: jobs.Weights,
    objective: Objective | None = None,
    how: ensemble.Ensemble | None = None,
    criteria: Sequence[str] = (),
) -> RewardModel:
    """A reward model at its start."""
    policy, how = model.start(ref, weights), how or ensemble.Ensemble()
    objective = objective or BradleyTerry()
    head = linear(policy, how.members * objective.width(criteria))
    spread = max(objective.start, MEMBERS_START if how.members > 1 else 0.0)
    if spread:
        # Drawn on the CPU: the same on any device, and on all ranks.
        size = policy.causal.config.hidden_size + 1
        drawn_weight = torch.randn(head.weight.shape) * spread / size**0.5
        head.weight.data.copy_(drawn_weight)
    return RewardModel(policy, head, objective, Panel(how))


def linear(policy: model.Policy, width: int) -> nn.Linear:
    head = nn.Linear(policy.causal.config.hidden_size, width, bias=False, device=policy.device)
    nn.init.zeros_(head.weight)
    return head
