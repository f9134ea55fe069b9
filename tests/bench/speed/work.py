"""What both sides of a contest are given: a model, compared answers, batches of a size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from tests.bench.speed.comparisons import REALISTIC, Lengths, Question, questions, useful_tokens

LEARNING_RATE = 1e-4
BETA = 0.1


@dataclass(frozen=True)
class Work:
    """A training. `batch` and `at_once` count pairs: those of an optimiser step, and those whose
    activations are in memory together."""

    base: str
    vocabulary: int
    steps: int
    batch: int
    at_once: int
    answers: int = 2  # to each prompt, ranked; all their pairs are compared
    mode: Literal["full", "lora"] = "full"
    rank: int = 16
    precision: Literal["auto", "fp32", "bf16"] = "bf16"  # ours; TRL's is among its settings
    lengths: Lengths = field(default_factory=lambda: REALISTIC)
    seed: int = 0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Work:
        """From a child's options, which hold other things as well."""
        found = {f.name: options[f.name] for f in fields(cls) if f.name in options}
        if "lengths" in found:
            shape = found["lengths"]
            found["lengths"] = Lengths(
                **{**shape, "prompt": tuple(shape["prompt"]), "answer": tuple(shape["answer"])}
            )
        return cls(**found)

    def options(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def pairs_per_prompt(self) -> int:
        return self.answers * (self.answers - 1) // 2

    @cached_property
    def questions(self) -> list[Question]:
        """As many as the steps need."""
        prompts, left = divmod(self.batch, self.pairs_per_prompt)
        assert not left, "a batch holds whole prompts"
        return questions(
            self.steps * prompts,
            self.vocabulary,
            answers=self.answers,
            seed=self.seed,
            lengths=self.lengths,
        )

    @property
    def tokens(self) -> int:
        return useful_tokens(self.questions)
