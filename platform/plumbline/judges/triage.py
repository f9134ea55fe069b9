"""Who labels what: people the random slice and what is uncertain, a judge what it is sure of.

Pure decisions; `loop/triaging.py` carries them out. The slice is drawn by a hash that knows nothing
of the judge, so what people say of it is an honest sample of all, and keeps the judge honest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PEOPLE, JUDGE, NOBODY = "people", "judge", "nobody"
RANDOM, SURE, UNSURE = "random", "sure", "unsure"
INCONSISTENT, SILENT, LEFT_OUT = "inconsistent", "silent", "left out"
WAITING, SUSPENDED = "waiting", "suspended"


@dataclass(frozen=True)
class Word:
    """What the judge says of a comparison: its calibrated chance that slot 0 is better, None where
    it gave no verdict, and whether both orders named the same answer."""

    p: float | None
    consistent: bool


@dataclass(frozen=True)
class Sent:
    """To whom a comparison goes, and why."""

    to: str
    why: str


def in_slice(seed: str, comparison: str, percent: float) -> bool:
    """Whether a comparison, named by its texts, is in the random slice of a round."""
    found = hashlib.sha256(f"{seed}\n{comparison}".encode()).hexdigest()
    return int(found[:13], 16) / 16**13 < percent / 100


def name(prompt_digest: str, texts: Iterable[str]) -> str:
    """A comparison by what is compared: the same in every database and either order."""
    each = sorted(hashlib.sha256(text.encode()).hexdigest() for text in texts)
    return "\n".join([prompt_digest, *each])


def triage(
    words: Mapping[int, Word], above: float | None, budget: int | None = None
) -> dict[int, Sent]:
    """Comparisons outside the slice: the judge's where it is surer than `above` (None: nowhere),
    people's else. Of those at most `budget`, the most uncertain first; the rest is nobody's."""
    found = {pk: _alone(word, above) for pk, word in words.items()}
    asked = most_uncertain([pk for pk, sent in found.items() if sent.to == PEOPLE], words)
    if budget is not None:
        for pk in asked[max(0, budget) :]:
            found[pk] = Sent(NOBODY, LEFT_OUT)
    return found


def by_judge(words: Mapping[int, Word]) -> dict[int, Sent]:
    """Where a judge labels everything: people get what it was silent on, and nobody what it
    contradicts itself on, of which it says nothing."""
    return {pk: _all(word) for pk, word in words.items()}


def most_uncertain(comparisons: Sequence[int], words: Mapping[int, Word]) -> list[int]:
    """Those on which the judge says nothing, then contradicts itself, then by confidence."""
    return sorted(comparisons, key=lambda pk: (_sure(words[pk]), pk))


def priority(word: Word | None) -> int:
    """In the people's queue: the slice first (no word looked at), then the most uncertain."""
    return 2000 if word is None else round(1000 * (1 - 2 * max(0.0, _sure(word))))


def _sure(word: Word) -> float:
    if word.p is None:
        return -2.0
    return abs(word.p - 0.5) if word.consistent else -1.0


def _alone(word: Word, above: float | None) -> Sent:
    if word.p is None:
        return Sent(PEOPLE, SILENT)
    if not word.consistent:
        return Sent(PEOPLE, INCONSISTENT)
    if above is not None and abs(word.p - 0.5) > above:
        return Sent(JUDGE, SURE)
    return Sent(PEOPLE, UNSURE)


def _all(word: Word) -> Sent:
    if word.p is None:
        return Sent(PEOPLE, SILENT)
    return Sent(JUDGE, SURE) if word.consistent else Sent(NOBODY, INCONSISTENT)
