"""What the ballot page shows, and how what is clicked there becomes a ranking of slots.

Answers are lettered by their place on the screen; only here do letters meet slots, in both
directions, so that the order shown and the order stored cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase

from plumbline.collect.models import Ballot
from plumbline.collect.queue import Verdict

STRENGTHS = {1: "slightly better", 2: "better", 3: "much better"}
TIE, ALL_BAD = "tie", "bad"


@dataclass(frozen=True)
class Pane:
    letter: str
    text: str
    cut_off: bool  # generation stopped at the length limit


def panes(ballot: Ballot) -> list[Pane]:
    """The answers in the order they are shown, and nothing that says who wrote them."""
    slots = {slot.slot: slot for slot in ballot.comparison.slots.select_related("completion")}
    return [
        Pane(letter, slots[slot].completion.text, slots[slot].completion.finish_reason == "length")
        for letter, slot in zip(ascii_uppercase, ballot.shown, strict=False)
    ]


def pair_choices() -> list[tuple[str, str]]:
    """The scale of a pair, from A to B, then both bad."""
    a = [(f"A{strength}", f"A {STRENGTHS[strength]}") for strength in (3, 2, 1)]
    b = [(f"B{strength}", f"B {STRENGTHS[strength]}") for strength in (1, 2, 3)]
    return [*a, (TIE, "Tie"), *b, (ALL_BAD, "Both bad")]


def read_pair(choice: str, shown: list[int]) -> Verdict:
    """A choice of the scale as a verdict on slots."""
    if choice == ALL_BAD:
        return Verdict(Ballot.Outcome.ALL_BAD)
    if choice == TIE:
        return Verdict(Ballot.Outcome.RANKED, ranking=[sorted(shown)])
    best = "AB".index(choice[0])
    ranking = [[shown[best]], [shown[1 - best]]]
    return Verdict(Ballot.Outcome.RANKED, ranking=ranking, strength=int(choice[1]))


def write_pair(ballot: Ballot) -> str:
    """The choice that `read_pair` would turn into this ballot; "" for one that is not a vote."""
    if ballot.outcome == Ballot.Outcome.ALL_BAD:
        return ALL_BAD
    if ballot.outcome != Ballot.Outcome.RANKED:
        return ""
    if len(ballot.ranking) == 1:
        return TIE
    return f"{'AB'[ballot.shown.index(ballot.ranking[0][0])]}{ballot.strength or 2}"


def read_places(places: list[int], shown: list[int]) -> Verdict:
    """Places typed for each answer as shown (1 is best, equal places tie)."""
    ranking = [
        sorted(slot for slot, given in zip(shown, places, strict=True) if given == place)
        for place in sorted(set(places))
    ]
    return Verdict(Ballot.Outcome.RANKED, ranking=ranking)


def sentence(ballot: Ballot) -> str:
    """What is stored, in the letters the person saw: "A better than B"."""
    if ballot.outcome == Ballot.Outcome.SKIPPED:
        return "Skipped"
    if ballot.outcome == Ballot.Outcome.ALL_BAD:
        return "Both bad" if len(ballot.shown) == 2 else "All bad"
    letter = dict(zip(ballot.shown, ascii_uppercase, strict=False))
    groups = [" = ".join(sorted(letter[slot] for slot in group)) for group in ballot.ranking]
    if len(ballot.shown) > 2:
        return " > ".join(groups)
    if len(groups) == 1:
        return "A and B tie"
    return f"{groups[0]} {STRENGTHS[ballot.strength or 2]} than {groups[1]}"
