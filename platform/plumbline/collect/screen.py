"""What the ballot page shows, and what is stored put back into words.

Answers are lettered by their place on the screen. The parts of the form (collect.kinds) turn what
is clicked into slots; here slots become letters again, so a person reads back what was stored and
not what was clicked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from plumbline.collect import asking, live
from plumbline.collect.changes import lines_as_python
from plumbline.collect.kinds.pair import STRENGTHS
from plumbline.collect.models import Ballot

CUT_OFF = {"length": "Cut off at the length limit.", "cut": "Kept as far as it was seen."}


# Scripts that put no spaces between words are counted by the character, as word processors do.
ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(f"[{ALONE}]|[^\\W{ALONE}]+(?:[-'’.,][^\\W{ALONE}]+)*")


@dataclass(frozen=True)
class Pane:
    letter: str
    text: str
    cut_off: str = ""  # why it does not end
    live: live.Side | None = None  # while it is being written

    @property
    def empty(self) -> bool:
        return not self.text.strip()

    @property
    def words(self) -> str:
        return words(self.text)


def panes(ballot: Ballot) -> list[Pane]:
    """The answers in the order they are shown, and nothing that says who wrote them."""
    if live.unfinished(ballot.comparison):
        sides = zip(ascii_uppercase, live.sides(ballot), strict=False)
        return [Pane(letter, side.text, side.cut_off, side) for letter, side in sides]
    slots = {one.slot: one.completion for one in ballot.comparison.replies}
    answers = [slots[slot] for slot in ballot.shown]
    return [
        Pane(letter, answer.text, CUT_OFF.get(answer.finish_reason, ""))
        for letter, answer in zip(ascii_uppercase, answers, strict=False)
    ]


def words(text: str) -> str:
    """How long an answer is, for campaigns that show it."""
    n = len(WORD.findall(text))
    return f"{n:,} word{'' if n == 1 else 's'}"


def sentence(ballot: Ballot) -> str:
    """What is stored, in the letters the person saw: "A better than B, and good"."""
    said = _order(ballot)
    if ballot.mark:
        said += f", and {asking.MARKS[ballot.mark]}"
    return "; ".join([part for part in (said, *_beside(ballot)) if part])


def expected(ballot: Ballot, fields: Mapping[str, Any]) -> str:
    """What a known comparison should be answered, in the letters the person saw."""
    names = ("outcome", "ranking", "strength", "mark", "ratings")
    given = {name: fields[name] for name in names if fields.get(name)}
    if fields.get("rated"):
        return _rated_order(ballot, fields["rated"])
    return sentence(Ballot(shown=ballot.shown, **{"outcome": Ballot.Outcome.RANKED, **given}))


def _rated_order(ballot: Ballot, order: Sequence[Sequence[int]]) -> str:
    letter = dict(zip(ballot.shown, ascii_uppercase, strict=False))
    groups = [" and ".join(sorted(letter[slot] for slot in group)) for group in order]
    return f"{groups[0]} rated alike" if len(groups) == 1 else " rated above ".join(groups)


def _order(ballot: Ballot) -> str:
    if ballot.outcome == Ballot.Outcome.SKIPPED:
        return "Skipped"
    if ballot.outcome == Ballot.Outcome.FLAGGED:
        return "Flagged"
    if ballot.outcome == Ballot.Outcome.ALL_BAD:
        return "Both bad" if len(ballot.shown) == 2 else "All bad"
    if ballot.outcome == Ballot.Outcome.ABSOLUTE:
        return ""
    letter = dict(zip(ballot.shown, ascii_uppercase, strict=False))
    groups = [" = ".join(sorted(letter[slot] for slot in group)) for group in ballot.ranking]
    if len(ballot.shown) > 2:
        return " > ".join(groups)
    if len(groups) == 1:
        return "A and B tie"
    return f"{groups[0]} {STRENGTHS[ballot.strength or 2]} than {groups[1]}"


def _beside(ballot: Ballot) -> Iterator[str]:
    letter = dict(zip(map(str, ballot.shown), ascii_uppercase, strict=False))
    alone = len(ballot.shown) == 1
    for slot, given in sorted(ballot.ratings.items(), key=lambda one: letter[one[0]]):
        values = ", ".join(f"{name} {value}" for name, value in given.items())
        yield values if alone else f"{letter[slot]}: {values}"
    if corrected := sorted(letter[slot] for slot in ballot.corrections):
        yield "corrected" if alone else f"{' and '.join(corrected)} corrected"
    if ballot.spans:
        yield f"{len(ballot.spans)} place{'s' if len(ballot.spans) > 1 else ''} marked"


def corrected(ballot: Ballot) -> list[tuple[str, str, str]]:
    """Of each corrected answer the letter, the text as it was and as it was corrected."""
    found = zip(ballot.shown, panes(ballot), strict=True)
    return [
        (pane.letter, lines_as_python(pane.text), ballot.corrections[str(slot)])
        for slot, pane in found
        if str(slot) in ballot.corrections
    ]


def marked(ballot: Ballot) -> list[tuple[str, str, str, str]]:
    """Of each marked place the answer's letter, the words, the label and the note."""
    texts = dict(zip(ballot.shown, panes(ballot), strict=True))
    return [
        (
            texts[span["slot"]].letter,
            texts[span["slot"]].text[span["start"] : span["end"]],
            asking.SPAN_LABELS[span["label"]],
            span.get("note", ""),
        )
        for span in ballot.spans
    ]
