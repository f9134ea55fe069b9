"""What is known of a reward model, as JSON for its page: pure functions of votes and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from align.measure import confounds, distance, intervals, pairs
from align.measure.confounds import Scored
from align.measure.intervals import Interval
from align.measure.pairs import UNKNOWN, Belief, Pair
from plumbline.loop import holdout
from plumbline.loop.unseen import Vote

RESAMPLES = 200
Scores = Mapping[UUID, float]
SLICES = {
    "people": "People's held-out votes",
    holdout.TEST: "Test prompts",
    holdout.PROMPTS: "Other held-out prompts",
    holdout.ANNOTATORS: "Held-out annotators",
    "fresh": "This round's held-out votes",
    "shorter": "Where people chose the shorter answer",
    "artificial": "AI judges' and imported votes",
}


@dataclass(frozen=True)
class Change:
    """The new model's figures less the last one's on the same votes and answers; their distance."""

    accuracy: Interval | None
    ece: Interval | None
    length: Interval | None
    apart: distance.Distance | None

    def json(self) -> dict[str, Any]:
        return {
            "accuracy": as_json(self.accuracy),
            "ece": as_json(self.ece),
            "length": as_json(self.length),
            "distance": as_json(self.apart.starc) if self.apart else None,
            "tau": self.apart.tau if self.apart else None,
        }


def temperature(votes: Sequence[Vote], scores: Scores, before: Belief = UNKNOWN) -> float:
    """What the model's differences of scores are divided by to be log-odds, by people's held-out
    votes but those on test prompts, which it is judged by, and by what was thought of it before.
    `votes` as for `report`.

    A pair counts once, by the share of its votes: how far a model is off on one pair is no more
    evidence of its temperature when five people say so."""
    found = [vote for vote in votes if vote.people and vote.part != holdout.TEST]
    return pairs.shrunk_temperature(as_pairs(once(found), scores), before)


def once(votes: Sequence[Vote]) -> list[Vote]:
    """All that was said of two answers as one vote for a share, of weight 1 at most."""
    found: dict[tuple[UUID, UUID], list[Vote]] = {}
    for vote in votes:
        turned = vote.second.int < vote.first.int
        key = (vote.second, vote.first) if turned else (vote.first, vote.second)
        found.setdefault(key, []).append(turned_around(vote) if turned else vote)
    merged = []
    for some in found.values():
        total = sum(vote.weight for vote in some)
        if total:
            p = sum(vote.weight * vote.p for vote in some) / total
            merged.append(replace(some[0], p=p, weight=min(1.0, total)))
    return merged


def turned_around(vote: Vote) -> Vote:
    """The same with the answers in the other order."""
    return replace(vote, first=vote.second, second=vote.first, p=1 - vote.p, longer=-vote.longer)


def report(
    votes: Sequence[Vote],
    scores: Scores,
    answers: Mapping[UUID, Scored],
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Slices with intervals, calibration and what the scores follow besides quality. `votes` must
    be ones that the model has not trained on. All probabilities are at the temperature; those said
    to be raw are at 1."""
    people = [vote for vote in votes if vote.people]
    test = [vote for vote in people if vote.part == holdout.TEST]
    used, raw = (as_pairs(people, scores, one) for one in (temperature, 1.0))
    found = list(answers.values())
    return {
        "slices": slices(votes, scores, temperature),
        "reliability": _curve(used),
        "reliability_raw": _curve(raw),
        "temperature": temperature,
        "ece": pairs.ece(used),
        "ece_raw": pairs.ece(raw),
        "test_ece": pairs.ece(as_pairs(test, scores, temperature)),
        "test_ece_raw": pairs.ece(as_pairs(test, scores)),
        "length": as_json(confounds.length_correlation(found)),
        "style": {k: as_json(v) for k, v in confounds.style_correlations(found).items()},
    }


