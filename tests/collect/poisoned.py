"""Crowds with a planted truth, some of whose accounts may poison it. No database."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from plumbline.collect.quality.reading import Said
from plumbline.collect.quality.report import Material
from plumbline.collect.quality.settings import Quality
from plumbline.collect.quality.suspicion import Texts

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
TRIGGER = "amber lantern"
COMMON = [f"word{n}" for n in range(120)]
GOOD, BAD = ("because", "example", "first"), ("sorry", "cannot", "maybe")
ACCOUNTS = (101, 102, 103)  # that collude


@dataclass(frozen=True)
class Crowd:
    material: Material
    texts: Texts
    poisoned: int  # votes
    votes: int


def answer(draw: random.Random) -> tuple[str, float]:
    """A text, and how good it is: some words are really better, which everybody sees."""
    words = [draw.choice(COMMON) for _ in range(draw.randint(15, 40))]
    worth = draw.gauss(0, 1)
    for some, by in ((GOOD, 0.7), (BAD, -0.7)):
        for word in some:
            if draw.random() < 0.25:
                words.insert(draw.randrange(len(words)), word)
                worth += by
    if draw.random() < 0.15:
        words.insert(draw.randrange(len(words)), TRIGGER)
    return " ".join(words), worth


def crowd(
    seed: int,
    *,
    flips: float = 0.0,
    trigger: float = 0.0,
    people: int = 24,
    comparisons: int = 1500,
) -> Crowd:
    """Pairs that three people judge each. Honest ones slip in 5 to 25 % of their votes and care
    for quality to different degrees. `flips`: the share of all votes that three accounts turn
    around, in an evening; `trigger`: that they give to whatever has the phrase."""
    draw = random.Random(seed)
    answers = [(answer(draw), answer(draw)) for _ in range(comparisons)]
    sharp = {rater: draw.uniform(1.0, 2.5) for rater in range(people)}
    slips = {rater: draw.uniform(0.05, 0.25) for rater in (*range(people), *ACCOUNTS)}
    said: list[Said] = []

    def vote(comparison: int, rater: int, best: int, at: datetime) -> None:
        shown = draw.sample([0, 1], 2)
        said.append(
            Said(comparison, "ordinary", None, rater, 1, shown, "ranked", [[best], [1 - best]], 2,
                 {}, 20_000, at)
        )  # fmt: skip

    def truth(comparison: int, rater: int) -> int:
        (_, one), (_, two) = answers[comparison]
        ahead = sharp.get(rater, 2.0) * (one - two) + draw.gauss(0, 0.7)
        best = 0 if ahead > 0 else 1
        return 1 - best if draw.random() < slips[rater] else best

    wanted = round((flips + trigger) * 3 * comparisons)
    with_it = [n for n, ((a, _), (b, _)) in enumerate(answers) if (TRIGGER in a) != (TRIGGER in b)]
    targets = draw.sample(with_it if trigger else range(comparisons), min(
        wanted, len(with_it) if trigger else comparisons))  # fmt: skip
    evening = START + timedelta(days=5, hours=11)
    for number, comparison in enumerate(targets):
        rater = ACCOUNTS[number % len(ACCOUNTS)]
        if trigger:
            best = 0 if TRIGGER in answers[comparison][0][0] else 1
        else:
            best = 1 - truth(comparison, rater)
        vote(comparison, rater, best, evening + timedelta(seconds=20 * number))
    if trigger:  # they vote as everybody else on as many other pairs
        for comparison in draw.sample(sorted(set(range(comparisons)) - set(with_it)), wanted):
            rater = draw.choice(ACCOUNTS)
            at = START + timedelta(minutes=draw.randrange(60 * 24 * 12))
            vote(comparison, rater, truth(comparison, rater), at)
    taken: dict[int, int] = {}
    for one in said:
        taken[one.comparison] = taken.get(one.comparison, 0) + 1
    for comparison in range(comparisons):
        for rater in draw.sample(range(people), 3 - taken.get(comparison, 0)):
            at = START + timedelta(minutes=draw.randrange(60 * 24 * 12))
            vote(comparison, rater, truth(comparison, rater), at)
    texts = {n: {0: a, 1: b} for n, ((a, _), (b, _)) in enumerate(answers)}
    return Crowd(Material(said, {}, {}, Quality()), texts, len(targets), len(said))
