"""Attention of a running batch: prompts being read, and one new token a row behind what it has.

All tokens of a step are one packed row, so every other layer sees a plain matrix. A row attends to
its own tokens and to its prompt, which all draws of that prompt share; both parts are dense calls
of torch's flash kernel, joined by their log-sum-exp. That kernel takes every row by itself and
skips masked keys exactly, so a row's result does not depend on the others (a test checks the bits).
Registered with transformers under NAME; calls without a `reading` are its own SDPA.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from align.gpu.attention import HARMLESS, join
from align.gpu.shelves import Shelf

NAME = "running_batch"
KEYS = 32  # a block; shelves hold whole ones


@dataclass(frozen=True)
class Stored:
    """A shelf of a step: how many tokens each row has, this step's included."""

    shelf: Shelf[Any]
    lengths: Sequence[int]

    @cached_property
    def longest(self) -> int:
        """Keys that are read: whole blocks of them, or the kernel's sums depend on how many."""
        return -(-max(self.lengths) // KEYS) * KEYS

    @cached_property
    def counts(self) -> Tensor:
        return torch.tensor(self.lengths)

    @cached_property
    def mask(self) -> Tensor:
        """(rows, 1, 1, longest), added to the scores."""
        dtype = self.shelf.layer(0, 1)[0].dtype
        hidden = torch.arange(self.longest) >= self.counts[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, -math.inf)
        return mask[:, None, None]

    def attend(self, query: Tensor, layer: int, scale: float) -> tuple[Tensor, Tensor]:
        """query (rows, heads, Q, D), every one of a row's Q to all of the row's keys -> the same
        shape, and log-sum-exps (rows, heads, Q)."""
        key, value = self.shelf.layer(layer, self.longest)
        found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=self.mask, scale=scale
        )
        return found


@dataclass(frozen=True)
class Prompts:
    """Whole prompts behind one another, each read into its row of a shelf."""

    places: Sequence[tuple[Shelf[Any], int]]
    lengths: Sequence[int]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, layer: int, scale: float) -> Tensor:
        """query (T, Hkv, G, D), key and value (T, Hkv, D) -> (T, Hkv, G, D)."""
        out, at = torch.zeros_like(query), 0
        group = query.shape[2]
        for (shelf, row), length in zip(self.places, self.lengths, strict=True):
            cut = slice(at, at + length)
            k, v = (one[cut].transpose(0, 1) for one in (key, value))  # (Hkv, L, D)
            keys, values = shelf.layer(layer, length)
            keys[row], values[row] = k, v
            found, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[cut].permute(2, 1, 0, 3),  # (G, Hkv, L, D)
                k.expand(group, -1, -1, -1),
                v.expand(group, -1, -1, -1),
                is_causal=True,
                scale=scale,
            )
            out[cut] = found.permute(2, 1, 0, 3)
            at += length
        return out


@dataclass(frozen=True)
class Step:
    """One new token for each row: rows shelf by shelf, then whatever fills the last block.

    own: the rows' own tokens. prompts: what they answer, with the draws of each. gather: for every
    draw of every prompt the row it is now (any row where it has ended). back: for each of the T
    tokens its place in that (any place for the filling).
    """

    own: Sequence[Stored]
    prompts: Sequence[tuple[Stored, int]]
    gather: Tensor
    back: Tensor

    def attend(self, query: Tensor, key: Tensor, value: Tensor, layer: int, scale: float) -> Tensor:
        """query (T, Hkv, G, D), key and value (T, Hkv, D) -> (T, Hkv, G, D)."""
        out = torch.zeros_like(query)
        lse = torch.zeros(query.shape[:3])
        at = 0
        for stored in self.own:
            cut = slice(at, at + len(stored.lengths))
            keys, values = stored.shelf.layer(layer, stored.longest)
            rows = torch.arange(len(stored.lengths))
            keys[rows, :, stored.counts - 1] = key[cut]
            values[rows, :, stored.counts - 1] = value[cut]
            out[cut], lse[cut] = stored.attend(query[cut], layer, scale)
            at = cut.stop
        more, its_lse = self._prompts(query.index_select(0, self.gather), layer, scale)
        join(out, lse, more.index_select(0, self.back), its_lse[self.back])
        return out

    def _prompts(self, query: Tensor, layer: int, scale: float) -> tuple[Tensor, Tensor]:
        """query (draws of all prompts, Hkv, G, D) -> the same shape, and its log-sum-exps."""
        found, lses, at = [], [], 0
        _, heads, group, width = query.shape
        for stored, n in self.prompts:
            count = len(stored.lengths)
            mine = query[at : at + count * n].view(count, n, heads, group, width)
            asked = mine.transpose(1, 2).reshape(count, heads, n * group, width)
            out, lse = stored.attend(asked, layer, scale)
            out = out.reshape(count, heads, n, group, width).transpose(1, 2)
            lse = lse.reshape(count, heads, n, group).transpose(1, 2)
            found.append(out.reshape(count * n, heads, group, width))
            lses.append(lse.reshape(count * n, heads, group))
            at += count * n
        return torch.cat(found), torch.cat(lses)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    reading: Prompts | Step | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, Hq, T, D), key and value (1, Hkv, T, D) ->
    (1, T, Hq, D). Raises ValueError for an attention that a running batch cannot have."""
    if reading is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return out, None
    given = {name for name, one in more.items() if one is not None and one is not False}
    odd = sorted(given - HARMLESS - {"sliding_window"})
    if odd:
        raise ValueError(f"its attention uses {odd[0]}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))  # (T, heads, D)
    dtype, tokens, heads = q.dtype, len(q), k.shape[1]
    q, k = q.to(v.dtype), k.to(v.dtype)  # a norm may have left them in fp32
    layer: Any = module.layer_idx
    mine = q.reshape(tokens, heads, -1, q.shape[-1])
    found = reading.attend(mine, k, v, layer, scale)
    return found.reshape(1, tokens, -1, q.shape[-1]).to(dtype), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
