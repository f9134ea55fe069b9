"""LoRA layers without passes over their output: y = W x + (alpha / r) B A x in one addition.

PEFT multiplies the low-rank product by its scale and adds it, which reads and writes the layer's
whole output twice more, and the same again in the backward. Here the product is accumulated onto
W x by the matrix multiplication itself. Layers are PEFT's and stay PEFT's: whatever is not one
plain active adapter goes its way.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn


def quicken(model: nn.Module) -> None:
    """Let the LoRA layers of a model compute so. Layers that do so already are left alone."""
    for module in model.modules():
        if isinstance(module, Linear) and "forward" not in vars(module):
            vars(module)["forward"] = _Forward(module)


class _Forward:
    """The forward of one layer: (..., in) -> (..., out)."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.peft = layer.forward

    def __call__(self, x: Tensor, *args: Any, **more: Any) -> Tensor:
        adapter = self._plain(x)
        if adapter is None or args or more:
            return cast(Tensor, self.peft(x, *args, **more))
        y = self.layer.base_layer(x)
        low = self.layer.lora_A[adapter](x)  # (..., r)
        up = self.layer.lora_B[adapter].weight  # (out, r)
        scale = self.layer.scaling[adapter]
        return torch.addmm(y.flatten(0, -2), low.flatten(0, -2), up.t(), alpha=scale).view(y.shape)

    def _plain(self, x: Tensor) -> str | None:
        """The one adapter at work, if it is an ordinary one."""
        layer = self.layer
        if layer.disable_adapters or layer.merged:
            return None
        active = [name for name in layer.active_adapters if name in layer.lora_A]
        if len(active) != 1 or active[0] in layer.lora_variant:
            return None
        a, b = layer.lora_A[active[0]], layer.lora_B[active[0]]
        mixed = x.dtype != a.weight.dtype and not torch.is_autocast_enabled(x.device.type)
        dropout = isinstance(layer.lora_dropout[active[0]], nn.Identity)
        return active[0] if dropout and b.bias is None and not mixed else None
