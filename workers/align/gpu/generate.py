"""Sampling from a transformers model, one token of a whole batch at a time.

The caller steps a `Generation`, so many can take turns on one model and each can be streamed.
Prompts are computed once however many answers are drawn; sequences that end leave the batch.
Every random number comes from (seed, prompt, draw), so a batch repeats whatever else runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw. `top_logprobs` asks for each token's log-probability (of the model itself,
    before temperature) and that many alternatives; None asks for none."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0 keeps the whole vocabulary
    max_tokens: int = 16
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """One sampled token: its log-probability in nats, its rank, and the likeliest tokens."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass
class Draw:
    """One answer in the making. `tokens` include the end-of-turn token if the model ended it."""

    prompt: int  # index into the request's prompts
    index: int  # 0..n-1
    limit: int  # most tokens it may have
    tokens: list[int] = field(default_factory=list)
    text: str = ""  # up to date only when watched or finished
    finish_reason: Literal["stop", "length"] | None = None
    stop_string: str | None = None  # the one that ended it
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def settled(self, stop: Sequence[str]) -> str:
        """The text that later tokens cannot change: no half character, no half stop string."""
        if self.finish_reason is not None:
            return self.text
        text = self.text.rstrip("\ufffd")
        held = max((len(one) - 1 for one in stop), default=0)
        return text[: len(text) - held] if held else text