def slices(votes: Sequence[Vote], scores: Scores, temperature: float = 1.0) -> list[dict[str, Any]]:
    """Figures of every slice that has votes, in the order of SLICES."""
    people = [vote for vote in votes if vote.people]
    chosen = {
        "people": people,
        **{
            part: [vote for vote in people if vote.part == part]
            for part in (holdout.TEST, holdout.PROMPTS, holdout.ANNOTATORS)
        },
        "fresh": [vote for vote in people if vote.fresh],
        "shorter": [vote for vote in people if vote.longer * (vote.p - 0.5) < 0],
        "artificial": [vote for vote in votes if not vote.people],
    }
    return [
        {"name": name, **slice_figures(chosen[name], scores, temperature)}
        for name in SLICES
        if chosen[name]
    ]


def slice_figures(
    votes: Sequence[Vote], scores: Scores, temperature: float = 1.0
) -> dict[str, Any]:
    """Accuracy with its interval, log-loss and calibration error of some votes."""
    found = as_pairs(votes, scores, temperature)
    return {
        "votes": sum(pair.weight for pair in found),
        "accuracy": as_json(intervals.interval(found, pairs.accuracy, RESAMPLES)),
        "log_loss": as_json(intervals.interval(found, pairs.log_loss, RESAMPLES)),
        "ece": pairs.ece(found),
    }


def change(
    votes: Sequence[Vote],
    ours: Mapping[UUID, Scored],
    theirs: Mapping[UUID, Scored],
    our_scores: Scores,
    their_scores: Scores,
    temperatures: tuple[float, float] = (1.0, 1.0),
) -> Change:
    """Both models, each at its temperature, on people's votes that neither trained on, and on
    answers that both scored."""
    people = [
        vote
        for vote in votes
        if vote.people
        and all(
            key in one for one in (our_scores, their_scores) for key in (vote.first, vote.second)
        )
    ]
    mine = as_pairs(people, our_scores, temperatures[0])
    yours = as_pairs(people, their_scores, temperatures[1])
    both = sorted(ours.keys() & theirs.keys())
    return Change(
        accuracy=intervals.difference(mine, yours, pairs.accuracy, RESAMPLES),
        ece=intervals.difference(mine, yours, pairs.ece, RESAMPLES),
        length=confounds.length_change(
            [ours[key] for key in both], [theirs[key] for key in both], RESAMPLES
        ),
        apart=_apart([ours[key] for key in both], [theirs[key] for key in both]),
    )


def as_pairs(votes: Sequence[Vote], scores: Scores, temperature: float = 1.0) -> list[Pair]:
    """The votes on answers that both have a score; margins are log-odds at the temperature."""
    return [
        Pair(
            margin=(scores[vote.first] - scores[vote.second]) / temperature,
            p=vote.p,
            weight=vote.weight,
            group=str(vote.prompt),
            longer=vote.longer,
        )
        for vote in votes
        if vote.first in scores and vote.second in scores
    ]


def as_json(one: Interval | None) -> dict[str, float | int | None] | None:
    """JSON has no infinity: an interval that could be anything has no ends."""
    if one is None:
        return None
    ends = (value if math.isfinite(value) else None for value in (one.low, one.high))
    low, high = ends
    return {"value": one.value, "low": low, "high": high, "prompts": one.groups}


def _curve(found: Sequence[Pair]) -> list[dict[str, float]]:
    return [
        {"confidence": one.confidence, "share": one.share, "weight": one.weight}
        for one in pairs.reliability(found)
    ]


def _apart(ours: Sequence[Scored], theirs: Sequence[Scored]) -> distance.Distance | None:
    if not ours:
        return None
    mine: dict[str, list[float]] = {}
    yours: dict[str, list[float]] = {}
    for a, b in zip(ours, theirs, strict=True):
        mine.setdefault(a.prompt, []).append(a.score)
        yours.setdefault(b.prompt, []).append(b.score)
    return distance.distance(mine, yours, RESAMPLES)
