"""Answers between which there is nothing to choose: near copies, empty ones, refusals.

Of near copies the first is kept, and of all answers that are empty or only refuse the first as
well, so that no pair has two. Refusals are known by how they open, in English only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from plumbline.collect.models import Completion

NEAR = 0.9  # Jaccard similarity of two answers' words and of words that stand side by side
LONGEST_REFUSAL = 60  # words; what goes on for longer says something
REFUSES = re.compile(
    r"(i'm|i am|we're|we are)?\s*(really |very |so |truly )?(sorry|afraid)\b.*"
    r"\b(can't|cannot|can not|won't|unable|not able)\b"
    r"|(i|we) (can't|cannot|can not|won't|will not|must decline|am unable|'m unable)\b"
    r"|as an? (ai|language model|assistant)\b.*\b(can't|cannot|not able|unable|don't)\b",
    re.IGNORECASE | re.DOTALL,
)


def different(answers: Sequence[Completion]) -> list[Completion]:
    """Answers between any two of which people could have a preference."""
    return [answers[at] for at in _kept(tuple(answer.text for answer in answers))]


@lru_cache(maxsize=2048)  # a round asks several times about the same answers
def _kept(texts: tuple[str, ...]) -> tuple[int, ...]:
    """The places of those texts."""
    kept: list[int] = []
    seen: list[frozenset[str]] = []
    nothing = False
    for at, text in enumerate(texts):
        if says_nothing(text):
            if nothing:
                continue
            nothing = True
        tokens = _tokens(text)
        if any(_similarity(tokens, other) > NEAR for other in seen):
            continue
        kept.append(at)
        seen.append(tokens)
    return tuple(kept)


def says_nothing(text: str) -> bool:
    """Whether an answer is empty or only a refusal."""
    text = text.strip().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if not text:
        return True
    return len(text.split()) <= LONGEST_REFUSAL and REFUSES.match(text) is not None


def _tokens(text: str) -> frozenset[str]:
    """Words, and words with their neighbour: "A beats B" is not "B beats A"."""
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    return frozenset(words) | {f"{a} {b}" for a, b in zip(words, words[1:], strict=False)}


def _similarity(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0
