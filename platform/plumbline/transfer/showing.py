"""An imported row as a person reads it: who said what, and which answer was preferred.

It is kept as JSON until the file is imported or dropped, so texts are cut.
"""

from __future__ import annotations

from typing import Any

from plumbline.collect.models import Ballot
from plumbline.transfer.ballots import preferring
from plumbline.transfer.judgements import BAD, GOOD
from plumbline.transfer.rows import ImportedRow, Vote

LONGEST = 3000  # characters of a text
MOST_TURNS = 12
PLACES = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth")


def shown(row: ImportedRow) -> dict[str, Any]:
    """{"messages": [{"role", "text"}], "earlier", "answers": [{"text", "origin", "said", "tone"}],
    "vote", "split"}. `earlier`: how many messages before those are left out."""
    vote = row.vote or (preferring(row) if row.preference is not None else None)
    answers = []
    for slot, one in enumerate(row.answers):
        said, tone = _of_answer(vote, slot, len(row.answers)) if vote else ("", "")
        answers.append({"text": _cut(one.text), "origin": one.origin, "said": said, "tone": tone})
    return {
        "messages": [
            {"role": one["role"], "text": _cut(one["content"])}
            for one in row.messages[-MOST_TURNS:]
        ],
        "earlier": max(0, len(row.messages) - MOST_TURNS),
        "answers": answers,
        "vote": _in_words(vote) if vote else "",
        "split": row.split or "",
    }


def _of_answer(vote: Vote, slot: int, count: int) -> tuple[str, str]:
    """What is said of an answer, and whether that is good or bad of it ("good", "bad", "")."""
    if vote.outcome == Ballot.Outcome.ALL_BAD:
        return "Bad", "bad"
    if vote.outcome != Ballot.Outcome.RANKED:
        return "", ""
    place = next(at for at, group in enumerate(vote.ranking) if slot in group)
    if count == 1:
        return {GOOD: ("Good", "good"), BAD: ("Bad", "bad")}.get(vote.mark or 0, ("Rated", ""))
    if len(vote.ranking) == 1:
        return "Tie", ""
    if count == 2:
        return ("Preferred", "good") if place == 0 else ("Rejected", "bad")
    return PLACES[place], "good" if place == 0 else ""


def _in_words(vote: Vote) -> str:
    """What else is known of the vote."""
    words = []
    if vote.outcome not in (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD):
        words.append(str(Ballot.Outcome(vote.outcome).label))
    if vote.probability is not None:
        words.append(f"the first is better with probability {vote.probability:.2f}")
    if vote.strength is not None:
        words.append(("slightly", "clearly", "much")[vote.strength - 1] + " better")
    if vote.annotator:
        words.append(f"by {vote.annotator}")
    return "; ".join(words)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
