"""Activation checkpointing: a layer's activations are computed again in the backward, not kept.

Only each layer's input stays in memory. transformers' own switch works in training mode only, where
dropout would be on; here layers stay in `eval()`, so the second pass repeats the first bit for bit
and no random state needs to be kept. Passes without gradient are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def recompute(model: nn.Module) -> None:
    """Let the layers of a model do so. Raises ValueError when it has none that are known to."""
    layers = [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        name = type(model).__name__
        raise ValueError(f"{name} has no layers that activation checkpointing is known to work on")
    for layer in layers:
        vars(layer)["forward"] = _Twice(layer.forward)


class _Twice:
    """A layer's forward, run again when its gradient is due."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any, **more: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **more)
        return checkpoint(
            self.forward, *args, use_reentrant=False, preserve_rng_state=False, **more
        )
