"""From votes to rows: which answer beats which, and which answers are good by themselves.

The rules, and nothing of any format's shape:

- A ranking with ties gives every strict pair; the pairs of one vote weigh 1 together.
- A tie is left out, or is both orders at half the weight, or (for single answers) both are good.
- "All bad" is no preference. For single answers it says that each is not good.
- A mark is of the best answer: good makes the first group good, bad makes every answer bad, and ok
  says neither.
- Of several votes either each speaks for itself, or the majority does.
- A corrected text is better than the answer that it corrects, where that is asked for.

Whatever gives no row is counted in `left`, by reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from plumbline.collect import votes
from plumbline.collect.models import Ballot
from plumbline.transfer.options import BOTH, EACH, HALF, MAJORITY, SKIP, Options

GOOD, OK, BAD = 3, 2, 1
Order = list[tuple[str, str, float]]  # two texts, and how far the first is ahead
Outcome = Ballot.Outcome


@dataclass(frozen=True)
class Pair:
    """`chosen` and `rejected` are texts; `vote` is the ballot's id, "" for a majority."""

    chosen: str
    rejected: str
    weight: float
    vote: str = ""


@dataclass(frozen=True)
class Single:
    slot: int
    good: bool
    vote: str = ""


def pairs(
    ballots: Sequence[Ballot], texts: Mapping[int, str], options: Options, left: Counter[str]
) -> Iterator[Pair]:
    """Who beats whom, by the options' rules."""
    if options.votes == MAJORITY:
        yield from _by_majority(ballots, texts, options.ties, left)
    for ballot in ballots:
        order = [] if options.votes == MAJORITY else _order(ballot, texts)
        if options.corrections:
            order += [(text, texts[int(slot)], 1) for slot, text in ballot.corrections.items()]
        if order:
            yield from _weighed(order, options.ties, str(ballot.pk), "votes", left)
        elif options.votes == EACH and ballot.outcome == Outcome.ALL_BAD:
            left["votes that call every answer bad: no preference"] += 1
        elif options.votes == EACH:
            left["votes that do not compare"] += 1


def singles(
    ballots: Sequence[Ballot], slots: Sequence[int], options: Options, left: Counter[str]
) -> Iterator[Single]:
    """Which answers are good or bad by themselves, by the options' rules."""
    said: dict[int, list[bool]] = defaultdict(list)
    for ballot in ballots:
        labels = _labels(ballot, slots, options, left)
        if options.votes == MAJORITY:
            for slot, good in labels.items():
                said[slot].append(good)
            continue
        for slot, good in labels.items():
            yield Single(slot, good, str(ballot.pk))
    for slot, found in sorted(said.items()):
        share = sum(found) / len(found)
        if share == 0.5:
            left["answers that as many call good as bad"] += 1
        else:
            yield Single(slot, share > 0.5)


def places(ballot: Ballot) -> dict[int, int]:
    """Slot to place, 0 being best; equal places tie."""
    return {slot: place for place, group in enumerate(ballot.ranking) for slot in group}


def _order(ballot: Ballot, texts: Mapping[int, str]) -> Order:
    if ballot.outcome != Outcome.RANKED:
        return []
    place = places(ballot)
    couples = combinations(sorted(place), 2)
    return [(texts[i], texts[j], place[j] - place[i]) for i, j in couples]


def _by_majority(
    ballots: Sequence[Ballot], texts: Mapping[int, str], ties: str, left: Counter[str]
) -> Iterator[Pair]:
    bad, judged = votes.bad_shares(ballots)
    if not judged:
        left["comparisons that nobody compared"] += 1
    elif bad > 0.5:
        left["comparisons whose answers most call bad: no preference"] += 1
    else:
        found = votes.preferences(ballots)
        order: Order = [(texts[i], texts[j], p - 0.5) for i, j, p, _ in found]
        yield from _weighed(order, ties, "", "comparisons", left)


def _weighed(order: Order, ties: str, vote: str, unit: str, left: Counter[str]) -> Iterator[Pair]:
    """Pairs that weigh 1 together."""
    different = [(a, b, ahead) for a, b, ahead in order if a != b]
    tied = sum(not ahead for _, _, ahead in different)
    count = len(different) - (tied if ties == SKIP else 0)
    if not different:
        left[f"{unit} on answers with the same text"] += 1
    elif not count:
        left[f"{unit} that are ties"] += 1
    for a, b, ahead in different:
        if ahead:
            best, worst = (a, b) if ahead > 0 else (b, a)
            yield Pair(best, worst, 1 / count, vote)
        elif ties == HALF:
            yield Pair(a, b, 0.5 / count, vote)
            yield Pair(b, a, 0.5 / count, vote)


def _labels(
    ballot: Ballot, slots: Sequence[int], options: Options, left: Counter[str]
) -> dict[int, bool]:
    """What one vote says of each answer by itself; {} after counting why it says nothing."""
    if ballot.outcome == Outcome.ALL_BAD or ballot.mark == BAD:
        return dict.fromkeys(slots, False)
    best = ballot.ranking[0] if ballot.ranking else list(slots) if len(slots) == 1 else []
    if ballot.mark == GOOD and best:
        return dict.fromkeys(best, True)
    if len(ballot.ranking) == 1 and len(slots) > 1 and options.ties == BOTH:
        return dict.fromkeys(slots, True)
    if ballot.mark == OK:
        left["votes whose best answer is neither good nor bad"] += 1
    elif not options.pairs:
        left["votes without an absolute mark"] += 1
    elif ballot.outcome != Outcome.RANKED:
        left["votes that do not compare"] += 1
    elif len(ballot.ranking) < 2:
        left["votes that are ties"] += 1
    else:
        first, last = ballot.ranking[0], ballot.ranking[-1]
        return {**dict.fromkeys(first, True), **dict.fromkeys(last, False)}
    return {}
