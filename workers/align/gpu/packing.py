"""Whether a model can take packed rows: proven on a few of them before any is used.

Nothing about an architecture is taken for granted. A model whose attention cannot be replaced, does
more than plain attention, or carries state from token to token another way gives other hidden
states on packed rows than on padded ones, and is then given padded ones. What so few tokens cannot
show is asked of its configuration: layers that see a part of their past only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from align.gpu import attention, layout
from align.gpu.data import Exchange

if TYPE_CHECKING:
    from align.gpu.model import Policy

# Two prompts with several responses, one with one; a response of one token; a row twice.
ROWS = [
    Exchange((1, 3, 2), (3, 0, 1)),
    Exchange((2, 0, 1, 3, 1), (1, 2)),
    Exchange((3,), (0,)),
    Exchange((1, 3, 2), (2, 2, 0, 3)),
    Exchange((1, 3, 2), (1,)),
    Exchange((2, 0, 1, 3, 1), (0, 3, 3)),
    Exchange((2, 0, 1, 3, 1), (1, 2)),
]


@torch.no_grad()
def why_padded(policy: Policy) -> str | None:
    """None, and the model attends by `align.gpu.attention` from here on; or else a reason in words,
    and it keeps its own attention."""
    config = policy.causal.config.get_text_config()
    before = policy.causal.config._attn_implementation
    kinds = {*(getattr(config, "layer_types", None) or ())}
    if odd := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"it has layers of {odd[0]}"
    if getattr(config, "attention_chunk_size", None):
        return "its attention goes by chunks"
    try:
        padded = layout.pad(ROWS, policy.device, ends=True)
        expected = padded.split(policy.hidden(padded).index_select(0, padded.own))
        policy.causal.set_attn_implementation(attention.NAME)
        packed = layout.pack(ROWS, policy.device, ends=True)
        found = packed.split(policy.hidden(packed).index_select(0, packed.own))
        off = max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
        size = max(one.abs().max().item() for one in expected)
        if off <= size * (5e-2 if policy.half else 1e-4):
            return None
        reason = f"packed rows change its hidden states by up to {off:.2g}"
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
    policy.causal.set_attn_implementation(before)
    return reason
