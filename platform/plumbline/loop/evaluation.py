"""Candidate against opponents on held-out prompts: win rate with its interval, KL, length, gate."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from align import jobs
from plumbline.collect import queue, votes
from plumbline.collect.models import Campaign, Completion, Prompt
from plumbline.collect.strategy import Picked
from plumbline.loop import campaigns, gates, hacking, probing, rounds, rows
from plumbline.loop import face_offs as face_offs_of_judge
from plumbline.loop.models import Evaluation, Experiment, Round
from plumbline.loop.winrate import WinRate, count
from plumbline.policies.models import Policy, RewardModel

# Names of the policies in the judge's ScoreJob.
CANDIDATE, BASE, START = "candidate", "base", "start"


def heldout(round: Round) -> list[Prompt]:
    """The same held-out prompts for every round of an experiment. Raises ValueError without any."""
    experiment = round.experiment
    prompts = list(experiment.prompt_set.prompts.filter(split=Prompt.Split.HELDOUT).order_by("pk"))
    if not prompts:
        raise ValueError(f"{experiment.prompt_set} has no held-out prompts to evaluate on.")
    random.Random(f"{experiment.seed}:heldout").shuffle(prompts)
    return prompts[: experiment.heldout_prompts]


def opponents(round: Round) -> dict[str, Policy]:
    """{"current": ..., "base": ...}; one entry when the base itself is deployed."""
    found = {
        against: Policy.objects.get(pk=uuid.UUID(pk)) for against, pk in round.opponents.items()
    }
    if found["current"] == found["base"]:
        del found["base"]
    return found


def players(round: Round) -> list[Policy]:
    assert round.policy_out is not None
    return [round.policy_out, *opponents(round).values()]


def answers_purpose(policy: Policy) -> str:
    return f"answers:{policy.pk.hex}"


def answers(round: Round, policy: Policy) -> QuerySet[Completion]:
    """The policy's held-out answers in this round, one a prompt."""
    found = Completion.objects.filter(batch__in=rows.batches(round, answers_purpose(policy)))
    return found.select_related("prompt").order_by("prompt_id")


def score_job(round: Round) -> jobs.ScoreJob:
    """Rewards (when the reward model judges) and log-probabilities under candidate and base."""
    assert round.policy_out is not None
    experiment = round.experiment
    by_model = experiment.judge == Experiment.Judge.REWARD_MODEL
    model = judge(round)
    base = jobs.ModelRef(base=experiment.start.base_model)
    return jobs.ScoreJob(
        cache=str(settings.SCORES_DIR),
        reward_model=model.path if by_model and model else None,
        policies={CANDIDATE: round.policy_out.ref, BASE: base, START: round.policy_in.ref},
        by_token=True,
        max_length=settings.MAX_MODEL_LEN,
    )


def judge(round: Round) -> RewardModel | None:
    """The reward model that judges: one that made no labels, where the round has such a one."""
    return round.validator or round.reward_model


def items(round: Round) -> Iterator[jobs.ItemRow]:
    for policy in players(round):
        yield from rows.item_rows(answers(round, policy))


def face_offs(round: Round) -> Iterator[tuple[int, list[Completion]]]:
    """Prompt id and (candidate's answer, current's answer), for people to judge blind; prompts
    where both said the same are ties and need nobody's time."""
    assert round.policy_out is not None
    theirs = {a.prompt_id: a for a in answers(round, opponents(round)["current"])}
    for mine in answers(round, round.policy_out):
        other = theirs[mine.prompt_id]
        if mine.text != other.text and face_offs_of_judge.drawn(round, mine, other):
            yield mine.prompt_id, [mine, theirs[mine.prompt_id]]


