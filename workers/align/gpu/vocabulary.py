"""One number per position out of its logits, without ever holding positions x vocabulary.

Positions go through the head in chunks. Where the head is frozen (LoRA), a chunk's gradient with
respect to its hidden states is found right after its values, while its logits exist: positions
stand alone, so the gradient that arrives later only scales it (4 products with the head's matrix
instead of 6). Where the head learns, the first chunks keep their logits and the others are computed
again in the backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = {"cpu": 2**24, "cuda": 2**27}  # logits at once: 64 MiB in fp32, 512 MiB on a GPU
KEPT = 4  # so many chunks' logits a learning head keeps for the backward

Values = Callable[[Tensor, slice], Tensor]  # hidden states (n, H), which positions -> (n,)


def by_chunk(values: Values, hidden: Tensor, vocabulary: int, *, learns: bool) -> Tensor:
    """`values` of all positions: hidden (N, H) -> (N,). It must treat every position alone.

    learns: whether parameters that `values` reads want a gradient.
    """
    size = max(1, CHUNK[hidden.device.type] // vocabulary)
    cuts = [slice(at, min(at + size, len(hidden))) for at in range(0, len(hidden), size)]
    if torch.is_grad_enabled() and hidden.requires_grad and not learns:
        return cast(Tensor, cast(Any, _AtOnce).apply(hidden, values, cuts))
    parts: list[Tensor] = []
    for index, cut in enumerate(cuts):
        if index < KEPT or not torch.is_grad_enabled():
            parts.append(values(hidden[cut], cut))
        else:
            part = checkpoint(
                values, hidden[cut], cut, use_reentrant=False, preserve_rng_state=False
            )
            parts.append(cast(Tensor, part))
    return torch.cat(parts)


def pick(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target]: (n, V) fp32, (n,) -> (n,). The backward overwrites `logits`."""
    return cast(Tensor, cast(Any, _Pick).apply(logits, targets))


class _Pick(torch.autograd.Function):
    """As many tensors (n, V) as can be: the logits, which become their own gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        lse = logits.logsumexp(-1)
        ctx.save_for_backward(logits, targets, lse)
        return logits.gather(-1, targets[:, None]).squeeze(-1) - lse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets, lse = ctx.saved_tensors
        into = logits.sub_(lse[:, None]).exp_().mul_(-gradient[:, None])
        rows = torch.arange(len(targets), device=targets.device)
        into[rows, targets] += gradient
        return into, None


class _AtOnce(torch.autograd.Function):
    """Values, and the gradient of each with respect to its own hidden state, in one pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, values: Values, cuts: list[slice]) -> Tensor:
        found, slopes = [], torch.empty_like(hidden)
        for cut in cuts:
            with torch.enable_grad():
                part = hidden[cut].detach().requires_grad_()
                each = values(part, cut)
                (slopes[cut],) = torch.autograd.grad(each.sum(), part)
            found.append(each.detach())
        ctx.save_for_backward(slopes)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (slopes * gradient[:, None]).to(slopes.dtype), None, None
