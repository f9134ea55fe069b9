"""Compared answers of realistic lengths, as token ids, and as each side wants them written down.

Prompts are uniform in [128, 256] tokens, answers log-normal around 130 (sigma 0.45) in [64, 256],
as in published preference data; the words are random. Both sides are given the same tokens, and
useful tokens are counted here, once, for both: what a side computes beyond them is its own loss.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from align import jobs
from tests.bench.speed.shapes import AROUND, END, SPECIAL, text


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts (template included) and of answers (end of turn included)."""

    prompt: tuple[int, int] = (128, 256)
    answer: tuple[int, int] = (64, 256)
    median: float = 130.0
    spread: float = 0.45  # sigma of the answer's log-length


REALISTIC = Lengths()


@dataclass(frozen=True)
class Question:
    """A prompt with its answers, best first; token ids without the template's and the end's."""

    id: str
    prompt: list[int]
    answers: list[list[int]]

    @property
    def messages(self) -> list[jobs.Message]:
        return [{"role": "user", "content": text(self.prompt)}]

    def pairs(self) -> list[tuple[int, int]]:
        """Every answer against every worse one."""
        return list(combinations(range(len(self.answers)), 2))

    def useful(self) -> int:
        """Tokens of all pairs, each with its prompt twice: what both sides are credited with."""
        prompt = len(self.prompt) + AROUND
        return sum(
            2 * prompt + len(self.answers[i]) + len(self.answers[j]) + 2 for i, j in self.pairs()
        )


def questions(
    count: int, vocabulary: int, *, answers: int = 2, seed: int = 0, lengths: Lengths = REALISTIC
) -> list[Question]:
    """The same arguments give the same questions."""
    rng = random.Random(f"{seed}:{vocabulary}:{answers}")

    def words(number: int) -> list[int]:
        return rng.choices(range(len(SPECIAL), vocabulary), k=number)

    def answer() -> list[int]:
        low, high = lengths.answer
        drawn = round(rng.lognormvariate(math.log(lengths.median), lengths.spread))
        return words(min(max(drawn, low), high) - 1)

    return [
        Question(
            id=str(number),
            prompt=words(rng.randint(*lengths.prompt) - AROUND),
            answers=[answer() for _ in range(answers)],
        )
        for number in range(count)
    ]


def useful_tokens(found: Sequence[Question]) -> int:
    return sum(question.useful() for question in found)


def response(question: Question, index: int) -> jobs.ResponseRow:
    tokens = question.answers[index]
    return {
        "id": f"{question.id}.{index}",
        "text": text(tokens),
        "token_ids": [*tokens, END],
        "finish_reason": "stop",
    }


def examples(found: Sequence[Question]) -> Iterator[jobs.ExampleRow]:
    """Pairs for the product's trainer; the pairs of a prompt weigh as much as one, together."""
    for question in found:
        pairs = question.pairs()
        for i, j in pairs:
            yield {
                "id": f"{question.id}.{i}.{j}",
                "messages": question.messages,
                "responses": {
                    "chosen": response(question, i),
                    "rejected": response(question, j),
                },
                "p": 1.0,
                "facts": {},
                "weight": 1 / len(pairs),
            }


def rankings(found: Sequence[Question]) -> Iterator[jobs.ComparisonRow]:
    """Comparisons for the product's reward model."""
    for question in found:
        pairs = question.pairs()
        yield {
            "id": question.id,
            "messages": question.messages,
            "responses": [response(question, index) for index in range(len(question.answers))],
            "preferences": [(i, j, 1.0, 1 / len(pairs)) for i, j in pairs],
            "heldout": False,
        }


def texts(found: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """The same pairs in the same order as TRL's conversational rows."""
    for question in found:
        for i, j in question.pairs():
            sides = {"chosen": i, "rejected": j}
            yield {
                "prompt": question.messages,
                **{
                    side: [{"role": "assistant", "content": text(question.answers[index])}]
                    for side, index in sides.items()
                },
            }
