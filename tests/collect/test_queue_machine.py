"""Any sequence of claims, votes, skips, undos, reopenings and changes of overlap keeps the rules.

Hypothesis plays two comparisons and three people against a model in plain Python: who has said
what, and that nothing said is ever edited.
"""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign
from plumbline.collect.queue import seats
from tests.comparisons import open_campaign

PEOPLE, PAIRS = 3, 2
person = st.integers(0, PEOPLE - 1)
FROZEN_FIELDS = ("comparison", "annotator", "revision", "outcome", "ranking", "cast_at", "shown")


class Life(RuleBasedStateMachine):
    """What people do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        from plumbline.accounts.models import Project

        name = uuid4().hex[:12]
        project = Project.objects.create(name=name, slug=name)
        self.people = [User.objects.create(username=f"{name}-{n}") for n in range(PEOPLE)]
        for user in self.people:
            Membership.objects.create(project=project, user=user, role="annotator")
        self.pk = open_campaign(project, comparisons=PAIRS).pk
        self.overlap, self.lowered = 1, False
        self.said: dict[tuple[int, int], str] = {}  # by comparison and person: the latest word
        self.written: dict[object, tuple] = {}

    @property
    def campaign(self) -> Campaign:
        return Campaign.objects.get(pk=self.pk)

    @rule(who=person)
    def claim(self, who: int) -> None:
        user = self.people[who]
        ballot = queue.claim_next(user, self.campaign)
        if ballot is None:
            assert queue.progress(user, self.campaign).left == 0
            return
        if ballot.revises is None or ballot.revises.outcome in ("", "withdrawn"):
            assert self.said.get((ballot.comparison_id, who), "withdrawn") == "withdrawn"
        assert queue.claim_next(user, self.campaign) == ballot

    @rule(who=person, best=st.integers(0, 1), newest=st.booleans())
    def vote(self, who: int, best: int, newest: bool) -> None:
        ballot = self._open(who, newest)
        if ballot is None:
            return
        verdict = queue.Verdict("ranked", ranking=[[best], [1 - best]])
        try:
            queue.cast(ballot, verdict, uuid4())
        except queue.Refused:
            return
        self.said[ballot.comparison_id, who] = "ranked"

    @rule(who=person, newest=st.booleans())
    def skip(self, who: int, newest: bool) -> None:
        ballot = self._open(who, newest)
        if ballot is None:
            return
        try:
            queue.skip(ballot, "no idea", uuid4())
        except queue.Refused:
            return
        self.said[ballot.comparison_id, who] = "skipped"

    @rule(who=person)
    def undo(self, who: int) -> None:
        last = queue.last_said(self.people[who], self.campaign)
        try:
            opened = queue.undo(self.people[who], self.campaign)
        except queue.TooLate:
            assert last is not None
            assert last.outcome == "skipped"
            return
        assert (opened is None) == (last is None)
        if last is not None:
            self.said[last.comparison_id, who] = "withdrawn"

    @rule(who=person, number=st.integers(0, 3))
    def reopen(self, who: int, number: int) -> None:
        mine = Ballot.objects.filter(annotator=self.people[who]).exclude(outcome="")
        answers = list(mine.order_by("cast_at"))
        if answers:
            try:
                opened = queue.reopen(answers[number % len(answers)])
            except queue.Refused:
                return
            assert queue.is_live(opened)

    @rule(who=person)
    def let_claims_lapse(self, who: int) -> None:
        from datetime import timedelta

        hour = timedelta(hours=1)
        for one in Ballot.objects.filter(annotator=self.people[who], outcome=""):
            Ballot.objects.filter(pk=one.pk).update(
                claimed_at=one.claimed_at - hour, expires_at=one.expires_at - hour
            )

    @precondition(lambda self: self.overlap < PEOPLE)
    @rule()
    def raise_overlap(self) -> None:
        self.overlap += 1
        Campaign.objects.filter(pk=self.pk).update(overlap=self.overlap)

    @precondition(lambda self: self.overlap > 1)
    @rule()
    def lower_overlap(self) -> None:
        self.overlap, self.lowered = self.overlap - 1, True
        Campaign.objects.filter(pk=self.pk).update(overlap=self.overlap)

    @invariant()
    def what_stands_is_what_was_last_said(self) -> None:
        standing = queue.standing(self.campaign.comparisons.all())
        found = set(standing.values_list("comparison", "annotator"))
        votes = {
            (comparison, self.people[who].pk)
            for (comparison, who), word in self.said.items()
            if word == "ranked"
        }
        assert found == votes
        for who, user in enumerate(self.people):
            mine = sum(word == "ranked" for (_, one), word in self.said.items() if one == who)
            assert queue.progress(user, self.campaign).mine == mine

    @invariant()
    def nobody_is_asked_too_much(self) -> None:
        campaign = self.campaign
        seats.settle(campaign)
        for comparison in campaign.comparisons.all():
            seated = list(comparison.ballots.filter(seat__isnull=False))
            assert len({one.annotator_id for one in seated}) == len(seated)
            votes = sum(bool(one.outcome) for one in seated)
            assert comparison.full == (votes >= self.overlap)
            assert self.lowered or len(seated) <= self.overlap
            standing = queue.standing(campaign.comparisons.filter(pk=comparison.pk)).count()
            assert votes == standing, "every vote that stands holds a seat"

    @invariant()
    def nothing_said_is_edited(self) -> None:
        for ballot in Ballot.objects.exclude(outcome="").filter(comparison__campaign=self.pk):
            now = tuple(getattr(ballot, f"{name}") for name in FROZEN_FIELDS[2:])
            assert self.written.setdefault(ballot.pk, now) == now

    def _open(self, who: int, newest: bool) -> Ballot | None:
        mine = Ballot.objects.filter(
            annotator=self.people[who], outcome="", comparison__campaign=self.pk
        )
        return mine.order_by("-claimed_at" if newest else "claimed_at").first()


@pytest.mark.django_db
def test_any_life_of_a_queue_keeps_its_rules():
    run(
        Life,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
