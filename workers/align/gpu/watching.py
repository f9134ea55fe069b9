"""What is watched while a policy trains, beside what its algorithm says: entropy, and KL.

Both are over the response tokens that are trained on, and neither costs another pass through the
model. Entropy is exact, at evenly spaced tokens of each micro-batch: the head alone is computed
again, for a few positions. KL is estimated token by token from the log-probabilities there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.gpu.data import Exchange
from align.gpu.examples import Example
from align.gpu.layout import Layout
from align.gpu.logps import read_logps
from align.gpu.model import Policy

LOOKED_AT = 64  # positions of a micro-batch whose entropy is computed
LARGEST = 10.0  # nats of one token's log-ratio; beyond it the estimate of KL is no use


class Reading(NamedTuple):
    """One forward pass over B rows."""

    sums: Tensor  # (B,) fp64, log-probabilities of whole responses; carries the gradient
    tokens: Tensor  # (sum of R,) fp32, the same by token, row after row; without gradient
    entropy: Tensor  # (at most LOOKED_AT,) nats, of the next token; none where nobody watches


class StartTokens:
    """Log-probabilities of single tokens under the policy before its first step.

    `by_role` holds one tensor a role, all examples' responses one after the other, fp32.
    """

    def __init__(self, examples: Sequence[Example], roles: Sequence[str]) -> None:
        self._from: dict[str, list[int]] = {}
        self.by_role: dict[str, Tensor] = {}
        for role in roles:
            ends = [0]
            for example in examples:
                ends.append(ends[-1] + len(example.sequences[role].response))
            self._from[role] = ends
            self.by_role[role] = torch.zeros(ends[-1])

    def put(self, indices: Sequence[int], roles: Sequence[str], tokens: Tensor) -> None:
        """Keep a reading's tokens: rows by role, and by example within a role."""
        at = 0
        for role in roles:
            for index in indices:
                begin, end = self._from[role][index : index + 2]
                self.by_role[role][begin:end] = tokens[at : at + end - begin]
                at += end - begin

    def of(self, indices: Sequence[int], roles: Sequence[str]) -> Tensor:
        """The tokens of a reading of the same rows."""
        return torch.cat(
            [
                self.by_role[role][slice(*self._from[role][index : index + 2])]
                for role in roles
                for index in indices
            ]
        )


def read(policy: Policy, rows: Sequence[Exchange], *, entropy: bool) -> Reading:
    """Log-probabilities as `sequence_logps` gives them, with what is watched beside."""
    layout = policy.lay(rows)
    hidden = policy.hidden(layout)
    tokens = read_logps(policy, layout, hidden)
    each = torch.cat(layout.split(tokens.detach()))
    looked = _entropy(policy, layout, hidden) if entropy else tokens.new_zeros(0)
    return Reading(layout.sums(tokens), each, looked)


def kl(tokens: Tensor, start: Tensor) -> Tensor:
    """KL(policy || start) in nats, summed over all tokens given: (N,), (N,) -> (), fp64.

    Each token was drawn from the start policy; with d = log pi - log start at it, e^d d - e^d + 1
    has the mean KL of the two next-token distributions there, and is never below 0. Of answers by
    another writer it says how far the policy moved on them, and is no KL.
    """
    d = (tokens.double() - start.double()).clamp(max=LARGEST)
    ratio = d.exp()
    return (ratio * d - ratio + 1).sum()


@torch.no_grad()
def _entropy(policy: Policy, layout: Layout, hidden: Tensor) -> Tensor:
    every = -(-len(layout.before) // LOOKED_AT)
    states = hidden.detach().index_select(0, layout.before[::every])  # (n, H)
    with policy.precision():
        logps = policy.logits(states).log_softmax(-1)  # (n, V)
    return -(logps.exp() * logps).sum(-1)
