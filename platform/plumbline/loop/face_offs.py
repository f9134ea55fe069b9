"""Candidate against opponents by an AI judge, with people on part of it where that is asked for.

Where people voted on a random share of the face-offs the win rate is prediction-powered: the
judge's word on all, corrected by how far it was off where people spoke. Identical answers are ties
that nobody needs to judge; where the judge said nothing the prompt counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.measure.prediction_powered import powered
from plumbline.accounts.models import User
from plumbline.collect import votes
from plumbline.collect.models import Completion
from plumbline.judges import triage
from plumbline.judges.triage import Word
from plumbline.loop import campaigns, judging, rows
from plumbline.loop.models import Evaluation, Experiment, Round, RoundJudge
from plumbline.loop.winrate import WinRate

Answers = Mapping[int, Completion]  # by prompt
FEWEST = 10  # face-offs that people judged, from which their votes correct the judge's


@dataclass(frozen=True)
class Told(WinRate):
    """Outcomes by the judge, and the rate and interval that people's votes make of them."""

    told: float = 0.5
    low: float = 0.0
    high: float = 1.0

    @property
    def rate(self) -> float:
        return self.told

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        assert confidence == 0.95, "the interval was made once"
        return self.low, self.high


def drawn(round: Round, mine: Completion, theirs: Completion) -> bool:
    """Whether people judge this face-off, too; all of them where no AI judge evaluates."""
    experiment = round.experiment
    if experiment.judge != Experiment.Judge.JUDGE:
        return True
    named = triage.name(mine.prompt.digest, [mine.text, theirs.text])
    seed = f"{experiment.seed}:{round.number}:face-offs"
    return triage.in_slice(seed, named, experiment.face_off_percent)


def asked(round: Round, mine: Answers, against: Mapping[str, Answers]) -> bool:
    """Whether the judge has spoken of every face-off. Raises ValueError where its job failed."""
    (judge,) = judging.of(round, judging.EVALUATE)
    pairs = {
        (mine[prompt].pk, theirs.pk): (mine[prompt], theirs)
        for answers in against.values()
        for prompt, theirs in answers.items()
        if mine[prompt].text != theirs.text
    }
    return judging.said(round, judge, f"evaluating:{judge.version_id}", list(pairs.values()))


def outcome(round: Round, against: str, mine: Answers, theirs: Answers) -> WinRate:
    """Who won against one opponent. What is known beside is kept in the round's figures."""
    (judge,) = judging.of(round, judging.EVALUATE)
    different = [pk for pk in sorted(mine) if mine[pk].text != theirs[pk].text]
    words = _words(judge, different, mine, theirs)
    same = len(mine) - len(different)
    spoken = {pk: word for pk, word in words.items() if word.p is not None}
    sides = [_side(word) for word in spoken.values()]
    counted = WinRate(wins=sides.count(1), ties=sides.count(0) + same, losses=sides.count(-1))
    figures: dict[str, Any] = {
        "judge": str(judge.version),
        "silent": len(words) - len(spoken),
        "inconsistent": sum(not word.consistent for word in spoken.values()),
        "people": 0,
    }
    voted = by_people(round) if against == Evaluation.Against.CURRENT else {}
    voted = {pk: y for pk, y in voted.items() if pk in spoken}
    found: WinRate = counted
    if len(voted) >= FEWEST:
        found, more = _powered(counted, spoken, voted, same)
        figures |= more
    told = round.figures.get("evaluated_by_judge", {})
    round.figures = {**round.figures, "evaluated_by_judge": {**told, against: figures}}
    round.save(update_fields=["figures"])
    return found


def by_judge(round: Round, mine: Answers, theirs: Answers) -> dict[int, float]:
    """By prompt 1, a half or 0 where the judge spoke of two different answers."""
    (judge,) = judging.of(round, judging.EVALUATE)
    different = [pk for pk in sorted(mine) if mine[pk].text != theirs[pk].text]
    words = _words(judge, different, mine, theirs)
    return {pk: (1 + _side(word)) / 2 for pk, word in words.items() if word.p is not None}


def of_row(row: Evaluation) -> WinRate:
    """An evaluation's outcomes with the interval that it was recorded with."""
    counts = {"wins": row.wins, "ties": row.ties, "losses": row.losses}
    if row.judge != Experiment.Judge.JUDGE:
        return WinRate(**counts)
    return Told(**counts, told=row.rate, low=row.low, high=row.high)


def _words(
    judge: RoundJudge, prompts: list[int], mine: Answers, theirs: Answers
) -> dict[int, Word]:
    said = judging.words([judge], [(mine[pk], theirs[pk]) for pk in prompts])
    return {pk: said[mine[pk].pk, theirs[pk].pk] for pk in prompts}


def _powered(
    counted: WinRate, spoken: Mapping[int, Word], voted: Mapping[int, float], same: int
) -> tuple[WinRate, dict[str, Any]]:
    """The rate over all prompts, of which the identical ones are ties for certain."""
    chances = {pk: word.p for pk, word in spoken.items() if word.p is not None}
    labelled = sorted(voted)
    got = powered(
        list(chances.values()),
        [chances[pk] for pk in labelled],
        [voted[pk] for pk in labelled],
        within=True,
    )
    total = len(chances) + same

    def over_all(rate: float) -> float:
        return min(1.0, max(0.0, (rate * len(chances) + same / 2) / total))

    found = Told(
        wins=counted.wins,
        ties=counted.ties,
        losses=counted.losses,
        told=over_all(got.value),
        low=over_all(got.low),
        high=over_all(got.high),
    )
    figures = {
        "people": got.labelled,
        "people_alone": over_all(got.people),
        "judge_alone": over_all(got.judge),
        "rate": found.told,
        "low": found.low,
        "high": found.high,
    }
    assert all(math.isfinite(one) for one in figures.values())
    return found, figures


def by_people(round: Round) -> dict[int, float]:
    """By prompt the share of people's votes for the candidate, which has slot 0."""
    campaign = round.evaluation_campaign
    if campaign is None:
        return {}
    standing = campaigns.evidence(campaign.comparisons.all()).exclude(
        annotator__kind__in=(User.Kind.AI, User.Kind.IMPORT)
    )
    found = {}
    for comparison, ballots in rows.by_comparison(standing):
        for i, j, p, _ in votes.preferences(ballots):
            if (i, j) == (0, 1):
                found[comparison.prompt_id] = p
    return found


def _side(word: Word) -> int:
    """1 for the candidate, -1 for its opponent, 0 for a tie, which a contradiction is, too."""
    if word.p is None or not word.consistent or word.p == 0.5:
        return 0
    return 1 if word.p > 0.5 else -1
