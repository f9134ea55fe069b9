"""What is trained on, computed from what people said: votes stay as they were cast.

Votes are weighed (by rater, by age, by whether a person cast them) and counted into preferences and
rankings; preferences that an ensemble contradicts without having seen them may be turned around,
softened or given a margin (Secrets of RLHF II, arXiv:2401.06080). Whatever differs from the plain
count is told with its reason. No torch: the estimates themselves come from `align.gpu`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

Key = tuple[str, int, int]  # a preference: comparison's id, i, j
Weigh = Callable[[Mapping[str, Any]], tuple[float, bool]]  # a vote's weight; is it turned around
WIDEST = 3.0  # margin at most, in log-odds
PREFERRED = "preferred"  # the criterion that votes themselves give


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How votes become what is trained on; computed for each job, never written back.

    raters: votes weigh by their rater's estimated reliability. machines: weight of votes that no
    person cast. newest: how many times as much as older ones the newest round's votes weigh.
    flip: at most this share of the preferences, the weakest of those that an ensemble which never
    saw them contradicts, is turned around. smooth: what a contradicted preference that stays gives
    to the other side. margin: preferences ask for the margin that this ensemble sees. cap: of each
    rater's preferences, at most this share is turned.
    """

    raters: bool = False
    machines: float = 1.0
    newest: float = 1.0
    flip: float = 0.0
    smooth: float = 0.0
    margin: bool = False
    cap: float = 0.25

    @property
    def by_strength(self) -> bool:
        return bool(self.flip or self.smooth or self.margin)


@dataclass(frozen=True)
class Rater:
    """reliability: the chance that a vote is what the crowd's scores say, and not its opposite.
    note: why the weight is not what the reliability alone would give."""

    reliability: float
    votes: int
    weight: float
    turned: bool = False
    note: str = ""


@dataclass(frozen=True)
class Change:
    """A preference that is not trained on as it was counted."""

    key: Key
    p: float
    weight: float
    label: float
    trained_weight: float
    margin: float
    strength: float | None
    reason: str


def check(settings: Labels) -> None:
    """Raises ValueError with a sentence about the first setting that cannot work."""
    for name, most in (("flip", 0.5), ("smooth", 0.5), ("cap", 1.0), ("machines", 1.0)):
        if not 0 <= getattr(settings, name) <= most:
            raise ValueError(
                f"{name} must be between 0 and {most:g}, not {getattr(settings, name)}"
            )
    if not (math.isfinite(settings.newest) and settings.newest > 0):
        raise ValueError(f"newest must be above 0, not {settings.newest}")


def count(row: Mapping[str, Any], weigh: Weigh) -> dict[str, Any]:
    """A comparison's votes as preferences, their details, rankings and ratings.

    weigh: a vote -> how much it counts, and whether it is turned around. With all votes at 1 the
    preferences are the plain count. A row without votes keeps the preferences it has; votes of a
    row that says what they `count` weigh that much of it.
    """
    votes = row.get("votes")
    if votes is None:
        return dict(row)
    said: dict[tuple[int, int], list[tuple[float, float, float, float]]] = defaultdict(list)
    rankings: list[tuple[list[list[int]], float]] = []
    ratings: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for vote in votes:
        weight, turned = weigh(vote)
        weight *= row.get("counts", 1.0)
        groups = vote["ranking"][::-1] if turned else vote["ranking"]
        if groups:
            rankings.append((groups, weight))
        for k, name, value in vote.get("ratings", ()):
            ratings[k, name].append((weight, 1 - value if turned else value))
        for (i, j), (p, tie, strength) in pairs(vote).items():
            if turned:
                p, strength = 1 - p, -strength
            said[i, j].append((weight, p, tie, strength))
    preferences, details = [], []
    for (i, j), found in sorted(said.items()):
        total = sum(weight for weight, *_ in found)
        if not total:
            continue
        p, tie, strength = (sum(one[0] * one[k] for one in found) / total for k in (1, 2, 3))
        preferences.append((i, j, p, total))
        details.append((tie, strength, 0.0))
    found_row = {**row, "preferences": preferences, "details": details, "rankings": rankings}
    return {**found_row, "ratings": _means(ratings)} if ratings else found_row


def _means(
    ratings: Mapping[tuple[int, str], Sequence[tuple[float, float]]],
) -> list[tuple[int, str, float, float]]:
    """Of each answer by each criterion, the weighted mean of its ratings and their weight."""
    means = []
    for (k, name), given in sorted(ratings.items()):
        if total := sum(weight for weight, _ in given):
            means.append((k, name, sum(weight * value for weight, value in given) / total, total))
    return means


