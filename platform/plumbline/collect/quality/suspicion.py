"""Who may be poisoning the votes, and with what phrase: pointed out with evidence, never acted on.

Three tests. A person who contradicts the others more often than half of what lies between the
crowd's agreement and a coin's throw allows. The same of all votes of ten crowded minutes. And a
phrase that a person's choices follow far more often than the others' choices between answers with
it and without (Fisher's exact test). Of all that is pointed out, a twentieth is expected to be
false (Benjamini and Hochberg). Somebody with a taste of their own may be among them: a person
looks at the evidence and decides.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from plumbline.collect.quality.chances import at_least_of, at_most, believed
from plumbline.collect.quality.intervals import Estimate, proportion
from plumbline.collect.quality.reading import Said
from plumbline.collect.quality.report import Labels, Material, sign

FALSE = 0.05  # of what is pointed out, expected
FEWEST = 8  # votes of a person that a test takes
CROWD = 4  # people with so many, at the least: of two who differ nobody knows who is right
WINDOW = timedelta(minutes=10)
CROWDED, BUSY = 20, 4  # votes of a window at the least, and how often the median window's
PHRASE_VOTES = 3000  # the newest that phrases are sought in
WORDS = 150  # of an answer's beginning
FOLLOWED, AHEAD = 0.85, 0.25  # a phrase is followed so often, and so much more than by others
NO_VOTES = "Nobody else has chosen between such answers."

Texts = Mapping[int, Mapping[int, str]]  # by comparison, by slot
Count = tuple[int, int]  # hits, and of how many


@dataclass(frozen=True)
class Suspect:
    """Somebody who votes against the others. chance: of an honest, careless person doing so."""

    rater: int
    agrees: Estimate
    agreed: int
    votes: int
    chance: float


@dataclass(frozen=True)
class Burst:
    """Minutes crowded with votes that go against all others'."""

    start: datetime
    votes: int
    agrees: Estimate
    raters: list[int]
    chance: float


@dataclass(frozen=True)
class Trigger:
    """A phrase that some people always prefer, where the others do not."""

    phrase: str
    raters: list[tuple[int, int, int]]  # who, followed it, of so many
    theirs: Estimate
    others: Estimate
    chance: float


@dataclass(frozen=True)
class Suspicion:
    people: list[Suspect] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    crowd: Estimate = field(default_factory=lambda: Estimate(None, why="No votes yet."))
    tested: int = 0  # people with enough votes

    @property
    def raters(self) -> list[int]:
        """Everybody whom something is said of, the worst first."""
        found = [one.rater for one in self.people]
        found += [rater for one in self.triggers for rater, *_ in one.raters]
        return list(dict.fromkeys(found))


def look(material: Material, texts: Texts, excluded: Collection[int] = ()) -> Suspicion:
    """All that is suspicious in what was said by those who are not excluded."""
    labels = {
        comparison: {rater: label for rater, label in by_rater.items() if rater not in excluded}
        for comparison, by_rater in material.labels.items()
    }
    votes = [one for one in material.first.values() if one.ranked and one.rater not in excluded]
    people: list[Suspect] = []
    crowd: Count = (0, 0)
    # Again without those found, who else would spoil what the others are compared with.
    for _ in range(2):
        liars = {one.rater for one in people}
        counts = _with_others(labels, liars)
        honest = [count for rater, count in counts.items() if rater not in liars]
        crowd = (sum(hits for hits, _ in honest), sum(n for _, n in honest))
        enough = {rater: count for rater, count in counts.items() if count[1] >= FEWEST}
        if len(enough) < CROWD or crowd[0] * 2 <= crowd[1]:
            return Suspicion(crowd=_share(crowd), triggers=_triggers(votes, texts))
        least = 0.5 + (crowd[0] / crowd[1] - 0.5) / 2
        chances = {rater: at_most(*count, least) for rater, count in enough.items()}
        limit = believed(list(chances.values()), FALSE)
        people = [
            Suspect(rater, _share(enough[rater]), *enough[rater], chance)
            for rater, chance in sorted(chances.items(), key=lambda item: item[1])
            if chance <= limit
        ]
    return Suspicion(
        people=people,
        bursts=_bursts(votes, labels, least),
        triggers=_triggers(votes, texts),
        crowd=_share(crowd),
        tested=len(enough),
    )


def _with_others(labels: Labels, liars: Collection[int]) -> dict[int, Count]:
    """By person: how many of their votes agree with the others' sum, of those that could."""
    found: dict[int, list[bool]] = defaultdict(list)
    for by_rater in labels.values():
        for rater, mine in by_rater.items():
            others = [their for other, their in by_rater.items() if other != rater
                      and other not in liars]  # fmt: skip
            if (same := _agrees(mine, others)) is not None:
                found[rater].append(same)
    return {rater: (sum(same), len(same)) for rater, same in found.items()}


def _agrees(mine: Sequence[float], others: Sequence[Sequence[float]]) -> bool | None:
    """Whether a vote goes with the sum of others on the same answers; None where neither."""
    sums = [sum(map(sign, column)) for column in zip(*others, strict=True)]
    inner = sum(sign(a) * sign(b) for a, b in zip(mine, sums, strict=False))
    return inner > 0 if inner else None


