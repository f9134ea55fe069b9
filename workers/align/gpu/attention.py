"""Attention over packed segments: a prompt once, and each of its responses behind it.

A packed row holds all prompts, then all responses (`align.gpu.layout`). Every segment attends
causally to itself; a response attends to the whole of its prompt as well, and to nothing else. Both
parts are dense calls of flash kernels that torch ships, joined by their log-sum-exp, so there is no
mask and no product is computed twice. The backward gives each part the joined output and
log-sum-exp, from which a flash kernel derives exactly that part's gradient (ring attention does the
same across machines, arXiv:2310.01889). Registered with transformers under NAME; calls without
spans are its own SDPA. An attention with more to it than that is refused, never approximated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "shared_prompts"
# What models hand to their attention and what means nothing here, beside the arguments proper.
HARMLESS = {"is_causal", "position_ids", "cache_position", "use_cache", "position_embeddings"}

Cut = tuple[int, int]


@dataclass(frozen=True)
class Spans:
    """Where the segments of a packed row lie: prompts first, then responses in the same order.

    prompts: tokens of each (G,). responses: tokens of each response by prompt; some may be 0.
    longest: tokens of the longest prompt with response, for sliding windows.
    """

    prompts: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    longest: int
    device: torch.device

    @cached_property
    def own(self) -> list[Cut]:
        """(start, end) of every segment that is not empty."""
        flat = [*self.prompts, *(size for group in self.responses for size in group)]
        return [(end - size, end) for size, end in zip(flat, accumulate(flat), strict=True) if size]

    @cached_property
    def cross(self) -> list[tuple[Cut, Cut]]:
        """All responses of a prompt, and the prompt that they read."""
        sizes = [sum(group) for group in self.responses]
        ends = accumulate(sizes, initial=self.split)
        next(ends)
        prompts = accumulate(self.prompts)
        return [
            ((end - size, end), (prompt - length, prompt))
            for size, end, length, prompt in zip(sizes, ends, self.prompts, prompts, strict=True)
            if size
        ]

    @property
    def split(self) -> int:
        """Where the prompts end and the responses begin."""
        return sum(self.prompts)

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cumulative lengths, int32 on the device: of all segments, of each prompt's responses
        together, of the prompts. Those of prompts without response tokens stay."""
        flat = [*self.prompts, *(size for group in self.responses for size in group)]
        together = [sum(group) for group in self.responses]
        return self._bounds(flat), self._bounds(together), self._bounds(self.prompts)

    def _bounds(self, sizes: Sequence[int]) -> Tensor:
        ends = [0, *accumulate(sizes)]
        return torch.tensor(ends, dtype=torch.int32, device=self.device)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    spans: Spans | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (B, Hq, T, D), key and value (B, Hkv, T, D) ->
    (B, T, Hq, D). Raises ValueError for what a packed row cannot have."""
    if spans is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return out, None
    given = {name for name, one in more.items() if one is not None and one is not False}
    odd = sorted(given - HARMLESS)
    if odd or dropout:
        raise ValueError(f"its attention uses {odd[0] if odd else 'dropout'}")
    if sliding_window is not None and spans.longest > sliding_window:
        raise ValueError(f"its attention sees no further than {sliding_window} tokens")
    if query.is_cuda and value.dtype == torch.float32:
        raise ValueError("flash attention has no fp32")
    rows = (one.squeeze(0).transpose(0, 1) for one in (query, key, value))  # (T, heads, D)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = cast(Any, SharedPrompts).apply(*rows, spans, scale)
    return out[None], None


class SharedPrompts(torch.autograd.Function):
    """query (T, Hq, D), key and value (T, Hkv, D), spans, scale -> (T, Hq, D)."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float
    ) -> Tensor:
        kernel = _Cuda if query.is_cuda else _Cpu
        ctx.dtypes = [one.dtype for one in (query, key, value)]
        query, key, value = kernel.cast(query, key, value)
        out, lse = kernel.forward(query, key, value, spans, scale)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.spans, ctx.scale, ctx.kernel = spans, scale, kernel
        return out.to(ctx.dtypes[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.kernel.backward(gradient, *ctx.saved_tensors, ctx.spans, ctx.scale)
        return (*(g.to(dtype) for g, dtype in zip(found, ctx.dtypes, strict=True)), None, None)


def join(out: Tensor, lse: Tensor, more: Tensor, its_lse: Tensor) -> None:
    """Add further keys' attention to some, in place: out (..., D), lse (...) fp32."""
    share = torch.sigmoid(its_lse - lse).unsqueeze(-1)  # the further keys' share of the whole
    out.copy_(torch.lerp(out.float(), more.float(), share))
    torch.logaddexp(lse, its_lse, out=lse)


class _Cpu:
    """torch's flash kernel for CPUs, a call a segment, in fp32.

    Its bf16 backward is half as fast as the fp32 one (measured, `docs/performance.md`). Query heads
    that share a key head are put where the kernel has its batch, so that keys are never repeated.
    """

    @staticmethod
    def cast(query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        return query.float(), key.float(), value.float()

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty(query.shape, dtype=query.dtype)
        lse = torch.empty(query.shape[:2])  # (T, Hq)
        q, k, v, o = _by_key_head(query, key, value, out)  # (group, Hkv, T, D)
        (s,) = _views(k.shape[1], lse)  # (group, Hkv, T)
        run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        for a, b in spans.own:
            o[:, :, a:b], s[:, :, a:b] = run(
                q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], is_causal=True, scale=scale
            )
        for (a, b), (c, d) in spans.cross:
            found = run(q[:, :, a:b], k[:, :, c:d], v[:, :, c:d], scale=scale)
            join(o[:, :, a:b], s[:, :, a:b], *found)
        return out, lse

    @staticmethod
    def backward(
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        spans: Spans,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = (torch.empty(one.shape, dtype=one.dtype) for one in (query, key, value))
        g = gradient.float()
        q, k, v, o, g, to_q = _by_key_head(query, key, value, out, g, dq)
        (s,) = _views(k.shape[1], lse)
        run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

        def part(rows: Cut, keys: Cut, causal: bool) -> Iterator[Tensor]:
            at, of = slice(*rows), slice(*keys)
            mine = (g[:, :, at], q[:, :, at], k[:, :, of], v[:, :, of], o[:, :, at], s[:, :, at])
            by_query, *by_key = run(*mine, 0.0, causal, scale=scale)
            yield by_query
            for one in by_key:  # (group, Hkv, keys, D)
                yield (one.sum(0) if len(one) > 1 else one[0]).transpose(0, 1)

        for cut in spans.own:
            at = slice(*cut)
            to_q[:, :, at], dk[at], dv[at] = part(cut, cut, True)
        for rows, keys in spans.cross:
            more, to_k, to_v = part(rows, keys, False)
            to_q[:, :, slice(*rows)] += more
            dk[slice(*keys)] += to_k
            dv[slice(*keys)] += to_v
        return dq, dk, dv


class _Cuda:
    """torch's variable-length flash kernel: one call for all segments, one for all responses on
    their prompts. A query or key that a norm left in fp32 goes back to the value's precision."""

    @staticmethod
    def cast(query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        return [one.to(value.dtype).contiguous() for one in (query, key, value)]

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float
    ) -> tuple[Tensor, Tensor]:
        at, shared = spans.split, query.shape[1] != key.shape[1]
        segments, responses, prompts = spans.bounds
        run = torch.ops.torch_attn._varlen_attn
        longest = max(end - start for start, end in spans.own)
        out, lse, _ = run(  # (T, Hq, D), (Hq, T)
            query, key, value, segments, segments, longest, longest, True, scale, [-1, 0], shared
        )
        if spans.cross:
            sizes = (max(map(sum, spans.responses)), max(spans.prompts))
            more, its_lse, _ = run(
                query[at:], key[:at], value[:at], responses, prompts, *sizes, False, scale,
                [-1, -1], shared,
            )  # fmt: skip
            join(out[at:], lse[:, at:].T, more, its_lse.T)
        return out, lse

    @staticmethod
    def backward(
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        spans: Spans,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        at = spans.split
        segments, responses, prompts = spans.bounds
        run = torch.ops.torch_attn._varlen_attn_backward
        state = torch.zeros(2, dtype=torch.uint64, device=query.device)  # of a dropout that is off
        longest = max(end - start for start, end in spans.own)
        gradient = gradient.to(query.dtype).contiguous()
        dq, dk, dv = run(
            gradient, query, key, value, out, lse, segments, segments, longest, longest, True,
            state, scale, [-1, 0],
        )  # fmt: skip
        if spans.cross:
            sizes = (max(map(sum, spans.responses)), max(spans.prompts))
            more, to_k, to_v = run(
                gradient[at:], query[at:], key[:at], value[:at], out[at:],
                lse[:, at:].contiguous(), responses, prompts, *sizes, False, state, scale,
                [-1, -1],
            )  # fmt: skip
            dq[at:] += more
            dk[:at] += to_k
            dv[:at] += to_v
        return dq, dk, dv


def _by_key_head(query: Tensor, key: Tensor, value: Tensor, *like_query: Tensor) -> list[Tensor]:
    """Views (Hq / Hkv, Hkv, T, D) of (T, heads, D): query, key, value, then what is as query."""
    heads = key.shape[1]
    first, *others = _views(heads, query, *like_query)
    keys = [one.transpose(0, 1).expand(len(first), -1, -1, -1) for one in (key, value)]
    return [first, *keys, *others]


def _views(heads: int, *like_query: Tensor) -> list[Tensor]:
    """(T, Hq, ...) -> (Hq / Hkv, Hkv, T, ...), by the number of key heads."""
    return [one.view(len(one), heads, -1, *one.shape[2:]).transpose(0, 2) for one in like_query]


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
