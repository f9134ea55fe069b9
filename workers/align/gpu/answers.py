"""What one request draws: its answers in the making, and the choice of their next tokens.

Knows nothing of models or batches. Every random number comes from (seed, prompt, draw) and the
place in the answer, and every choice from one row of logits, so an answer is the same whatever it
is computed together with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


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
    logit_bias: tuple[tuple[int, float], ...] = ()  # token id, what its logit gets

    @property
    def rule(self) -> tuple[Any, ...]:
        """What rows must share to be drawn in one go."""
        return self.temperature, self.top_p, self.top_k, self.top_logprobs, self.logit_bias


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
    uniforms: list[float] = field(default_factory=list, repr=False)  # one for each token, [0, 1)

    def settled(self, stop: Sequence[str]) -> str:
        """The text that later tokens cannot change: no half character, no half stop string."""
        if self.finish_reason is not None:
            return self.text
        text = self.text.rstrip("\ufffd")
        held = max((len(one) - 1 for one in stop), default=0)
        return text[: len(text) - held] if held else text


class Answers:
    """The draws of one request. `ends`: tokens that end an answer; `watched` keeps every draw's
    text up to date for streaming."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: frozenset[int],
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
        self._tokenizer = tokenizer
        self._ends = ends
        self._watched = watched or bool(sampling.stop)
        self._going = len(self.draws)
        if sampling.temperature:
            for draw in self.draws:
                seed = row_seed(sampling.seed, draw.prompt, draw.index)
                generator = torch.Generator().manual_seed(seed)
                draw.uniforms = torch.rand(sampling.max_tokens, generator=generator).tolist()

    @property
    def done(self) -> bool:
        return not self._going

    def take(self, draw: Draw, token: int, logprob: TokenLogprob | None) -> None:
        """Give a draw its next token, and see whether that ends it, and why."""
        draw.tokens.append(token)
        if logprob is not None:
            draw.logprobs.append(logprob)
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
        self._going -= draw.finish_reason is not None


def next_tokens(
    logits: Tensor, draws: Sequence[Draw], sampling: Sampling
) -> tuple[list[int], Sequence[TokenLogprob | None]]:
    """A token for each row of fp32 logits (B, V), and its log-probability if it is asked for:
    the model's own, which a bias changes as little as temperature does."""
    chosen = _choose(_biased(logits, sampling.logit_bias), draws, sampling)  # (B,)
    if sampling.top_logprobs is None:
        return chosen.tolist(), [None] * len(draws)
    return chosen.tolist(), _logprobs(logits, chosen, sampling.top_logprobs)


def _biased(logits: Tensor, biases: Sequence[tuple[int, float]]) -> Tensor:
    """(B, V) -> (B, V)"""
    if not biases:
        return logits
    tokens, values = zip(*biases, strict=True)
    added = torch.tensor(values, dtype=logits.dtype, device=logits.device)
    places = torch.tensor(tokens, device=logits.device)
    return logits.index_add(-1, places, added.expand(len(logits), -1))


def _choose(logits: Tensor, draws: Sequence[Draw], sampling: Sampling) -> Tensor:
    """(B, V) -> (B,) token ids: the likeliest at temperature 0, else by inverse transform."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = kept(
        torch.softmax(logits / sampling.temperature, -1), sampling.top_k, sampling.top_p
    )
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)  # (B, V)
    uniform = torch.tensor([draw.uniforms[len(draw.tokens)] for draw in draws], dtype=torch.float64)
    aim = uniform.to(logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, aim, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]


def _logprobs(logits: Tensor, chosen: Tensor, count: int) -> list[TokenLogprob]:
    logps = torch.log_softmax(logits, -1)
    own = logps.gather(-1, chosen[:, None])[:, 0].tolist()
    values, tokens = logps.topk(count, -1)
    return [
        TokenLogprob(token, logp, tuple(zip(likeliest, their, strict=True)))
        for token, logp, likeliest, their in zip(
            chosen.tolist(), own, tokens.tolist(), values.tolist(), strict=True
        )
    ]


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
