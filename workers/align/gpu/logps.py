"""Response log-probabilities: one function for training, the reference pass and scoring.

The sum over response tokens in fp64, end-of-turn included and prompt masked, of an fp32
log-softmax; what is computed from these sums, such as margins and losses, is fp64 as well.
Rows that share a prompt compute it once (`align.gpu.layout`); the head runs on the positions that
predict a response token and on no others, in chunks (`align.gpu.vocabulary`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.gpu.data import Exchange
from align.gpu.layout import Layout
from align.gpu.model import Policy
from align.gpu.vocabulary import by_chunk, pick


def sequence_logps(policy: Policy, rows: Sequence[Exchange]) -> Tensor:
    """l(y) = sum_k log pi(y_k | x, y_<k) in nats, shape (B,), fp64."""
    layout = policy.lay(rows)
    return layout.sums(read_logps(policy, layout, policy.hidden(layout)))


def token_logps(policy: Policy, rows: Sequence[Exchange]) -> list[Tensor]:
    """log pi of each response token, a tensor (R,) a row, fp32."""
    layout = policy.lay(rows)
    return layout.split(read_logps(policy, layout, policy.hidden(layout)))


def read_logps(policy: Policy, layout: Layout, hidden: Tensor) -> Tensor:
    """Hidden states (T, H) of a layout -> log pi of its response tokens, (N,), fp32."""

    def values(states: Tensor, at: slice) -> Tensor:
        return pick(policy.logits(states), layout.targets[at])

    with policy.precision():
        before = hidden.index_select(0, layout.before)  # (N, H)
        return by_chunk(values, before, policy.vocabulary, learns=policy.head_learns)


def sequence_divergences(policy: Policy, frozen: Policy, rows: Sequence[Exchange]) -> Tensor:
    """KL(frozen || policy) over the whole vocabulary, summed over response tokens; (B,), fp64.

    Runs both models. The gradient flows into `policy` only.
    """
    layout = policy.lay(rows, beside=frozen)
    with torch.no_grad():
        theirs = frozen.hidden(layout).index_select(0, layout.before)  # (N, H)

    def values(states: Tensor, at: slice) -> Tensor:
        mine = policy.logits(states).log_softmax(-1)  # (n, V)
        with torch.no_grad():
            other = frozen.logits(theirs[at]).log_softmax(-1)
        return (other.exp() * (other - mine)).sum(-1)

    with policy.precision():
        before = policy.hidden(layout).index_select(0, layout.before)
        tokens = by_chunk(values, before, policy.vocabulary, learns=policy.head_learns)
    return layout.sums(tokens)
