"""How long each stage of a round will still take: from what runs, else from earlier rounds.

Nothing is guessed. A stage that no earlier round of the experiment went through and whose work
tells no pace is unknown, and so is then the whole; what is known of it is a least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from django.utils import timezone

from plumbline.collect import counts
from plumbline.collect.models import Campaign
from plumbline.fleet.models import Job
from plumbline.loop.models import OVER, Experiment, Round, RoundJob, RoundStage, Stage

ROUNDS = 5  # earlier ones that are looked at, the newest
VOTES = 5  # after so many their pace is one

PACE = "by its own pace"
VOTING = "by the pace of the votes"
DEADLINE = "by the deadline"
BEFORE = "as in earlier rounds"
SKIPPED = "not needed in earlier rounds"
OVERDUE = "longer than in earlier rounds"
PERSON = "waits for a decision"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Expected:
    """What a stage will still take: `seconds`, None where that is not known; by what it is told."""

    seconds: float | None
    why: str


@dataclass(frozen=True)
class Forecast:
    """`by_stage` has the current stage and those to come; none once the round is over."""

    by_stage: Mapping[Stage, Expected]

    @property
    def seconds(self) -> float:
        """What is known, in all."""
        return sum(one.seconds or 0.0 for one in self.by_stage.values())

    @property
    def unknown(self) -> list[Stage]:
        """Stages nobody can tell yet, a person's decision aside."""
        return [
            stage
            for stage, one in self.by_stage.items()
            if one.seconds is None and one.why != PERSON
        ]

    @property
    def waits(self) -> bool:
        """Whether a person decides how it ends."""
        return any(one.why == PERSON for one in self.by_stage.values())


def forecast(
    round: Round, rows: Sequence[RoundStage], asked: Iterable[RoundJob], now: datetime | None = None
) -> Forecast:
    """rows: the round's stages so far. asked: its jobs."""
    if round.over:
        return Forecast({})
    now = now or timezone.now()
    before = earlier(round)
    order = [stage for stage in Stage if stage not in OVER]
    here = order.index(Stage(round.stage))
    began = next((row.started_at for row in rows if row.stage == round.stage), now)
    found = {order[here]: _current(round, began, before, asked, now)}
    for stage in order[here + 1 :]:
        found[stage] = _to_come(round, stage, before)
    return Forecast(found)


def earlier(round: Round) -> dict[Stage, float] | None:
    """Median seconds of each stage over the experiment's last finished rounds, 0 for a stage that
    most of them did without; None where there are none."""
    rounds = Round.objects.filter(experiment=round.experiment_id, stage=Stage.DONE)
    numbers = list(rounds.exclude(pk=round.pk).order_by("-number").values_list("pk", flat=True))
    numbers = numbers[:ROUNDS]
    if not numbers:
        return None
    took: dict[str, list[float]] = {}
    for row in RoundStage.objects.filter(round__in=numbers, finished_at__isnull=False):
        assert row.finished_at is not None, "the query asks for it"
        took.setdefault(row.stage, []).append((row.finished_at - row.started_at).total_seconds())
    missing = {stage: len(numbers) - len(took.get(stage, [])) for stage in Stage}
    return {
        stage: median([*took.get(stage, []), *[0.0] * missing[stage]])
        for stage in Stage
        if stage not in OVER
    }


def _to_come(round: Round, stage: Stage, before: Mapping[Stage, float] | None) -> Expected:
    if stage == Stage.PROMOTE and not round.experiment.autopilot:
        return Expected(None, PERSON)
    if before is None:
        return Expected(None, UNKNOWN)
    return Expected(before[stage], BEFORE if before[stage] else SKIPPED)


def _current(
    round: Round,
    began: datetime,
    before: Mapping[Stage, float] | None,
    asked: Iterable[RoundJob],
    now: datetime,
) -> Expected:
    stage = Stage(round.stage)
    if stage == Stage.PROMOTE and not round.experiment.autopilot:
        return Expected(None, PERSON)
    campaign = _asks(round, stage)
    if campaign is not None:
        told = _votes(campaign, now)
        limit = _deadline(round, campaign, now) if stage == Stage.LABEL else None
        if limit is not None and (told is None or limit < told):
            return Expected(limit, DEADLINE)
        if told is not None:
            return Expected(told, VOTING)
    pace = _jobs(asked)
    usual = before[stage] - (now - began).total_seconds() if before else None
    if usual is not None and usual > 0 and usual >= (pace or 0.0):
        return Expected(usual, BEFORE)
    if pace is not None:
        return Expected(pace, PACE)
    return Expected(None, UNKNOWN if usual is None else OVERDUE)


def _asks(round: Round, stage: Stage) -> Campaign | None:
    """The campaign that the stage waits for people in."""
    campaign = {Stage.LABEL: round.campaign, Stage.EVALUATE: round.evaluation_campaign}.get(stage)
    return campaign if campaign is not None and campaign.closed_at is None else None


def _votes(campaign: Campaign, now: datetime) -> float | None:
    """Seconds until the votes that are wanted are there, at their mean pace so far."""
    tally = counts.tally(campaign)
    since = (now - campaign.created_at).total_seconds()
    if campaign.paused_at is not None or tally.votes < VOTES or since <= 0:
        return None
    return max(0, tally.wanted - tally.votes) * since / tally.votes


def _deadline(round: Round, campaign: Campaign, now: datetime) -> float | None:
    minutes = round.experiment.deadline_minutes
    if not minutes:
        return None
    ends = campaign.created_at + timedelta(minutes=minutes)
    return max(0.0, (ends - now).total_seconds())


def _jobs(asked: Iterable[RoundJob]) -> float | None:
    """What the running jobs need at their pace, which is the longest of them; None where a job
    waits in a queue, or one has no pace yet."""
    open_jobs = [one.job for one in asked if not one.job.over]
    left = [job.progress.get("left") for job in open_jobs if job.state == Job.State.RUNNING]
    if not open_jobs or len(left) < len(open_jobs):
        return None
    known = [float(one) for one in left if one is not None]
    return max(known) if len(known) == len(left) else None


def paused(round: Round) -> bool:
    """Nothing new begins: what is said of later stages counts from the day it goes on."""
    return bool(round.experiment.state == Experiment.State.PAUSED)