def people_have_judged(round: Round) -> bool:
    """Open the blind face-offs on first sight; true when every one of them has its votes."""
    campaign = round.evaluation_campaign
    if campaign is None:
        with transaction.atomic():
            campaign = campaigns.open_campaign(round, Campaign.Purpose.EVALUATE)
            round.evaluation_campaign = campaign
            round.save(update_fields=["evaluation_campaign"])
            for prompt_id, answers in face_offs(round):
                campaigns.compare(campaign, prompt_id, Picked(tuple(answers), 1.0), "evaluation")
    if campaign.closed_at is None and not queue.complete(campaign):
        return False
    rounds.close_labels(round)
    return True


def judged(round: Round) -> bool:
    """Whether people and judges have said what they are asked; true where neither is."""
    by = round.experiment.judge
    if by == Experiment.Judge.PEOPLE:
        return people_have_judged(round)
    if by != Experiment.Judge.JUDGE:
        return True
    assert round.policy_out is not None
    mine = {a.prompt_id: a for a in answers(round, round.policy_out)}
    theirs = {
        against: {a.prompt_id: a for a in answers(round, opponent)}
        for against, opponent in opponents(round).items()
    }
    # People are asked at once, so that they and the judge work at the same time.
    by_people = not round.experiment.face_off_percent or people_have_judged(round)
    return face_offs_of_judge.asked(round, mine, theirs) and by_people


def probed(round: Round) -> bool:
    """Whether hidden triggers and refusals were looked for."""
    return probing.done(round, list(answers(round, opponents(round)["current"])))


def also_judged(round: Round) -> bool:
    """Whether the model that made the pairs has spoken of the candidate, where another judges."""
    mine, theirs = _against_current(round)
    return hacking.asked(round, hacking.trainers_model(round, judge(round)), mine, theirs)


def record(round: Round, scores: Mapping[str, jobs.ScoreRow]) -> None:
    """One Evaluation row per opponent; recording twice leaves the same rows."""
    assert round.policy_out is not None
    mine = {a.prompt_id: a for a in answers(round, round.policy_out)}
    found = [scores[str(answer.pk)] for answer in mine.values()]
    kl, kl_k3 = divergence(found, CANDIDATE, BASE)
    kl_start, _ = divergence(found, CANDIDATE, START)
    for against, opponent in opponents(round).items():
        theirs = {a.prompt_id: a for a in answers(round, opponent)}
        if round.experiment.judge == Experiment.Judge.PEOPLE:
            if against != "current":
                continue  # people compare the candidate with what is deployed, nothing else
            won = _by_people(round, identical=_identical(mine, theirs))
        elif round.experiment.judge == Experiment.Judge.JUDGE:
            won = face_offs_of_judge.outcome(round, against, mine, theirs)
        else:
            won = by_scores(mine, theirs, scores)
        low, high = won.interval()
        Evaluation.objects.update_or_create(
            round=round,
            against=against,
            defaults={
                "opponent": opponent,
                "judge": round.experiment.judge,
                "wins": won.wins,
                "ties": won.ties,
                "losses": won.losses,
                "rate": won.rate,
                "low": low,
                "high": high,
                "kl": kl,
                "kl_k3": kl_k3,
                "kl_start": kl_start,
                "tokens": _mean_tokens(mine),
                "opponent_tokens": _mean_tokens(theirs),
            },
        )
    mine, theirs = _against_current(round)
    said = _by_judge(round, mine, theirs, scores)
    hacking.measure(round, mine, theirs, said, _two_judges(round, mine, theirs, said))


def gate(round: Round) -> dict[str, Any]:
    """The gate's checks with their evidence, and the verdict."""
    assert round.policy_out is not None
    experiment = round.experiment
    against_current = round.evaluations.get(against=Evaluation.Against.CURRENT)
    metrics = round.policy_out.metrics
    won = face_offs_of_judge.of_row(against_current)
    fooled = hacking.checks(round, low=won.interval()[0])
    blocks = any(check.blocking for check in fooled)  # else length only informs
    found = [
        *gates.checks(
            against_current=won,
            gate_win_rate=experiment.gate_win_rate,
            kl=against_current.kl,
            gate_kl=experiment.gate_kl,
            loss=metrics.get("loss"),
            trained=not experiment.blend,
            accuracy=metrics.get("accuracy"),
            tokens=None if blocks else against_current.tokens,
            current_tokens=against_current.opponent_tokens,
        ),
        *fooled,
        *probing.checks(round),
    ]
    return gates.record(found)


