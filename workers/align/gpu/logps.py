"""Response log-probabilities: one function for training, the reference pass and scoring.

The sum over response tokens, end-of-turn included and prompt masked, with an fp32 log-softmax.
The head runs on the positions that predict a response token and on no others, in chunks, so no
logits of the prompt are ever made.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from align.gpu.data import Batch
from align.gpu.model import Policy

CHUNK = 4096  # positions whose logits exist at once


def sequence_logps(policy: Policy, batch: Batch) -> Tensor:
    """l(y) = sum_k log pi(y_k | x, y_<k) in nats, shape (B,), fp32."""
    return token_logps(policy, batch).sum(1)


def token_logps(policy: Policy, batch: Batch) -> Tensor:
    """log pi of each next token, (B, T-1), fp32; 0 where that is no response token."""
    predicted = batch.response[:, 1:]  # (B, T-1): is the next token a response token?
    with policy.precision():
        hidden = hidden_states(policy, batch)[:, :-1][predicted]  # (N, H)
        targets = batch.ids[:, 1:][predicted]  # (N,)
        tokens = torch.cat(
            [
                _chunk_logps(policy, hidden[at : at + CHUNK], targets[at : at + CHUNK])
                for at in range(0, len(targets), CHUNK)
            ]
        )
    # Not index_add: a sum per row repeats bit for bit on a GPU as well.
    return tokens.new_zeros(predicted.shape).masked_scatter(predicted, tokens)


def sequence_divergences(policy: Policy, frozen: Policy, batch: Batch) -> Tensor:
    """KL(frozen || policy) over the whole vocabulary, summed over response tokens; (B,), fp32.

    Runs both models. The gradient flows into `policy` only.
    """
    predicted = batch.response[:, 1:]
    with policy.precision():
        mine = hidden_states(policy, batch)[:, :-1][predicted]  # (N, H)
        with torch.no_grad():
            theirs = hidden_states(frozen, batch)[:, :-1][predicted]
        tokens = torch.cat(
            [
                _chunk_divergences(policy, mine[at : at + CHUNK], frozen, theirs[at : at + CHUNK])
                for at in range(0, len(mine), CHUNK)
            ]
        )
    return tokens.new_zeros(predicted.shape).masked_scatter(predicted, tokens).sum(1)


def hidden_states(policy: Policy, batch: Batch) -> Tensor:
    """What the head reads, (B, T, H)."""
    output = policy.backbone(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    hidden: Tensor = output.last_hidden_state
    return hidden


def _chunk_logps(policy: Policy, hidden: Tensor, targets: Tensor) -> Tensor:
    """(N, H) hidden states and (N,) token ids -> (N,) log-probabilities."""

    def logps(hidden: Tensor) -> Tensor:
        logits = policy.logits(hidden)  # (N, V)
        chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
        return chosen - logits.logsumexp(-1)

    if len(targets) < CHUNK or not torch.is_grad_enabled():
        return logps(hidden)
    result: Tensor = checkpoint(logps, hidden, use_reentrant=False)
    return result


def _chunk_divergences(policy: Policy, mine: Tensor, frozen: Policy, theirs: Tensor) -> Tensor:
    """(N, H) hidden states of both -> (N,) divergences."""
    mine = policy.logits(mine).log_softmax(-1)  # (N, V)
    with torch.no_grad():
        theirs = frozen.logits(theirs).log_softmax(-1)
    return (theirs.exp() * (theirs - mine)).sum(-1)