def pairs(vote: Mapping[str, Any]) -> dict[tuple[int, int], tuple[float, float, float]]:
    """By pair i < j: P(i > j), a tie counting half; whether it is a tie; the strength, signed, in
    thirds, 0 where it is not told."""
    place = {k: rank for rank, group in enumerate(vote["ranking"]) for k in group}
    if vote["p"] is not None and set(place) == {0, 1}:
        return {(0, 1): (vote["p"], 0.0, 0.0)}
    third = (vote["strength"] or 0) / 3
    found = {}
    for i, j in combinations(sorted(place), 2):
        ahead = (place[i] < place[j]) - (place[i] > place[j])
        found[i, j] = (0.5 + ahead / 2, float(ahead == 0), third * ahead)
    return found


def weigher(settings: Labels, raters: Mapping[str, Rater]) -> Weigh:
    """What a vote counts under some settings, for `count`."""

    def weigh(vote: Mapping[str, Any]) -> tuple[float, bool]:
        rater = raters.get(vote["rater"])
        weight = rater.weight if rater else 1.0
        weight *= 1.0 if vote["human"] else settings.machines
        weight *= settings.newest if vote["age"] == 0 else 1.0
        return weight, bool(rater and rater.turned)

    return weigh


def plainly(vote: Mapping[str, Any]) -> tuple[float, bool]:
    """A vote as it was cast, for `count`."""
    return 1.0, False


