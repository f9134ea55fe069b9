"""A campaign's figures and each person's, from what was said; pure functions for the pages.

Labels name answers by their slot, which the screen's order does not touch; repeats keep the slots
of what they repeat. Agreement and bias come from comparisons asked in earnest alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import combinations
from statistics import median

from plumbline.collect.quality import agreement, position, skill, speed
from plumbline.collect.quality.agreement import Cluster
from plumbline.collect.quality.intervals import Estimate, bootstrap, proportion
from plumbline.collect.quality.position import Bias, Sided
from plumbline.collect.quality.reading import Gold, Said
from plumbline.collect.quality.settings import Quality
from plumbline.collect.quality.skill import Skill
from plumbline.collect.votes import COUNTED

WEEKS = 8
ALIKE = 0.5  # steps of a scale by which ratings asked again may differ, on the average
PACE_FROM = 5  # votes with a measured time that a pace takes
Labels = dict[int, dict[int, tuple[float, ...]]]  # by comparison, by person: one a pair of answers
Ratings = Mapping[str, Mapping[str, int]]  # by slot, by criterion
NO_VOTES = "No votes yet."
NO_REPEATS = "No vote has been asked a second time yet."
NO_DUPLICATES = "No planted duplicate has been answered yet."


@dataclass(frozen=True)
class Week:
    """How a week went, from its Monday; None for what had nothing to go by."""

    monday: date
    votes: int
    agreement: float | None
    gold: float | None
    ties: float | None
    seconds: float | None


@dataclass(frozen=True)
class Figures:
    """What is known of some votes: of one person's, or of everybody's."""

    votes: int
    skipped: int
    flagged: int
    agreement: Estimate  # with others on the same comparisons: the share of pairs of people
    gold: Skill
    duplicates: Estimate  # called a tie, as they should be
    repeats: Estimate  # said the same of a vote asked again
    ties: Estimate
    all_bad: Estimate
    fast: Estimate  # below the reading-time floor
    bias: Bias | None
    seconds: float | None  # the median vote's active time
    per_hour: float | None  # votes an hour of active time
    weeks: list[Week]

    @property
    def slips(self) -> float | None:
        """How often one vote is not what its voter would say again: two votes that slip
        independently differ 2 e (1 - e) of the time."""
        same = self.repeats.value
        if same is None:
            return None
        return (1 - (2 * same - 1) ** 0.5) / 2 if same > 0.5 else 0.5


@dataclass(frozen=True)
class Person:
    rater: int
    figures: Figures
    order: Estimate  # mean tau-b with others' rankings, where there are three answers or more
    fails: bool  # the pause rule speaks
    leans: bool  # the left-bias alert speaks


@dataclass(frozen=True)
class Report:
    everybody: Figures
    people: list[Person]  # most votes first
    shared: int  # comparisons that two people or more have ranked
    alpha: Estimate
    graded: Estimate  # ordinal alpha of how much better
    ac1: Estimate
    cohen: Estimate  # where two people voted
    graded_cohen: Estimate
    concordance: Estimate  # Kendall's W, where there are three answers or more
    rated: list[tuple[str, Estimate]]  # ordinal alpha of ratings, by criterion
    leans: bool


@dataclass
class Material:
    """What was said and what is needed to judge it."""

    said: Sequence[Said]
    golds: Mapping[int, Gold]
    characters: Mapping[int, int]
    quality: Quality
    labels: Labels = field(init=False)
    sided: list[Sided] = field(init=False)
    first: dict[tuple[int, int], Said] = field(init=False)
    rankings: list[Said] = field(init=False)  # of three answers or more

    def __post_init__(self) -> None:
        self.labels, self.sided, self.first, self.rankings = defaultdict(dict), [], {}, []
        for one in self.said:
            if one.kind not in COUNTED:
                continue
            self.first[one.comparison, one.rater] = one
            if one.ranked:
                self.labels[one.comparison][one.rater] = labels(one)
                if len(one.shown) > 2:
                    self.rankings.append(one)
                if (vote := sided(one)) is not None:
                    self.sided.append(vote)


def report(material: Material, excluded: Collection[int] = ()) -> Report:
    """Everything a campaign's page shows. People in `excluded` have figures of their own, but
    nobody else's figures rest on their votes."""
    kept = [one for one in material.said if one.rater not in excluded] if excluded else None
    counted = (
        material
        if kept is None
        else Material(kept, material.golds, material.characters, material.quality)
    )
    bias = position.overall(counted.sided)
    biases = position.by_rater(material.sided, bias) if bias else {}
    by_person: dict[int, list[Said]] = defaultdict(list)
    for one in material.said:
        by_person[one.rater].append(one)
    people = [
        person(material, rater, theirs, biases.get(rater)) for rater, theirs in by_person.items()
    ]
    people.sort(key=lambda one: (-one.figures.votes, one.rater))
    signs = clusters(counted.labels, sign)
    two = two_people(counted.labels)
    threshold = counted.quality.left_bias
    return Report(
        everybody=figures(counted, counted.said, bias, agreement.raw(signs)),
        people=people,
        shared=sum(len(by_rater) > 1 for by_rater in counted.labels.values()),
        alpha=agreement.alpha(signs, exchangeable=True),
        graded=agreement.alpha(clusters(counted.labels), "ordinal", exchangeable=True),
        ac1=agreement.ac1(signs, exchangeable=True),
        cohen=agreement.cohen(_signed(two), exchangeable=True),
        graded_cohen=agreement.cohen(two, "quadratic", exchangeable=True),
        concordance=agreement.kendall_w(_rankings(counted.rankings)),
        rated=by_criterion(counted.first.values()),
        leans=bias is not None and bias.alerts(threshold),
    )