def divergence(
    scores: Iterable[jobs.ScoreRow], policy: str, other: str
) -> tuple[float | None, float | None]:
    """KL(policy || other) in nats a sequence, from the policy's own fresh answers at temperature 1.

    Two estimators: k1, the mean log-ratio, unbiased; k3, the sum over tokens of e^d - d - 1 with
    d = log other - log policy, never negative and less noisy. None when no answer was scored.
    """
    k1, k3 = [], []
    for score in scores:
        if score["logps"]:
            pairs = zip(score["token_logps"][policy], score["token_logps"][other], strict=True)
            k1.append(score["logps"][policy] - score["logps"][other])
            k3.append(sum(math.expm1(min(q - p, 80.0)) - (q - p) for p, q in pairs))
    return (fmean(k1), fmean(k3)) if k1 else (None, None)


def by_scores(
    mine: Mapping[int, Completion],
    theirs: Mapping[int, Completion],
    scores: Mapping[str, jobs.ScoreRow],
) -> WinRate:
    """Outcomes on the prompts where both answers could be scored."""
    return count(hacking.shares(mine, theirs, scores).values())


def _against_current(round: Round) -> tuple[dict[int, Completion], dict[int, Completion]]:
    assert round.policy_out is not None
    both = (round.policy_out, opponents(round)["current"])
    mine, theirs = ({a.prompt_id: a for a in answers(round, policy)} for policy in both)
    return mine, theirs


def _by_judge(
    round: Round,
    mine: Mapping[int, Completion],
    theirs: Mapping[int, Completion],
    scores: Mapping[str, jobs.ScoreRow],
) -> dict[int, float]:
    """By prompt the share of the vote that the experiment's judge gives the candidate against
    current."""
    if round.experiment.judge == Experiment.Judge.REWARD_MODEL:
        return hacking.shares(mine, theirs, scores)
    same = {pk: hacking.HALF for pk in mine if mine[pk].text == theirs[pk].text}
    if round.experiment.judge == Experiment.Judge.PEOPLE:
        return {**same, **face_offs_of_judge.by_people(round)}
    return {**same, **face_offs_of_judge.by_judge(round, mine, theirs)}


def _two_judges(
    round: Round,
    mine: Mapping[int, Completion],
    theirs: Mapping[int, Completion],
    said: Mapping[int, float],
) -> tuple[str, hacking.Shares, str, hacking.Shares] | None:
    """Who is closer to what the candidate was trained by, and who is further from it."""
    by_model = hacking.by_trainers_model(round, mine, theirs)
    name = round.experiment.get_judge_display().lower()
    if round.experiment.judge == Experiment.Judge.JUDGE:
        people = face_offs_of_judge.by_people(round)
        if len(people) >= hacking.FEWEST:
            return (name, said, "people", people)
    return ("the reward model of its votes", by_model, name, said) if by_model else None


def _by_people(round: Round, identical: int) -> WinRate:
    """Each face-off counts once, by the majority of its votes; slot 0 is the candidate's."""
    assert round.evaluation_campaign is not None
    wins, ties, losses = 0, identical, 0
    standing = campaigns.evidence(round.evaluation_campaign.comparisons.all())
    for _, ballots in rows.by_comparison(standing):
        for _, _, p, _ in votes.preferences(ballots):
            wins, ties, losses = wins + (p > 0.5), ties + (p == 0.5), losses + (p < 0.5)
    return WinRate(wins=wins, ties=ties, losses=losses)


def _identical(mine: Mapping[int, Completion], theirs: Mapping[int, Completion]) -> int:
    return sum(answer.text == theirs[prompt_id].text for prompt_id, answer in mine.items())


def _mean_tokens(found: Mapping[int, Completion]) -> float:
    return fmean(len(answer.token_ids or answer.text.split()) for answer in found.values())
