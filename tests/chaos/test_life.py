"""Any life of votes, jobs, a round and an alias keeps what was promised, with crashes in between.

Hypothesis plays three people at the pages, two workers at the queue and a loop, against a model in
plain Python: which answers were acknowledged, who holds which job, which list was frozen, where the
alias points. A crash is a failpoint's error in the middle of a request; the client then knows
nothing, and sends the same again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from align import failpoints, jobs
from plumbline.accounts.models import Membership, Project, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign
from plumbline.collect.quality import people
from plumbline.fleet import claims, dispatch
from plumbline.fleet.models import Event, Job
from plumbline.loop import labelling, rows
from plumbline.loop.models import Experiment, Round, Stage
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Policy
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db

PEOPLE, PAIRS, OVERLAP = 3, 2, 2
person = st.integers(0, PEOPLE - 1)
pick = st.integers(0, 5)
CRASHES = st.sampled_from(["", "", "vote.storing", "vote.stored", "vote.committed"])
ENDS = st.sampled_from(["succeed", "fail", "release", "cancelled", "heartbeat"])
JSON = {"HTTP_ACCEPT": "application/json"}


@dataclass
class Sent:
    """A form that left a browser: what of it is known to be stored."""

    who: int
    ballot: Any
    key: str
    choice: str
    acked: bool = False


class Life(RuleBasedStateMachine):
    orders = Path()

    def __init__(self) -> None:
        super().__init__()
        Job.objects.all().delete()  # of the life before: workers take the jobs of all projects
        self.slug = uuid4().hex[:12]
        self.project = Project.objects.create(name=self.slug, slug=self.slug)
        self.other = Project.objects.create(name=f"{self.slug}-2", slug=f"{self.slug}-2")
        self.elsewhere = open_campaign(self.other, comparisons=1)
        self.users, self.browsers = [], []
        for n in range(PEOPLE):
            user = User.objects.create(username=f"{self.slug}-{n}")
            Membership.objects.create(project=self.project, user=user, role="annotator")
            browser = Client(raise_request_exception=False)
            browser.force_login(user, backend="plumbline.accounts.backends.ByPassword")
            self.users.append(user)
            self.browsers.append(browser)
        quality = {"repeat_share": 0.0}
        campaign = open_campaign(self.project, comparisons=PAIRS, overlap=OVERLAP, quality=quality)
        self.pk = campaign.pk
        self.sent: list[Sent] = []
        self.said: dict[tuple[int, int], str] = {}  # by comparison and person: the latest word
        self.shown: list[tuple[int, Any]] = []  # every page that somebody has opened
        self.excluded: set[int] = set()
        self._make_round(campaign)
        self.frozen: tuple[str, set[Any]] | None = None
        self.held: list[Job] = []  # every claim that some worker believes in
        self.job: dict[Any, str] = {}
        self.results: dict[Any, int] = {}
        self.pointer: tuple[Any, Any] | None = None
        self.flips = 0

    def _make_round(self, campaign: Campaign) -> None:
        self.policies = [
            Policy.objects.create(
                project=self.project, name=f"{self.slug}-{n}", weights="base", base_model="/base"
            )
            for n in range(3)
        ]
        first = campaign.comparisons.first()
        assert first is not None
        experiment = Experiment.objects.create(
            project=self.project, name="Life", algorithm="dpo", start=self.policies[0],
            prompt_set=first.prompt.set, pairs_from="votes", judge="people",
        )  # fmt: skip
        self.round = Round.objects.create(
            experiment=experiment, number=1, policy_in=self.policies[0], stage=Stage.LABEL,
            campaign=campaign,
        )  # fmt: skip

    @property
    def campaign(self) -> Campaign:
        return Campaign.objects.get(pk=self.pk)

    # People

    @rule(who=person)
    def claim(self, who: int) -> None:
        url = f"/p/{self.slug}/campaigns/{self.pk}/claim/"
        assert self.browsers[who].post(url).status_code == 303
        ballot = queue.claim_next(self.users[who], self.campaign)
        if ballot is not None:
            self.shown.append((who, ballot.pk))

    @rule(number=pick)
    def draft(self, number: int) -> None:
        if self.shown:
            who, ballot = self.shown[-1 - number % len(self.shown)]
            url = f"/p/{self.slug}/ballots/{ballot}/draft/"
            assert self.browsers[who].post(url, {"comment": "so far"}).status_code in (204, 409)

    @rule(number=pick, choice=st.sampled_from(["A2", "B1", "tie"]), crash=CRASHES)
    def vote(self, number: int, choice: str, crash: str) -> None:
        """In time, late, or on what was answered long ago: the page may be an old one."""
        if self.shown:
            who, ballot = self.shown[-1 - number % len(self.shown)]
            self.sent.append(Sent(who, ballot, str(uuid4()), choice))
            self._send(self.sent[-1], crash)

    @rule(number=pick, crash=CRASHES)
    def send_again(self, number: int, crash: str) -> None:
        if self.sent:
            self._send(self.sent[-1 - number % len(self.sent)], crash)

    @rule(number=pick)
    def send_another_answer_under_the_same_key(self, number: int) -> None:
        stored = [one for one in self.sent if one.acked]
        if stored:
            one = stored[-1 - number % len(stored)]
            other = "B2" if one.choice != "B2" else "A1"
            self._send(Sent(one.who, one.ballot, one.key, other, acked=True), "")

    def _send(self, form: Sent, crash: str) -> None:
        if crash:
            (self.orders / crash).write_text("error")
        before = Ballot.objects.exclude(outcome="").count()
        reply = self.browsers[form.who].post(
            f"/p/{self.slug}/ballots/{form.ballot}/",
            {"choice": form.choice, "key": form.key},
            **JSON,
        )
        struck = crash and not (self.orders / crash).exists()
        for left in self.orders.iterdir():
            left.unlink()
        now = Ballot.objects.exclude(outcome="").count()
        row = Ballot.objects.get(pk=form.ballot)
        stored = str(row.idempotency_key) == form.key
        if struck:
            assert reply.status_code == 500
            assert crash == "vote.committed" or now == before, "half a vote was stored"
        else:
            assert reply.status_code in (200, 409, 422)
            assert stored == (reply.status_code == 200), "an answer says what is stored"
        if now > before:
            assert stored
            assert not form.acked
            self.said[row.comparison_id, form.who] = "ranked"
        form.acked = form.acked or (stored and reply.status_code == 200)

    @rule(number=pick)
    def skip(self, number: int) -> None:
        if not self.shown:
            return
        who, ballot = self.shown[-1 - number % len(self.shown)]
        reply = self.browsers[who].post(
            f"/p/{self.slug}/ballots/{ballot}/skip/",
            {"reason": "no idea", "key": str(uuid4())},
            **JSON,
        )
        if reply.status_code == 200:
            self.said[Ballot.objects.get(pk=ballot).comparison_id, who] = "skipped"
        else:
            assert reply.status_code == 409

    @rule(who=person)
    def undo(self, who: int) -> None:
        last = queue.last_said(self.users[who], self.campaign)
        if last is None:
            return
        reply = self.browsers[who].post(
            f"/p/{self.slug}/campaigns/{self.pk}/undo/", {"ballot": str(last.pk)}, **JSON
        )
        if reply.status_code == 200:
            assert self.frozen is None or last.pk not in self.frozen[1]
            self.said[last.comparison_id, who] = "withdrawn"
            self._look_again(who)

    @rule(who=person, number=pick)
    def revise(self, who: int, number: int) -> None:
        mine = list(Ballot.objects.filter(annotator=self.users[who]).exclude(outcome=""))
        if mine:
            url = f"/p/{self.slug}/ballots/{mine[number % len(mine)].pk}/reopen/"
            assert self.browsers[who].post(url).status_code == 303
            self._look_again(who)

    def _look_again(self, who: int) -> None:
        opened = Ballot.objects.filter(annotator=self.users[who], outcome="")
        self.shown += [(who, one) for one in opened.values_list("pk", flat=True)]

    @rule(who=person)
    def let_claims_lapse(self, who: int) -> None:
        hour = timedelta(hours=1)
        open_ones = Ballot.objects.filter(annotator=self.users[who], outcome="")
        open_ones.update(claimed_at=F("claimed_at") - hour, expires_at=F("expires_at") - hour)

    @rule()
    def close_or_open_the_campaign(self) -> None:
        closed = None if self.campaign.closed_at else timezone.now()
        Campaign.objects.filter(pk=self.pk).update(closed_at=closed)

    @rule(who=person)
    def exclude(self, who: int) -> None:
        if self.users[who].enrolments.filter(campaign=self.pk).exists():
            people.exclude(self.campaign, self.users[who], "a test")
            self.excluded.add(who)

    # The loop

    @rule(crash=st.sampled_from(["", "freeze.listed", "freeze.committed"]))
    def freeze(self, crash: str) -> None:
        """Again and again, and whatever was voted since: the list stays."""
        if crash:
            (self.orders / crash).write_text("error")
        with contextlib.suppress(failpoints.Struck, ValueError):  # nothing to learn from
            labelling.label(Round.objects.get(pk=self.round.pk))
        for left in self.orders.iterdir():
            left.unlink()
        row = Round.objects.get(pk=self.round.pk)
        found = set(row.ballots.values_list("pk", flat=True))
        if self.frozen is None and row.ballots_sha256:
            self.frozen = row.ballots_sha256, found

    # Workers

    @rule()
    def ask_for_a_job(self) -> None:
        if len(self.job) < 4:
            spec = jobs.SampleJob(engine_url="-", model="-", n=1)
            self.job[dispatch.submit(self.project, spec, "asked for").pk] = "queued"

    @rule(crash=st.booleans())
    def take_a_job(self, crash: bool) -> None:
        if crash:
            (self.orders / "job.claimed").write_text("error")
        Job.objects.filter(project=self.project).update(not_before=None)
        try:
            job = claims.claim("cpu", f"worker-{len(self.held)}")
        except failpoints.Struck:
            job = None
        (self.orders / "job.claimed").unlink(missing_ok=True)
        for left in self.orders.iterdir():
            left.unlink()
        if job is not None:
            assert self.job[job.pk] == "queued"
            self.job[job.pk] = "running"
            self.held.append(job)

    @rule(number=pick, how=ENDS)
    def speak_for_a_job(self, number: int, how: str) -> None:
        """Whoever believes to hold it: the worker that does, or one of the past."""
        if not self.held:
            return
        job = self.held[-1 - number % len(self.held)]
        row = Job.objects.get(pk=job.pk)
        mine = row.state == "running" and row.epoch == job.epoch
        said = {
            "succeed": lambda: claims.succeed(job, {"epoch": job.epoch}),
            "fail": lambda: claims.fail(job, "It broke.", permanent=False),
            "release": lambda: claims.release(job),
            "cancelled": lambda: claims.cancelled(job),
            "heartbeat": lambda: claims.heartbeat(job, {}) or row.cancel_requested and mine,
        }[how]()
        assert bool(said) == mine
        if mine:
            self.job[job.pk] = Job.objects.get(pk=job.pk).state
        if mine and how == "succeed":
            self.results[job.pk] = job.epoch

    @rule()
    def lose_all_leases(self) -> None:
        running = Job.objects.filter(project=self.project, state="running")
        count = running.count()
        running.update(lease_until=F("created_at"))
        assert claims.sweep() == count
        for job in Job.objects.filter(pk__in=self.job):
            self.job[job.pk] = job.state
        assert "running" not in self.job.values()

    @rule(number=pick)
    def cancel_a_job(self, number: int) -> None:
        if self.job:
            job = Job.objects.get(pk=list(self.job)[number % len(self.job)])
            dispatch.cancel(job)
            self.job[job.pk] = job.state

    # The alias

    @rule(number=st.integers(0, 2), crash=st.booleans())
    def point(self, number: int, crash: bool) -> None:
        """Promote or roll back, once the engine has answered; the engine has tests of its own."""
        policy = self.policies[number]
        if crash:
            (self.orders / "promotion.flipping").write_text("error")
        try:
            serving._point(self.project, "current", policy, None, "a test", {})
        except failpoints.Struck:
            pass
        else:
            if self.pointer is None or self.pointer[0] != policy.pk:
                self.pointer = policy.pk, self.pointer and self.pointer[0]
                self.flips += 1
        for left in self.orders.iterdir():
            left.unlink()

    # What was promised

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:  # I1
        for one in self.sent:
            if one.acked:
                row = Ballot.objects.get(pk=one.ballot)
                assert (str(row.idempotency_key), row.outcome) == (one.key, "ranked")
                assert row.annotator == self.users[one.who]

    @invariant()
    def one_vote_of_a_person_counts(self) -> None:  # I2
        found = list(
            queue.standing(self.campaign.comparisons.all()).values_list("comparison", "annotator")
        )
        assert len(found) == len(set(found))
        wanted = {
            (pk, self.users[who].pk) for (pk, who), word in self.said.items() if word == "ranked"
        }
        assert set(found) <= wanted
        out = {self.users[who].pk for who in self.excluded}
        assert {one for one in wanted if one[1] not in out} <= set(found)

    @invariant()
    def no_more_people_than_wanted_are_asked(self) -> None:
        for comparison in self.campaign.comparisons.all():
            seats = list(
                comparison.ballots.filter(seat__isnull=False).values_list("seat", flat=True)
            )
            assert len(seats) == len(set(seats)) <= OVERLAP

    @invariant()
    def every_job_is_where_its_story_left_it(self) -> None:  # I3, I4
        for job in Job.objects.filter(pk__in=self.job):
            assert job.state == self.job[job.pk]
            assert (job.lease_until is not None) == (job.state == "running")
            assert (job.result or {}).get("epoch") == self.results.get(job.pk)
            done = Event.objects.filter(job=job, message="done").count()
            assert done == (job.pk in self.results)

    @invariant()
    def the_alias_is_where_its_last_move_left_it(self) -> None:  # I5, I9
        row = Deployment.objects.filter(project=self.project).first()
        assert (row and (row.policy_id, row.previous_id)) == self.pointer
        moves = Flip.objects.filter(deployment__project=self.project).order_by("pk")
        assert moves.count() == self.flips
        chain = list(moves.values_list("before", "after"))
        assert all(a[1] == b[0] for a, b in zip(chain, chain[1:], strict=False))

    @invariant()
    def a_frozen_list_stays(self) -> None:  # I6
        row = Round.objects.get(pk=self.round.pk)
        found = set(row.ballots.values_list("pk", flat=True))
        if self.frozen is None:
            assert (row.ballots_sha256, found) == ("", set())
        else:
            assert (row.ballots_sha256, found) == self.frozen
            assert rows.ballots_digest(row.ballots.all()) == row.ballots_sha256

    @invariant()
    def nobody_else_s_project_was_touched(self) -> None:  # I8
        assert not Ballot.objects.filter(comparison__campaign=self.elsewhere).exists()
        assert not Job.objects.filter(project=self.other).exists()

    def teardown(self) -> None:
        for browser in self.browsers:
            assert browser.get(f"/p/{self.other.slug}/").status_code == 404


@pytest.fixture(autouse=True)
def _orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    folder = tmp_path / "orders"
    folder.mkdir()
    monkeypatch.setattr(failpoints, "FOLDER", str(folder))
    monkeypatch.setattr(Life, "orders", folder)
    monkeypatch.setattr(serving, "SEEN_SECONDS", 0.0)
    monkeypatch.setattr(dispatch, "_silent_until", float("inf"))  # no Redis here
    settings.RUNS_DIR = tmp_path / "runs"
    settings.MAX_ATTEMPTS = 3
    yield
    assert os.listdir(folder) == []


QUICK = settings(
    max_examples=8,
    stateful_step_count=30,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # a failure is told as it was found
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_any_life_keeps_what_was_promised() -> None:
    run(Life, settings=QUICK)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_five_hundred_lives_keep_what_was_promised() -> None:
    run(Life, settings=settings(QUICK, max_examples=500, phases=tuple(Phase)))