def person(
    material: Material, rater: int, theirs: Sequence[Said], bias: Bias | None = None
) -> Person:
    """One person's figures; agreement is with everybody else on the same comparisons."""
    found = figures(material, theirs, bias, with_others(material.labels, rater))
    return Person(
        rater,
        found,
        order=rankings_with_others(material, rater),
        fails=skill.must_pause(found.gold, material.quality),
        leans=bias is not None and bias.alerts(material.quality.left_bias),
    )


def figures(
    material: Material, some: Sequence[Said], bias: Bias | None, agreed: Estimate
) -> Figures:
    votes = [one for one in some if one.kind in COUNTED and one.is_vote]
    asked = [one for one in some if one.kind in COUNTED]
    passed = gold_passed(material.golds, some)
    same = [ok for one in some if (ok := repeated(material.first, one)) is not None]
    ties = [one for one in votes if one.ranked]
    bad = sum(one.outcome == "all_bad" for one in votes)
    timed = [one for one in some if one.is_vote and one.active_ms is not None]
    fast = sum(is_fast(material, one) for one in timed)
    seconds = [one.active_ms / 1000 for one in timed if one.active_ms is not None]
    paced = len(seconds) >= PACE_FROM and sum(seconds) > 0
    duplicates = [ok for gold, ok in passed if gold.is_duplicate]
    return Figures(
        votes=len(votes),
        skipped=sum(one.outcome == "skipped" for one in asked),
        flagged=sum(one.outcome == "flagged" for one in asked),
        agreement=agreed,
        gold=skill.of(
            material.quality,
            sum(ok for _, ok in passed),
            sum(not ok for _, ok in passed),
        ),
        duplicates=proportion(sum(duplicates), len(duplicates), NO_DUPLICATES),
        repeats=proportion(sum(same), len(same), NO_REPEATS),
        ties=proportion(sum(is_tie(one) for one in ties), len(ties), NO_VOTES),
        all_bad=proportion(bad, len(votes), NO_VOTES),
        fast=proportion(fast, len(timed), "No vote has a measured time yet."),
        bias=bias,
        seconds=median(seconds) if seconds else None,
        per_hour=3600 * len(seconds) / sum(seconds) if paced else None,
        weeks=weeks(material, some),
    )


def labels(one: Said) -> tuple[float, ...]:
    """For each pair of slots i < j: +s where i was preferred, -s where j, 0 for a tie; s is the
    strength of a pair's vote, else 1."""
    place = {slot: at for at, group in enumerate(one.ranking) for slot in group}
    size = (one.strength or 2) if len(place) == 2 else 1
    return tuple(
        float(size * ((place[i] < place[j]) - (place[i] > place[j])))
        for i, j in combinations(sorted(place), 2)
    )


def sign(label: float) -> float:
    return float((label > 0) - (label < 0))


def sided(one: Said) -> Sided | None:
    """The vote as a choice of a side; None for a tie, and for three answers or more."""
    if len(one.shown) != 2 or len(one.ranking) != 2:
        return None
    left = one.shown[0]
    return Sided(one.comparison, one.rater, left == 0, one.ranking[0] == [left])


def clusters(
    found: Labels, recode: Callable[[float], float] = lambda label: label
) -> list[Cluster]:
    """Labels as comparisons of units: one unit a pair of answers, one label in it a person."""
    return [
        [tuple(map(recode, unit)) for unit in zip(*by_rater.values(), strict=True)]
        for by_rater in found.values()
    ]


def by_criterion(said: Iterable[Said]) -> list[tuple[str, Estimate]]:
    """How far people's ratings of the same answers agree: one unit an answer."""
    found: dict[str, dict[int, dict[str, list[float]]]] = defaultdict(dict)
    for one in said:
        for slot, given in one.ratings.items() if one.is_vote else ():
            for name, value in given.items():
                answers = found[name].setdefault(one.comparison, defaultdict(list))
                answers[slot].append(float(value))
    return [
        (name, agreement.alpha([[*map(tuple, one.values())] for one in rated.values()], "ordinal"))
        for name, rated in sorted(found.items())
    ]


def two_people(found: Labels) -> list[Cluster]:
    """The comparisons judged by both, where the campaign's votes are of exactly two people."""
    people = sorted({rater for by_rater in found.values() for rater in by_rater})
    if len(people) != 2:
        return []
    one, two = people
    return [
        list(zip(by_rater[one], by_rater[two], strict=True))
        for by_rater in found.values()
        if len(by_rater) == 2
    ]