class Generation:
    """A batch of answers to `prompts` (token ids), drawn by one `step` per token.

    `model` is a transformers causal model; whatever adapter it should have is the caller's to
    switch on before each step. `watched` keeps every draw's text up to date for streaming.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        max_length: int,
        watched: bool = False,
    ) -> None:
        assert all(0 < len(prompt) < max_length for prompt in prompts), "prompts do not fit"
        self.prompts = prompts
        self.sampling = sampling
        self.draws = [
            Draw(p, k, min(sampling.max_tokens, max_length - len(prompt)))
            for p, prompt in enumerate(prompts)
            for k in range(sampling.n)
        ]
        self._model = model
        self._tokenizer = tokenizer
        self._ends = end_tokens(model, tokenizer)
        self._watched = watched or bool(sampling.stop)
        self._live = list(range(len(self.draws)))  # rows of the batch -> draws
        self._cache = DynamicCache(config=model.config)
        self._uniforms = self._draw_uniforms()
        self._mask: Tensor | None = None  # (B, T) of 0 and 1; None when nothing is padded
        self._positions = torch.empty(0)  # (B, 1), of the newest token
        self._newest = torch.empty(0)  # (B, 1)

    @property
    def done(self) -> bool:
        return not self._live

    @torch.inference_mode()
    def step(self) -> list[Draw]:
        """Give every unfinished draw its next token; returns those draws."""
        logits = self._forward() if self._newest.numel() else self._prefill()  # (B, V)
        logits = logits.float()
        chosen = self._choose(logits)  # (B,)
        moved = [self.draws[i] for i in self._live]
        logprobs = self._logprobs(logits, chosen)
        for row, (draw, token) in enumerate(zip(moved, chosen.tolist(), strict=True)):
            draw.tokens.append(token)
            if logprobs:
                draw.logprobs.append(logprobs[row])
            self._settle(draw, token)
        self._newest = chosen[:, None]
        self._drop_finished(moved)
        return moved

    def _prefill(self) -> Tensor:
        """Read the prompts, left-padded to one length, and repeat what was read for each draw."""
        longest = max(len(prompt) for prompt in self.prompts)
        pads = [longest - len(prompt) for prompt in self.prompts]
        place = self._model.device
        ids = torch.tensor(
            [[0] * pad + list(prompt) for pad, prompt in zip(pads, self.prompts, strict=True)],
            device=place,
        )  # (P, T)
        if any(pads):
            self._mask = (torch.arange(longest) >= torch.tensor(pads)[:, None]).long().to(place)
        positions = (torch.arange(longest) - torch.tensor(pads)[:, None]).clamp(min=0).to(place)
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        n = self.sampling.n
        if n > 1:
            self._cache.batch_repeat_interleave(n)
            self._mask = None if self._mask is None else self._mask.repeat_interleave(n, 0)
        self._positions = positions[:, -1:].repeat_interleave(n, 0)
        logits: Tensor = out.logits[:, -1].repeat_interleave(n, 0)
        return logits

    def _forward(self) -> Tensor:
        self._positions = self._positions + 1
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        out = self._model(
            input_ids=self._newest,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _choose(self, logits: Tensor) -> Tensor:
        """(B, V) -> (B,) token ids: the likeliest at temperature 0, else by inverse transform."""
        if self.sampling.temperature == 0:
            return logits.argmax(-1)
        probabilities = kept(
            torch.softmax(logits / self.sampling.temperature, -1),
            self.sampling.top_k,
            self.sampling.top_p,
        )
        cumulative = probabilities.double().cumsum(-1)  # (B, V)
        step = len(self.draws[self._live[0]].tokens)
        uniform = self._uniforms[self._live, step].to(logits.device)  # (B,)
        aim = (uniform * cumulative[:, -1])[:, None]
        return torch.searchsorted(cumulative, aim, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]

    def _logprobs(self, logits: Tensor, chosen: Tensor) -> list[TokenLogprob]:
        count = self.sampling.top_logprobs
        if count is None:
            return []
        logps = torch.log_softmax(logits, -1)
        own = logps.gather(-1, chosen[:, None])[:, 0].tolist()
        values, tokens = logps.topk(count, -1)
        return [
            TokenLogprob(token, logp, tuple(zip(likeliest, their, strict=True)))
            for token, logp, likeliest, their in zip(
                chosen.tolist(), own, tokens.tolist(), values.tolist(), strict=True
            )
        ]

    def _settle(self, draw: Draw, token: int) -> None:
        """See whether the draw has ended, and why."""
        if token in self._ends:
            draw.finish_reason = "stop"
        elif len(draw.tokens) == draw.limit:
            draw.finish_reason = "length"
        if self._watched or draw.finish_reason:
            draw.text = str(self._tokenizer.decode(draw.tokens, skip_special_tokens=True))
        hits = [(draw.text.find(one), one) for one in self.sampling.stop if one in draw.text]
        if hits:
            at, draw.stop_string = min(hits)
            draw.text, draw.finish_reason = draw.text[:at], "stop"

    def _drop_finished(self, moved: list[Draw]) -> None:
        going = [row for row, draw in enumerate(moved) if draw.finish_reason is None]
        if len(going) == len(moved):
            return
        self._live = [self._live[row] for row in going]
        if not going:
            self._cache = DynamicCache()  # free it now, not when the request is answered
            return
        rows = torch.tensor(going, device=self._newest.device)
        self._cache.batch_select_indices(rows)
        self._newest, self._positions = self._newest[rows], self._positions[rows]
        self._mask = None if self._mask is None else self._mask[rows]

    def _draw_uniforms(self) -> Tensor:
        """(draws, tokens) numbers in [0, 1), each row from a generator of its own."""
        if self.sampling.temperature == 0:
            return torch.empty(0)
        rows = []
        for draw in self.draws:
            generator = torch.Generator().manual_seed(
                row_seed(self.sampling.seed, draw.prompt, draw.index)
            )
            rows.append(torch.rand(self.sampling.max_tokens, generator=generator).double())
        return torch.stack(rows)


def row_seed(seed: int, prompt: int, draw: int) -> int:
    """A 63-bit seed; neighbouring rows and seeds have nothing to do with one another."""
    digest = hashlib.sha256(f"{seed}:{prompt}:{draw}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def kept(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Zero all but the `top_k` likeliest tokens, then all but the fewest whose sum reaches `top_p`
    (arXiv:1904.09751). (B, V) -> (B, V), not renormalised."""
    if 0 < top_k < probabilities.shape[-1]:
        least = probabilities.topk(top_k, -1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    if top_p < 1:
        ordered, order = probabilities.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
    return probabilities


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's, and those of the generation config."""
    declared = model.generation_config.eos_token_id if model.generation_config else None
    ends = declared if isinstance(declared, list) else [declared]
    return frozenset(token for token in [*ends, tokenizer.eos_token_id] if token is not None)