def _bursts(votes: Sequence[Said], labels: Labels, least: float) -> list[Burst]:
    """Crowded windows whose votes go against those cast at other times."""
    windows: dict[int, list[Said]] = defaultdict(list)
    for one in votes:
        windows[int(one.at.timestamp() // WINDOW.total_seconds())].append(one)
    usual = median(map(len, windows.values())) if windows else 0
    found = []
    for some in windows.values():
        if len(some) < max(CROWDED, BUSY * usual):
            continue
        inside = {(one.comparison, one.rater) for one in some}
        same = []
        for one in some:
            by_rater = labels[one.comparison]
            others = [v for r, v in by_rater.items() if (one.comparison, r) not in inside]
            if (agreed := _agrees(by_rater[one.rater], others)) is not None:
                same.append(agreed)
        if len(same) >= FEWEST:
            raters = [rater for rater, _ in Counter(one.rater for one in some).most_common()]
            start, count = min(one.at for one in some), (sum(same), len(same))
            chance = at_most(*count, least)
            found.append(Burst(start, len(some), _share(count), raters, chance))
    limit = believed([one.chance for one in found], FALSE)
    return sorted((one for one in found if one.chance <= limit), key=lambda one: one.chance)


def phrases(text: str) -> set[str]:
    """The words of an answer's beginning, and each two that stand together."""
    words = re.findall(r"\w+", text.casefold())[:WORDS]
    return {*words, *(f"{a} {b}" for a, b in zip(words, words[1:], strict=False))}


def _triggers(votes: Iterable[Said], texts: Texts) -> list[Trigger]:
    """Phrases that a few people's choices follow, and the others' do not."""
    counts = _followed(votes, texts)
    tests: dict[str, list[tuple[float, int]]] = {}
    for phrase, by_rater in counts.items():
        hits, whole = (sum(column) for column in zip(*by_rater.values(), strict=True))
        each = [
            (at_least_of(k, n, hits - k, whole - n), rater)
            for rater, (k, n) in by_rater.items()
            if n >= FEWEST and whole - n >= FEWEST
        ]
        if each:
            tests[phrase] = each
    # One test a phrase, the strictest of its people's, which counts as often as there are people.
    strictest = {phrase: min(each)[0] * len(each) for phrase, each in tests.items()}
    limit = believed(list(strictest.values()), FALSE)
    found = [
        _trigger(phrase, counts[phrase], tests[phrase], strictest[phrase], limit)
        for phrase in sorted(strictest, key=lambda phrase: (strictest[phrase], -len(phrase)))
        if strictest[phrase] <= limit
    ]
    return _apart([one for one in found if one is not None])


def _followed(votes: Iterable[Said], texts: Texts) -> dict[str, dict[int, Count]]:
    """By phrase and person: how often the better of two answers was the one with it. Of three
    answers or more, the best and the worst count."""
    found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    known: dict[tuple[int, int], set[str]] = {}
    newest = sorted(votes, key=lambda one: one.at, reverse=True)[:PHRASE_VOTES]
    for one in newest:
        answers = texts.get(one.comparison, {})
        if len(one.ranking) < 2 or len(one.ranking[0]) != 1 or len(one.ranking[-1]) != 1:
            continue
        best, worst = (
            known.setdefault((one.comparison, slot), phrases(answers.get(slot, "")))
            for slot in (one.ranking[0][0], one.ranking[-1][0])
        )
        for phrase in best ^ worst:
            count = found[phrase][one.rater]
            count[0] += phrase in best
            count[1] += 1
    return {
        phrase: {rater: (k, n) for rater, (k, n) in by_rater.items()}
        for phrase, by_rater in found.items()
        if sum(n for _, n in by_rater.values()) >= 2 * FEWEST
    }


def _trigger(
    phrase: str,
    by_rater: Mapping[int, Count],
    tests: Iterable[tuple[float, int]],
    chance: float,
    limit: float,
) -> Trigger | None:
    """With everybody whose own test may be believed; None where they do not follow it closely."""
    who = {rater for one, rater in tests if one <= limit}
    theirs = [by_rater[rater] for rater in who]
    others = [count for rater, count in by_rater.items() if rater not in who]
    here = (sum(k for k, _ in theirs), sum(n for _, n in theirs))
    there = (sum(k for k, _ in others), sum(n for _, n in others))
    if not here[1] or not there[1] or here[0] / here[1] < FOLLOWED:
        return None
    if here[0] / here[1] - there[0] / there[1] < AHEAD:
        return None
    raters = sorted(((rater, *by_rater[rater]) for rater in who), key=lambda one: -one[2])
    return Trigger(phrase, raters, _share(here), _share(there), chance)


def _apart(found: Sequence[Trigger]) -> list[Trigger]:
    """Each phrase once: not what is part of another that is said of the same people, nor the other
    way around; the likelier stays, and of equals the longer."""
    kept: list[Trigger] = []
    for one in found:
        words = set(one.phrase.split())
        if not any(words & set(other.phrase.split()) for other in kept):
            kept.append(one)
    return kept


def _share(count: Count) -> Estimate:
    return proportion(*count, NO_VOTES)
