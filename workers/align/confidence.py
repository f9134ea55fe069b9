"""Confidence-aware pairs (C2RM): what is true and said with confidence before everything else.

A model is asked several times for an answer and how sure it is of it. True and confident answers
are preferred to each of the three other classes, on questions that the model gets right at times
and not always. Never is one of them rejected, and no pair has both sides in a class. What is asked
and how a reply is read are ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align.rows import Message

ASK = (
    "Answer the question. Then, on a line of its own at the end, say how sure you are that your "
    "answer is right, in percent, in this form:\nConfidence: N%"
)
STATED = re.compile(r"^[\s*_]*confidence[\s*_]*[:=][\s*_]*(\d{1,3}(?:\.\d+)?)\s*%?[\s*_.]*$", re.I)
THRESHOLD = 0.5
LEAST, MOST = 0.4, 0.7  # shares of right answers between which a question is kept
TRUE_SURE, FALSE_SURE, TRUE_UNSURE, FALSE_UNSURE = "T&C", "F&C", "T&U", "F&U"
OTHERS = (FALSE_SURE, TRUE_UNSURE, FALSE_UNSURE)


@dataclass(frozen=True)
class Stated:
    """An answer to a question: who gave it, whether it is right, and how sure it said to be."""

    id: str
    right: bool
    confidence: float
    source: str = ""

    @property
    def kind(self) -> str:
        if self.confidence >= THRESHOLD:
            return TRUE_SURE if self.right else FALSE_SURE
        return TRUE_UNSURE if self.right else FALSE_UNSURE


def asked(messages: Sequence[Message]) -> list[Message]:
    """The conversation with the question of how sure the model is, in its system line."""
    rest = list(messages)
    if rest and rest[0]["role"] == "system":
        first, rest = rest[0], rest[1:]
        return [{"role": "system", "content": f"{first['content']}\n\n{ASK}"}, *rest]
    return [{"role": "system", "content": ASK}, *rest]


def read(text: str) -> tuple[str, float]:
    """The answer without its last line of confidence, and the confidence, 0 to 1: 0 where it states
    none that can be read, or more than 100 %."""
    lines = text.rstrip().splitlines()
    if lines and (found := STATED.match(lines[-1])):
        percent = float(found[1])
        return "\n".join(lines[:-1]).strip(), percent / 100 if percent <= 100 else 0.0
    return text.strip(), 0.0


def right(answer: str, reference: str) -> bool:
    """Whether the reference stands in the answer, as whole words, without case and punctuation.
    An empty reference is in nothing."""
    found, wanted = _plain(answer), _plain(reference)
    return bool(wanted) and f" {wanted} " in f" {found} "


def pairs(
    answers: Sequence[Stated], seed: str = "", least: float = LEAST, most: float = MOST
) -> list[tuple[str, str, str]]:
    """(chosen, rejected, the rejected one's class) of one question's answers, by id.

    Empty where the share of right answers is outside `least` to `most`, or none is right and
    confident. Each rejected answer stands in one pair, with chosen ones in turn; those of other
    sources come first, so that what is compared is mixed across models.
    """
    if not answers:
        return []
    share = sum(one.right for one in answers) / len(answers)
    chosen = [one for one in answers if one.kind == TRUE_SURE]
    if not chosen or share in (0.0, 1.0) or not least <= share <= most:
        return []
    draw = random.Random(seed)
    draw.shuffle(chosen)
    found = []
    for name in OTHERS:
        rejected = [one for one in answers if one.kind == name]
        draw.shuffle(rejected)
        for at, one in enumerate(rejected):
            turn = chosen[at % len(chosen) :] + chosen[: at % len(chosen)]
            better = next((other for other in turn if other.source != one.source), turn[0])
            found.append((better.id, one.id, name))
    return found


def shares(answers: Sequence[Stated]) -> Mapping[str, int]:
    """How many answers each class has."""
    kinds = [one.kind for one in answers]
    return {name: kinds.count(name) for name in (TRUE_SURE, *OTHERS)}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
