"""What an alignment algorithm is: knobs, a sampling plan, a pairing rule and a loss.

A subclass is one file in `align/algorithms/`. It is light enough for the web process to import
(tensors appear only in annotations), so the launch form, validation and help text are derived
from the same declaration the trainer runs. The trainer never asks which algorithm it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.knobs import Declared, knob
from align.pairing import RULES, Judged, PairChoice

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Algorithm", "Draws", "Labels", "LogProbs", "Loss", "knob", "logsigmoid"]


class LogProbs:
    """Summed response log-probabilities (nats), by model and by role.

    `values[model][role]` has shape (B,): `model` is "policy" or a reference's name, `role` one of
    the algorithm's roles. Only "policy" carries a gradient.
    """

    def __init__(self, values: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.values = values

    def of(self, model: str, role: str) -> Tensor:
        return self.values[model][role]

    def gap(self, model: str) -> Tensor:
        """l_m(chosen) - l_m(rejected), shape (B,)."""
        return self.of(model, "chosen") - self.of(model, "rejected")

    def ratio(self, role: str, reference: str) -> Tensor:
        """rho(y) = l_policy(y) - l_reference(y), shape (B,)."""
        return self.of("policy", role) - self.of(reference, role)


@dataclass(frozen=True)
class Labels:
    """What the data says of each example: `p` = P(chosen > rejected), shape (B,)."""

    p: Tensor


@dataclass(frozen=True)
class Loss:
    """Per-example losses (B,), not reduced, and named per-example figures (B,) worth logging."""

    losses: Tensor
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """`n` completions of each prompt from the round's policy."""

    n: int
    temperature: float
    top_p: float = 1.0


def logsigmoid(x: Tensor) -> Tensor:
    """log sigmoid(x) without importing torch; equal to torch's to 1e-44 on [-1e4, 1e4]."""
    return -(-x).logaddexp(x.new_zeros(()))


@dataclass(frozen=True, kw_only=True)
class Algorithm(Declared):
    """Base of all algorithms; the fields of a subclass are its knobs.

    Attributes:
        roles: the responses of an example that the loss reads.
        references: frozen policies whose log-probabilities the loss reads, out of "reference"
            (what the round's reference mode says), "initial" (pi_0) and "round_start" (pi_t).
        pair_rule: the default rule of `align.pairing` that turns judged answers into pairs.
    """

    roles: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    references: ClassVar[tuple[str, ...]] = ("reference",)
    pair_rule: ClassVar[str] = "voted"

    def draws(self, samples_per_prompt: int, temperature: float) -> Draws:
        """What to sample for each prompt of a round."""
        return Draws(n=samples_per_prompt, temperature=temperature)

    def pairs(self, judged: Judged, rule: str, seed: int) -> list[PairChoice]:
        """One prompt's judged answers -> training pairs, by a named rule of `align.pairing`."""
        return RULES[rule](judged, seed)

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        raise NotImplementedError
