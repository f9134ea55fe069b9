"""Rounds in a terminal: one line for each finished stage, a live one for the current stage."""

from __future__ import annotations

import sys
from datetime import datetime

from django.utils import timezone

from plumbline.collect import queue
from plumbline.fleet.models import Job
from plumbline.loop.models import Experiment, Round, RoundStage, Stage


class Status:
    """Prints what is new since the last look."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._told: set[int] = set()
        self._ended: set[int] = set()
        self._live = sys.stdout.isatty()

    def look(self) -> None:
        stages = RoundStage.objects.filter(round__experiment=self._experiment)
        for stage in stages.select_related("round").order_by("round__number", "started_at", "id"):
            if stage.finished_at is not None and stage.pk not in self._told:
                self._told.add(stage.pk)
                self.line(_finished(stage, stage.finished_at))
        for over in self._experiment.rounds.filter(finished_at__isnull=False).order_by("number"):
            if over.pk not in self._ended:
                self._ended.add(over.pk)
                self.line(_outcome(over))
        current = self._experiment.rounds.filter(finished_at=None).first()
        if self._live and current is not None:
            print(f"\r\033[K{_now(current)}", end="", flush=True)

    def line(self, text: str) -> None:
        """A line of its own, above the live one."""
        print(("\r\033[K" if self._live else "") + text, flush=True)


def seconds_by_stage(experiment: Experiment) -> dict[str, float]:
    """Time spent in each stage, over all rounds."""
    spent: dict[str, float] = {}
    for stage in RoundStage.objects.filter(round__experiment=experiment).order_by("id"):
        if stage.finished_at is not None and stage.stage in _WORK:
            took = (stage.finished_at - stage.started_at).total_seconds()
            spent[stage.stage] = round(spent.get(stage.stage, 0.0) + took, 1)
    return spent


_WORK = {stage.value for stage in Stage} - {"done", "failed", "cancelled"}


def _finished(stage: RoundStage, end: datetime) -> str:
    took = (end - stage.started_at).total_seconds()
    label = Stage(stage.stage).label
    return f"  round {stage.round.number}  {label:<22} {took:6.1f} s"


def _outcome(over: Round) -> str:
    text = f"  round {over.number}  {Stage(over.stage).label}"
    for evaluation in over.evaluations.order_by("against"):
        text += f"; {evaluation.rate:.0%} ({evaluation.low:.0%} to {evaluation.high:.0%}) against "
        text += evaluation.get_against_display().lower()
    if over.policy_out is not None:
        text += f"; {over.policy_out} is {over.policy_out.get_state_display().lower()}"
    return text + (f"; {over.error}" if over.error else "")


def _now(current: Round) -> str:
    """The current stage and how far its running job, or the voting, has come."""
    text = f"  round {current.number}  {Stage(current.stage).label}"
    began = current.stages.filter(finished_at=None).last()
    if began is not None:
        text += f"  {(timezone.now() - began.started_at).total_seconds():.0f} s"
    if current.stage == Stage.LABEL and current.campaign is not None:
        found = queue.tally(current.campaign)
        return f"{text}  {found.votes} of {found.wanted} votes"
    job = Job.objects.filter(asked_by__round=current).exclude(state=Job.State.SUCCEEDED).first()
    if job is None:
        return text
    if job.progress:
        return f"{text}  {job.progress['done']} of {job.progress['total']} {job.progress['unit']}"
    return f"{text}  {job.kind} job {job.state}"
