"""RMS norms that keep their input and one number a row for the backward, and nothing else.

Written out in torch's own operations a norm keeps its normalised rows as well, and under autocast
every projection behind it makes, and keeps, a bf16 copy of its own. Here the norm hands out bf16
itself where only projections read it, which is the same rounding once. In the forward no bit
changes. Norms that are not one of these, or whose values differ in a trial, stay as they are.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

# A layer with these norms and no others reads both by projections only (Llama, Mistral, Qwen).
BEFORE = {"input_layernorm", "post_attention_layernorm"}


def lighten(model: nn.Module) -> None:
    """Let the norms in front of a model's projections compute so."""
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            norms = {n: one for n, one in layer.named_children() if "norm" in n}
            if norms.keys() == BEFORE:
                for norm in norms.values():
                    if "forward" not in vars(norm) and _plain(norm):
                        vars(norm)["forward"] = _Forward(norm)


@torch.no_grad()
def _plain(norm: Any) -> bool:
    """Whether a module is x / rms(x) * weight, as far as a trial shows."""
    weight, eps = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if not isinstance(weight, Tensor) or eps is None or weight.dtype != torch.float32:
        return False
    trial = torch.linspace(-2, 3, 2 * len(weight), device=weight.device).view(2, -1)
    return torch.equal(norm(trial), cast(Any, _Norm).apply(trial, weight, eps, torch.float32))


class _Forward:
    """The forward of one norm: (..., H) -> (..., H)."""

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.plain = norm.forward

    def __call__(self, x: Tensor) -> Tensor:
        weight = self.norm.weight
        if x.dtype != torch.float32 or weight.dtype != torch.float32:
            return cast(Tensor, self.plain(x))
        kind = x.device.type
        half = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if half else torch.float32
        return cast(Tensor, cast(Any, _Norm).apply(x, weight, self.norm.variance_epsilon, dtype))


class _Norm(torch.autograd.Function):
    """In fp32, its output in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, weight, scale = ctx.saved_tensors
        gradient = gradient.float()
        of_weight = None
        if ctx.needs_input_grad[1]:
            rows = (gradient * x).mul_(scale)
            of_weight = rows.flatten(0, -2).sum(0)
        into = gradient * weight
        along = (into * x).sum(-1, keepdim=True) * scale.pow(3) / x.shape[-1]
        return into.mul_(scale).addcmul_(x, along, value=-1), of_weight, None, None
