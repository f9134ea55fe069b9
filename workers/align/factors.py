"""What can be measured of an answer by reading it: the factors of hierarchies and feature models.

Each is a plain function of the question's text and the answer's, cheap enough for the web process.
A word is a run of letters, digits and inner apostrophes; texts are compared without case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s", re.MULTILINE)
FENCE = re.compile(r"^\s*```", re.MULTILINE)
VOWELS = re.compile(r"[aeiouy]+")
MOST_WORDS = 400  # beyond which length tells nothing more
MOST_EASE, LEAST_EASE = 121.22, -100.0


@dataclass(frozen=True)
class Factor:
    """`measure(question, answer)` is a finite number; `what` says it in a sentence."""

    title: str
    what: str
    measure: Callable[[str, str], float]


def words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def word_count(question: str, answer: str) -> float:
    return float(len(words(answer)))


def length_incentive(question: str, answer: str) -> float:
    """LI of R3: words over 100, of 400 words at most, since without a cap length alone pays."""
    return min(len(words(answer)), MOST_WORDS) / 100


def unique_trigrams(question: str, answer: str) -> float:
    """RP of R3, in (0, 1]: unique trigrams of words over all of them; 1 below three words."""
    found = _trigrams(words(answer))
    return len(set(found)) / len(found) if found else 1.0


def question_repeated(question: str, answer: str) -> float:
    """The share of the answer's trigrams of words that stand in the question as well, 0 to 1."""
    asked, found = set(_trigrams(words(question))), _trigrams(words(answer))
    return sum(one in asked for one in found) / len(found) if found else 0.0


def relevance_reward(relevance: float, closed: bool, answer: str) -> float:
    """R3's reward of an answer: rel * LI * RP, 0 to 4 where relevance is 0 to 1.

    `relevance` is to the question, or, of a closed question, to the answer that is known to be
    right: that needs no length, so it is stretched to the range of the others instead of times LI.
    """
    scale = MOST_WORDS / 100 if closed else length_incentive("", answer)
    return relevance * scale * unique_trigrams("", answer)


def list_items(question: str, answer: str) -> float:
    return float(len(LIST_ITEM.findall(answer)))


def headings(question: str, answer: str) -> float:
    return float(len(HEADING.findall(answer)))


def code_blocks(question: str, answer: str) -> float:
    """Fenced blocks; one that is opened and never closed counts."""
    return float((len(FENCE.findall(answer)) + 1) // 2)


def reading_ease(question: str, answer: str) -> float:
    """Flesch's reading ease, higher is easier, kept between -100 and 121.22; 0 without words.
    Syllables are runs of vowels, which is right for English by and large."""
    found = words(answer)
    if not found:
        return 0.0
    sentences = max(1, len(SENTENCE_END.findall(answer)))
    syllables = sum(max(1, len(VOWELS.findall(word))) for word in found)
    ease = 206.835 - 1.015 * len(found) / sentences - 84.6 * syllables / len(found)
    return min(MOST_EASE, max(LEAST_EASE, ease))


def _trigrams(found: list[str]) -> list[tuple[str, str, str]]:
    return list(zip(found, found[1:], found[2:], strict=False))


FACTORS: Mapping[str, Factor] = {
    "words": Factor("Words", "How many words the answer has.", word_count),
    "unique_trigrams": Factor(
        "Unique trigrams",
        "The share of its three-word sequences that stand there once: low where it repeats itself.",
        unique_trigrams,
    ),
    "question_repeated": Factor(
        "Question repeated",
        "The share of its three-word sequences that are taken from the question.",
        question_repeated,
    ),
    "list_items": Factor("List items", "Lines that are items of a list.", list_items),
    "headings": Factor("Headings", "Lines that are headings.", headings),
    "code_blocks": Factor("Code blocks", "Fenced blocks of code.", code_blocks),
    "reading_ease": Factor(
        "Reading ease", "Flesch's measure for English: higher is easier to read.", reading_ease
    ),
}


def measure(question: str, answer: str) -> dict[str, float]:
    """All of them, by name."""
    return {name: factor.measure(question, answer) for name, factor in FACTORS.items()}


def question(messages: list[dict[str, str]] | tuple[Mapping[str, str], ...]) -> str:
    """The text of the last user's turn, which an answer answers; "" where there is none."""
    asked = [one["content"] for one in messages if one["role"] == "user"]
    return asked[-1] if asked else ""
