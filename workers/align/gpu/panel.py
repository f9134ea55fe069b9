"""What a reward model says of answers once its members, one or several, are read as one.

Members are centred and scaled by what they say of the answers they were trained on; the reading
goes back to their mean scale, so that differences of rewards stay log-odds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from align import ensemble
from align.ensemble import Ensemble
from align.gpu.comparisons import Comparison, agreement
from align.gpu.optimise import Sums, means
from align.objective import Said

LEAST = 1e-6  # spread of a member that says the same of everything


class Marks(NamedTuple):
    reward: Tensor  # (B,)
    members: Tensor  # (B, M), on one scale


Figures = Callable[[Marks, Sequence[Comparison], Said], Sums]


@dataclass(frozen=True)
class Panel:
    """centre, spread, doubt: of each member; none of a single one, which is read as it is."""

    how: Ensemble = field(default_factory=Ensemble)
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    doubt: tuple[float, ...] = ()

    def __call__(self, scores: Tensor) -> Marks:
        """Members' own scores (B, M) -> their reading."""
        if not self.centre:
            return Marks(scores.mean(1), scores)
        centre, spread, doubt = scores.new_tensor([self.centre, self.spread, self.doubt])
        standard = (scores - centre) / spread  # (B, M)
        scale = spread.mean()
        return Marks(ensemble.read(self.how, standard, doubt) * scale, standard * scale)

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, fields: Any) -> Panel:
        """What `asdict` gave, after JSON."""
        how, rest = Ensemble(**fields["how"]), ("centre", "spread", "doubt")
        return cls(how, *(tuple(fields[name]) for name in rest))


def sums(scores: Tensor, losses: Tensor, weights: Tensor) -> Sums:
    """What a panel is made from: scores (B, M) of answers, and log-losses (P, M) of each member on
    preferences with the weights (P, M) that count those it did not learn from."""
    found: Sums = {}
    for member, column in enumerate(scores.double().unbind(1)):
        found[f"score {member}"] = (column.sum().item(), len(column))
        found[f"square {member}"] = (column.square().sum().item(), len(column))
        unseen = weights[:, member]
        found[f"loss {member}"] = (
            (unseen * losses[:, member]).sum().item(),
            unseen.sum().item(),
        )
    return found


def panel(how: Ensemble, found: Sums) -> Panel:
    """The panel of the members whose sums these are. Members that saw every vote have doubt 0."""
    mean = means(found)
    centre = [mean[f"score {member}"] for member in range(how.members)]
    variance = [mean[f"square {member}"] - centre[member] ** 2 for member in range(how.members)]
    return Panel(
        how,
        tuple(centre),
        tuple(max(value, LEAST**2) ** 0.5 for value in variance),
        tuple(mean.get(f"loss {member}", 0.0) for member in range(how.members)),
    )


def unread(marks: Marks, compared: Sequence[Comparison], said: Said) -> Sums:
    """Of members on their own scales, what their panel is made from."""
    pairs = said.preferences
    times = torch.tensor(
        [one.times for one in compared for _ in one.preferences], device=marks.members.device
    )
    margins = marks.members[pairs.i] - marks.members[pairs.j]  # (P, M)
    p = pairs.p[:, None]
    losses = -p * logsigmoid(margins) - (1 - p) * logsigmoid(-margins)
    return sums(marks.members, losses, pairs.weight[:, None] * (times == 0))


def reading(marks: Marks, compared: Sequence[Comparison], said: Said) -> Sums:
    """How the reading agrees with preferences, and how far members are from each other."""
    spread = marks.members.std(1)
    return {
        **agreement(marks.reward, said.preferences),
        "spread": (spread.sum().item(), len(spread)),
    }
