"""States in which there is something to do, for each of `acts.py`: what it is to be given, and
whether it was done."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db.models import F

from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.collect.queue import gate
from plumbline.fleet.models import Job
from plumbline.loop import labelling, rounds
from plumbline.loop.models import Round, RoundStage, Stage
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Policy
from plumbline.transfer.models import Import
from tests.chaos.acts import ACTS
from tests.comparisons import open_campaign
from tests.loop import conftest as loop_conftest
from tests.loop.test_advance import at_label
from tests.transfer.test_bringing import rows

Made = tuple[tuple[str, ...], Callable[[], bool]]  # the act's arguments, and whether it was done


@dataclass
class Before:
    """A method for each act, by its name. `given`: pytest's fixtures, by theirs."""

    given: Callable[[str], Any]
    folder: Path
    settings: Any

    @property
    def project(self) -> Any:
        return self.given("project")

    @property
    def bob(self) -> Any:
        return self.given("bob")

    def vote(self) -> Made:
        ballot = queue.claim_next(self.bob, open_campaign(self.project, comparisons=1))
        assert ballot is not None
        queue.save_draft(ballot, {"comment": "half a word"})
        session = self.given("client_for")(self.bob).cookies["sessionid"].value
        cast = Ballot.objects.filter(outcome="ranked", idempotency_key__isnull=False)
        return (session, str(ballot.pk), str(uuid.uuid4())), lambda: cast.count() == 1

    def claim(self) -> Made:
        campaign = open_campaign(self.project, comparisons=2)
        held = Ballot.objects.filter(annotator=self.bob, seat=0)
        queue.claim_next(self.given("carol"), campaign)  # who comes first prepares it
        gate.join(self.bob, campaign)
        return (str(self.bob.pk), str(campaign.pk)), lambda: held.count() == 1

    def submit(self) -> Made:
        queued = Job.objects.filter(state="queued")
        return (str(self.project.pk),), lambda: queued.count() == 1

    def _job(self, running: bool, lost: bool = False) -> Job:
        ACTS["submit"](str(self.project.pk))
        if running:
            ACTS["take"]()
        if lost:
            Job.objects.update(lease_until=F("created_at"))
        return Job.objects.get()

    def take(self) -> Made:
        self._job(running=False)
        return (), lambda: Job.objects.filter(state="running", epoch=1, attempt=1).count() == 1

    def finish(self) -> Made:
        done = Job.objects.filter(state="succeeded", result={"said": 1}, epoch=1)
        return (str(self._job(running=True).pk),), lambda: done.count() == 1

    def sweep(self) -> Made:
        self._job(running=True, lost=True)
        return (), lambda: Job.objects.filter(state="queued", attempt=1, epoch=1).count() == 1

    def release(self) -> Made:
        back = Job.objects.filter(state="queued", attempt=0, epoch=1)
        return (str(self._job(running=True).pk),), lambda: back.count() == 1

    def _round_at(self, stage: Stage) -> Round:
        experiment = self.given("experiment_of")()
        row = at_label(rounds.begin(experiment))
        loop_conftest.vote_on_everything(self.given("rater"), row.campaign)
        rounds.close_labels(row)
        if stage == Stage.PAIRS:
            labelling.label(row)
        return row

    def freeze(self) -> Made:
        row = self._round_at(Stage.LABEL)
        frozen = Round.objects.exclude(ballots_sha256="").filter(ballots__isnull=False)
        return (str(row.pk),), lambda: frozen.distinct().count() == 1

    def pairs(self) -> Made:
        row = self._round_at(Stage.PAIRS)
        whole = row.examples.filter(answers__role="chosen")
        return (str(row.pk),), lambda: whole.count() == row.examples.count() > 0

    def move(self) -> Made:
        row = self._round_at(Stage.LABEL)
        there = Round.objects.filter(stage=Stage.REWARD)
        begun = RoundStage.objects.filter(round=row, stage=Stage.REWARD)
        return (str(row.pk),), lambda: there.count() == begun.count() == 1

    def bring(self) -> Made:
        path = self.folder / "given.jsonl"
        path.write_bytes(rows(700))  # two chunks
        brought = Import.objects.filter(rows=700)
        return (str(path),), lambda: brought.count() == 1 and Ballot.objects.count() == 700

    def _policy(self) -> Policy:
        engine = self.given("engine")
        self.settings.ENGINE_URL, self.settings.ENGINE = engine.url, "transformers"
        base = serving.base_policy(self.project)
        folder = self.given("commit_weights")(5, "lora", 0.05)
        return Policy.objects.create(
            project=self.project,
            name=f"struck-{uuid.uuid4().hex[:6]}",
            weights="lora",
            parent=base,
            base_model=base.base_model,
            path=str(folder.path),
            sha256=folder.sha256,
        )

    def promote(self) -> Made:
        row = self._policy()
        ACTS["promote"](str(row.parent_id))
        moved = Deployment.objects.filter(policy=row, previous=row.parent)
        return (str(row.pk),), lambda: moved.count() == Flip.objects.filter(after=row).count() == 1

    def retire(self) -> Made:
        row = self._policy()
        serving.ensure_loaded(row)
        Policy.objects.filter(pk=row.pk).update(state=Policy.State.REJECTED)
        return (), lambda: row.name not in serving.served()