def by_people(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Held-out rows keep people's votes alone, if there are any; training rows stay as they are."""

    def human(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [vote for vote in row.get("votes", ()) if vote["human"]]

    if not any(row["heldout"] and human(row) for row in rows):
        return list(rows)
    kept = []
    for row in rows:
        if not row["heldout"] or "votes" not in row:
            kept.append(row)
        elif human(row):
            kept.append(count({**row, "votes": human(row)}, plainly))
    return kept


def relabel(
    rows: Sequence[Mapping[str, Any]], strengths: Mapping[Key, float], settings: Labels
) -> tuple[list[dict[str, Any]], list[Change]]:
    """Training rows with preferences turned, softened and given margins, and what was changed.

    strengths: log-odds of i over j by models that were fitted without the preference's prompt.
    Preferences without a strength, and held-out rows, stay.
    """
    flips = _flips(rows, strengths, settings)
    found: list[dict[str, Any]] = []
    changes: list[Change] = []
    for row in rows:
        if row["heldout"]:
            found.append(dict(row))
            continue
        details = row.get("details") or [(0.0, 0.0, 0.0)] * len(row["preferences"])
        kept, told = [], []
        for (i, j, p, weight), (tie, strength, _) in zip(row["preferences"], details, strict=True):
            key = (row["id"], i, j)
            u = strengths.get(key)
            label, margin, reason = _label(p, u, key in flips, settings)
            turned = key in flips
            kept.append((i, j, label, weight))
            told.append((tie, -strength if turned else strength, margin))
            if reason:
                changes.append(Change(key, p, weight, label, weight, margin, u, reason))
        found.append({**row, "preferences": kept, "details": told})
    return found, changes


def changes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """Preferences of training rows that weighing changed: their label, or how much they count."""
    found = []
    for old, new in zip(before, after, strict=True):
        if old["heldout"]:
            continue
        now = {(i, j): (p, weight) for i, j, p, weight in new["preferences"]}
        for i, j, p, weight in old["preferences"]:
            label, counts = now.get((i, j), (p, 0.0))
            if abs(label - p) > 1e-9 or abs(counts - weight) > 1e-9:
                key = (old["id"], i, j)
                found.append(Change(key, p, weight, label, counts, 0.0, None, "votes weighed"))
    return found


def rated(
    rows: Iterable[Mapping[str, Any]], from_votes: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows with ratings, and the criteria that people rated by. `from_votes`: an answer's one
    rating is the share of the others that it beat, by all votes on it.

    Raises ValueError where people's ratings are asked for and nobody that is learned from gave any.
    """
    listed = [dict(row) for row in rows]
    if not from_votes:
        given = [row.get("ratings", ()) for row in listed if not row["heldout"]]
        criteria = sorted({name for ratings in given for _, name, *_ in ratings})
        if not criteria:
            raise ValueError(
                "nobody has rated an answer yet: ask people for ratings by criteria of the "
                "campaign's own, or let the objective learn from votes"
            )
        return listed, criteria
    for row in listed:
        won: Counter[int] = Counter()
        met: Counter[int] = Counter()
        for i, j, p, weight in row["preferences"]:
            won.update({i: weight * p, j: weight * (1 - p)})
            met.update({i: weight, j: weight})
        row["ratings"] = [(k, PREFERRED, won[k] / met[k], met[k]) for k in sorted(met) if met[k]]
    return listed, [PREFERRED]


def discounted(
    raters: Mapping[str, Rater],
    votes: Mapping[str, Mapping[Key, float]],
    verdicts: Mapping[Key, float],
) -> dict[str, Rater]:
    """Raters whose doubtful reliability is a taste that others share get their full weight back.

    Who guesses, or says the opposite of everybody, agrees with others of the kind at most as often
    as with the crowd, or against it. Where raters below 0.7 agree with each other on preferences
    that both voted on more often than that (the lower end of Wilson's 95 % interval), they share a
    taste: they are told of and not discounted. A taste that is the crowd's opposite everywhere
    cannot be told from malice by votes alone. votes: by rater, P(i > j) by preference. verdicts:
    the crowd's log-odds.
    """
    doubtful = [name for name, one in raters.items() if one.reliability < 0.7]
    found = dict(raters)
    for name in doubtful:
        mine = {key: p > 0.5 for key, p in votes[name].items() if p != 0.5}
        if not mine:
            continue
        against = sum(side != (verdicts[key] > 0) for key, side in mine.items()) / len(mine)
        agreed = met = 0
        for other in doubtful:
            if other == name:
                continue
            for key in mine.keys() & votes[other].keys():
                if (theirs := votes[other][key]) != 0.5:
                    met += 1
                    agreed += mine[key] == (theirs > 0.5)
        if met >= 10 and wilson_low(agreed, met) > max(against, 1 - against):
            note = f"not discounted: agrees with other doubted raters on {agreed} of {met}"
            found[name] = replace(raters[name], weight=1.0, turned=False, note=note)
    return found


def _label(p: float, u: float | None, turned: bool, settings: Labels) -> tuple[float, float, str]:
    """What is trained on instead of P(i > j): the label, its margin, and why."""
    if u is None or p == 0.5:
        return p, 0.0, ""
    ahead = u if p > 0.5 else -u  # for what people said
    reasons = []
    if turned:
        p, ahead = 1 - p, -ahead
        reasons.append("turned around")
    elif ahead < 0 and settings.smooth:
        p = (1 - settings.smooth) * p + settings.smooth * (1 - p)
        reasons.append("softened")
    margin = 0.0
    if settings.margin and ahead > 0:
        margin = min(ahead, WIDEST) * (1 if p > 0.5 else -1)
        reasons.append("margin")
    return p, margin, ", ".join(reasons)


def _flips(
    rows: Sequence[Mapping[str, Any]], strengths: Mapping[Key, float], settings: Labels
) -> set[Key]:
    """The preferences to turn around: the most contradicted first, within the share and the cap."""
    contradicted: list[tuple[float, Key, tuple[str, ...]]] = []
    asked: Counter[str] = Counter()
    total = 0
    for row in rows:
        if row["heldout"]:
            continue
        for i, j, p, _ in row["preferences"]:
            u = strengths.get((row["id"], i, j))
            if u is None or p == 0.5:
                continue
            total += 1
            ahead = u if p > 0.5 else -u
            voters = tuple(vote["rater"] for vote in row.get("votes", ()))
            asked.update(voters)
            if ahead < 0:
                contradicted.append((ahead, (row["id"], i, j), voters))
    room = int(settings.flip * total)
    turned: set[Key] = set()
    flipped: Counter[str] = Counter()
    for _, key, voters in sorted(contradicted):
        if len(turned) == room:
            break
        if all(flipped[voter] < settings.cap * asked[voter] for voter in voters):
            turned.add(key)
            flipped.update(voters)
    return turned


def wilson_low(won: float, met: int, z: float = 1.96) -> float:
    """The lower end of Wilson's 95 % interval of a share."""
    share = won / met
    middle = share + z * z / (2 * met)
    return (middle - z * math.sqrt(share * (1 - share) / met + z * z / (4 * met * met))) / (
        1 + z * z / met
    )
