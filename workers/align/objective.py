"""What a reward-model objective is: a loss over the scores of one batch of comparisons.

Each response is scored once, however many preferences mention it; the objective reads the scores
by index. Light enough for the web process to import, like `align.algorithm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.knobs import Declared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Preferences:
    """P(i > j) for pairs of responses of a batch; all tensors have shape (P,)."""

    i: Tensor  # int64 index into the scores
    j: Tensor
    p: Tensor
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Objective(Declared):
    def loss(self, scores: Tensor, preferences: Preferences) -> Tensor:
        """Per-preference losses (P,), before weighting, from scores (R,)."""
        raise NotImplementedError