def with_others(found: Labels, rater: int) -> Estimate:
    """How often another person said the same as this one, over comparisons both have judged."""
    terms = []
    for by_rater in found.values():
        mine = by_rater.get(rater)
        if mine is None or len(by_rater) < 2:
            continue
        same = [
            sign(a) == sign(b)
            for other, theirs in by_rater.items()
            if other != rater
            for a, b in zip(mine, theirs, strict=True)
        ]
        terms.append((sum(same) / len(same), 1.0))
    return bootstrap(terms, lambda sums: sums[0] / sums[1], agreement.NO_SHARED)


def rankings_with_others(material: Material, rater: int) -> Estimate:
    """Mean Kendall's tau-b of this person's rankings with each other person's."""
    mine = {one.comparison: one for one in material.rankings if one.rater == rater}
    found: dict[int, list[float]] = defaultdict(list)
    for other in material.rankings if mine else ():
        own = mine.get(other.comparison)
        if own is None or other.rater == rater:
            continue
        tau = agreement.tau_b(agreement.places(own.ranking), agreement.places(other.ranking))
        if tau is not None:
            found[own.comparison].append(tau)
    terms = [(sum(taus) / len(taus), 1.0) for taus in found.values()]
    return bootstrap(terms, lambda sums: sums[0] / sums[1], agreement.NO_ORDER)


def gold_passed(golds: Mapping[int, Gold], some: Iterable[Said]) -> list[tuple[Gold, bool]]:
    """Each known comparison that was answered and is undisputed, and whether rightly."""
    found = []
    for one in some:
        gold = golds.get(one.comparison)
        if gold is None or gold.disputed:
            continue
        passed = skill.answers(gold.expected, one.outcome, one.ranking, one.ratings)
        if passed is not None:
            found.append((gold, passed))
    return found


def repeated(first: Mapping[tuple[int, int], Said], again: Said) -> bool | None:
    """Whether a repeat says what the same person said the first time; None where one of the two is
    no vote. Of a ranking it is the order that counts, strength aside; where people only rate, the
    ratings, which may differ by half a step on the average."""
    if again.repeats is None or not again.is_vote:
        return None
    before = first.get((again.repeats, again.rater))
    if before is None or not before.is_vote:
        return None
    if before.outcome != again.outcome:
        return False
    if again.outcome == "absolute":
        return _drift(before.ratings, again.ratings) <= ALIKE
    return list(map(sign, labels(before))) == list(map(sign, labels(again)))


def _drift(before: Ratings, again: Ratings) -> float:
    """How far apart two people's ratings, or one person's two, are on the average, in steps."""
    apart = [
        abs(value - again[slot][name])
        for slot, given in before.items()
        for name, value in given.items()
        if name in again.get(slot, {})
    ]
    return sum(apart) / len(apart) if apart else 0.0


def is_tie(one: Said) -> bool:
    return one.ranked and len(one.ranking) == 1


def is_fast(material: Material, one: Said) -> bool:
    length = material.characters.get(one.comparison, 0)
    return speed.too_fast(one.active_ms, length, material.quality)


def weeks(material: Material, some: Sequence[Said]) -> list[Week]:
    """The latest weeks in which anything was said, oldest first."""
    by_week: dict[date, list[Said]] = defaultdict(list)
    for one in some:
        day = one.at.date()
        by_week[day - timedelta(days=day.weekday())].append(one)
    return [_week(material, monday, by_week[monday]) for monday in sorted(by_week)[-WEEKS:]]


def _week(material: Material, monday: date, some: Sequence[Said]) -> Week:
    votes = [one for one in some if one.kind in COUNTED and one.is_vote]
    ranked = [one for one in votes if one.ranked]
    passed = [ok for _, ok in gold_passed(material.golds, some)]
    seconds = [one.active_ms / 1000 for one in votes if one.active_ms is not None]
    same: Counter[bool] = Counter()
    for one in ranked:
        by_rater = material.labels[one.comparison]
        mine = by_rater.get(one.rater, ())
        for other, theirs in by_rater.items():
            if other != one.rater:
                same.update(sign(a) == sign(b) for a, b in zip(mine, theirs, strict=True))
    return Week(
        monday=monday,
        votes=len(votes),
        agreement=same[True] / same.total() if same else None,
        gold=sum(passed) / len(passed) if passed else None,
        ties=sum(map(is_tie, ranked)) / len(ranked) if ranked else None,
        seconds=median(seconds) if seconds else None,
    )


def _signed(found: Iterable[Cluster]) -> list[Cluster]:
    return [[tuple(map(sign, unit)) for unit in cluster] for cluster in found]


def _rankings(some: Iterable[Said]) -> list[list[list[float]]]:
    """The places of each comparison of three answers or more, by person."""
    found: dict[int, list[list[float]]] = defaultdict(list)
    for one in some:
        found[one.comparison].append(agreement.places(one.ranking))
    return list(found.values())
