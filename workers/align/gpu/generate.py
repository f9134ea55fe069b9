"""Sampling from any transformers model with its own cache, one request at a time.

The way of models that `align.gpu.batch` cannot take, and of programs that want no engine. The
caller steps a `Generation`, one token for each of its draws. Prompts are computed once however many
answers are drawn; sequences that end leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from align.gpu.answers import Answers, Draw, Sampling, end_tokens, next_tokens


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
        ends = end_tokens(model, tokenizer)
        self.answers = Answers(
            tokenizer, ends, prompts, sampling, max_length=max_length, watched=watched
        )
        self._model = model
        self._live = self.draws  # rows of the batch
        self._cache = DynamicCache(config=model.config)
        self._mask: Tensor | None = None  # (B, T) of 0 and 1; None when nothing is padded
        self._positions = torch.empty(0)  # (B, 1), of the newest token
        self._newest = torch.empty(0)  # (B, 1)

    @property
    def draws(self) -> list[Draw]:
        return self.answers.draws

    @property
    def done(self) -> bool:
        return self.answers.done

    @torch.inference_mode()
    def step(self) -> list[Draw]:
        """Give every unfinished draw its next token; returns those draws."""
        logits = self._forward() if self._newest.numel() else self._prefill()  # (B, V)
        moved = self._live
        tokens, logprobs = next_tokens(logits.float(), moved, self.answers.sampling)
        for draw, token, logprob in zip(moved, tokens, logprobs, strict=True):
            self.answers.take(draw, token, logprob)
        self._newest = torch.tensor(tokens, device=logits.device)[:, None]
        self._drop_finished(moved)
        return moved

    def _prefill(self) -> Tensor:
        """Read the prompts, left-padded to one length, and repeat what was read for each draw."""
        prompts, n = self.answers.prompts, self.answers.sampling.n
        longest = max(len(prompt) for prompt in prompts)
        pads = [longest - len(prompt) for prompt in prompts]
        place = self._model.device
        ids = torch.tensor(
            [[0] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)],
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

    def _drop_finished(self, moved: list[Draw]) -> None:
        going = [row for row, draw in enumerate(moved) if draw.finish_reason is None]
        if len(going) == len(moved):
            return
        self._live = [moved[row] for row in going]
        if not going:
            self._cache = DynamicCache()  # free it now, not when the request is answered
            return
        rows = torch.tensor(going, device=self._newest.device)
        self._cache.batch_select_indices(rows)
        self._newest, self._positions = self._newest[rows], self._positions[rows]
        self._mask = None if self._mask is None else self._mask[rows]
