"""Rounds: what they froze is still what their hash says, what ended has its policy, what goes on
goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone

from plumbline.fleet.models import Job
from plumbline.loop import rows
from plumbline.loop.models import OVER, Round, Stage
from plumbline.operations.check import Check, Finding

LONG = timedelta(minutes=10)  # without a job or a person to wait for
PEOPLE = (Stage.LABEL, Stage.EVALUATE, Stage.GATE, Stage.PROMOTE)  # may wait for somebody


class RoundsCheck(Check):
    title = "Rounds keep the votes that they froze, and go on."

    def look(self) -> Iterator[Finding]:
        for round in Round.objects.select_related("experiment").order_by("pk").iterator():
            self.seen += 1
            if round.ballots_sha256:
                yield from self._frozen(round)
            if round.stage == Stage.DONE and round.policy_out_id is None:
                yield self.found(
                    round,
                    f"{round} is done and has made no policy.",
                    "Clone its experiment and run the round again.",
                )
            if round.stage not in OVER:
                yield from self._stuck(round)

    def _frozen(self, round: Round) -> Iterator[Finding]:
        ballots = round.ballots.order_by().only("pk")
        if rows.ballots_digest(ballots.iterator()) != round.ballots_sha256:
            yield self.found(
                round,
                f"The votes of {round} are not those that it froze: their hash differs.",
                "Restore a backup from before they changed; its policies cannot be explained "
                "by these votes.",
            )

    def _stuck(self, round: Round) -> Iterator[Finding]:
        if round.stage in PEOPLE or round.experiment.state != "active":
            return
        begun = round.stages.filter(stage=round.stage).order_by("-started_at").first()
        open_jobs = Job.objects.filter(
            asked_by__round=round, state__in=(Job.State.QUEUED, Job.State.RUNNING)
        )
        now = timezone.now()
        if begun is None or now - begun.started_at < LONG or open_jobs.exists():
            return
        ended = Job.objects.filter(asked_by__round=round, finished_at__isnull=False)
        last = ended.order_by("-finished_at").first()
        if last is not None and last.finished_at and now - last.finished_at < LONG:
            return
        trouble = round.error.strip().rsplit("\n", 1)[-1]
        why = f" It says: {trouble}" if trouble else " Nothing runs for it."
        yield self.found(
            round,
            f"{round} stands at {round.stage} since {begun.started_at:%Y-%m-%d %H:%M} UTC.{why}",
            "See that `manage.py runloop` runs, and read its log.",
        )
