"""Answers drawn in this process, by the engine's own generation code and without its HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from align.gpu.answers import Answers, Sampling, end_tokens
from align.gpu.batch import Batch
from align.gpu.data import Encoder
from align.gpu.residents import Residents
from align.jobs import ModelRef
from tests.bench.alignment.world import LONGEST, Reply, messages

ROWS = 384  # answers that grow side by side; more of them cost memory and save no time


class Sampler:
    """The base, and for each request the adapter it asks for."""

    def __init__(self, base: str) -> None:
        self.residents = Residents("base", Path(base), precision="fp32")
        self.encoder = Encoder(self.residents.base.tokenizer)
        self.context = self.residents.base.model.config.max_position_embeddings

    def draw(
        self, policy: ModelRef, questions: Sequence[str], n: int, temperature: float, seed: int
    ) -> list[list[Reply]]:
        """`n` answers to each question. The same arguments draw the same answers."""
        if policy.adapter is None:
            return self._draw("base", questions, n, temperature, seed)
        self.residents.load("policy", Path(policy.adapter))
        try:
            return self._draw("policy", questions, n, temperature, seed)
        finally:
            self.residents.unload("policy")

    def _draw(
        self, name: str, questions: Sequence[str], n: int, temperature: float, seed: int
    ) -> list[list[Reply]]:
        resident = self.residents.get(name)
        model = self.residents.ready(resident)
        found: list[list[Reply]] = []
        size = max(1, ROWS // n)
        for at in range(0, len(questions), size):
            part = questions[at : at + size]
            answers = Answers(
                resident.tokenizer,
                end_tokens(model, resident.tokenizer),
                [self.encoder.prompt(list(messages(question))) for question in part],
                Sampling(
                    n=n, temperature=temperature, max_tokens=LONGEST, seed=part_seed(seed, at)
                ),
                max_length=self.context,
            )
            batch = Batch(model)
            batch.add(answers)
            while batch.busy:
                batch.step()
            replies = [
                Reply(draw.text, tuple(draw.tokens), draw.finish_reason or "length")
                for draw in answers.draws
            ]
            found += [replies[k : k + n] for k in range(0, len(replies), n)]
        return found


def part_seed(seed: int, at: int) -> int:
    """A seed for each part of a request, unlike those of its neighbours and of nearby requests."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{at}".encode()).digest()[:6], "big")
