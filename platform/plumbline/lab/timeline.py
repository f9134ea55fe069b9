"""A round's stages with their times, and how far the work of the current one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils import timezone

from plumbline.collect import counts
from plumbline.collect.models import Campaign
from plumbline.fleet.models import Job
from plumbline.loop.models import OVER, Round, RoundJob, RoundStage, Stage

PURPOSES = {
    "sample": "Sample answers",
    "mixture": "Average policies to sample from",
    "reward": "Train reward model",
    "validator": "Train validation model",
    "measure": "Measure reward models",
    "contrast": "Find contrasts",
    "doubt": "Find disagreement",
    "features": "Find what answers differ in",
    "score": "Score samples",
    "rescore": "Score what waits for votes",
    "soup": "Average policies for the reference",
    "blend": "Blend policies",
    "train": "Train policy",
    "validate": "Compare checkpoints",
    "answers": "Held-out answers",
    "judge": "Judge answers",
    "judging": "Judge comparisons",
    "evaluating": "Judge face-offs",
    "objective": "Score by an objective",
    "trainers": "Judge by what made the pairs",
    "probe": "Probe for hidden triggers",
    "refusals": "Ask what may be refused",
}


@dataclass(frozen=True)
class Work:
    """How far something is: `left` is in seconds, None while its pace is not known (the worker
    judges it from the attempt's own pace); `tokens` are those it reads in a second, where it reads
    any."""

    title: str
    done: int
    total: int
    unit: str
    left: float | None = None
    tokens: int | None = None
    job: Job | None = None


@dataclass(frozen=True)
class Step:
    """A stage on the timeline; `state` is done, now, failed, todo or skipped."""

    stage: Stage
    state: str
    seconds: float | None

    @property
    def title(self) -> str:
        return str(self.stage.label)


def steps(round: Round, rows: Sequence[RoundStage]) -> list[Step]:
    """Every stage in its order, also those this round has not reached or does not need."""
    by_stage = {row.stage: row for row in rows}
    last = rows[-1].stage if rows else ""
    order = [stage for stage in Stage if stage not in OVER]
    reached = max((order.index(Stage(row.stage)) for row in rows), default=-1)
    found = []
    for place, stage in enumerate(order):
        row = by_stage.get(stage)
        if row is None:
            passed = place < reached or round.stage == Stage.DONE
            found.append(Step(stage, "skipped" if passed else "todo", None))
            continue
        end = row.finished_at or timezone.now()
        state = "done"
        if stage == last and round.stage in (Stage.FAILED, Stage.CANCELLED):
            state = "failed"
        elif row.finished_at is None and not round.over:
            state = "now"
        found.append(Step(stage, state, (end - row.started_at).total_seconds()))
    return found


def under_way(round: Round, asked: Iterable[RoundJob]) -> list[Work]:
    """What the current stage is busy with: votes being given, jobs queued or running."""
    if round.over:
        return []
    found = [work(one.job, purpose(one.purpose)) for one in asked if not one.job.over]
    campaign = round.campaign if round.stage == Stage.LABEL else round.evaluation_campaign
    judging = round.stage == Stage.EVALUATE and campaign is not None and campaign.closed_at is None
    if campaign is not None and (round.stage == Stage.LABEL or judging):
        found.append(votes(campaign))
    return found


def votes(campaign: Campaign) -> Work:
    """Votes that stand, of those wanted."""
    found = counts.tally(campaign)
    return Work(campaign.name, found.votes, found.wanted, "votes")


def work(job: Job, title: str = "") -> Work:
    progress = job.progress
    done, total = int(progress.get("done", 0)), int(progress.get("total", 0))
    running = job.state == Job.State.RUNNING
    left = progress.get("left") if running else None
    pace = progress.get("tokens_per_second") if running else None
    unit = str(progress.get("unit", ""))
    tokens = None if pace is None else round(pace)
    return Work(title or job.title, done, total, unit, left, tokens, job)


def purpose(name: str) -> str:
    """What a round asked a job for, in words: "answers:5f3a…" is "Held-out answers"."""
    head = name.partition(":")[0]
    return PURPOSES.get(head, head.replace("_", " ").capitalize())
