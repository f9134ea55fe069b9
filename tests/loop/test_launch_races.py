"""Many at once begin the same round, or vote while its votes are frozen: one round, one list."""

from __future__ import annotations

import contextlib
import threading
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection

from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.loop import labelling, rounds, rows
from plumbline.loop.models import Round, RoundStage, Stage
from tests.collect.test_concurrency import at_once, crowd
from tests.comparisons import shared_db  # noqa: F401  # a fixture
from tests.loop.test_advance import at_label

pytestmark = pytest.mark.django_db(transaction=True)


def test_twenty_launches_at_once_are_one_round(shared_db: Any, experiment_of: Any) -> None:  # noqa: F811
    experiment = experiment_of()

    def launch() -> str:
        try:
            return str(rounds.begin(experiment).number)
        except ValueError as told:
            return str(told)
        except IntegrityError:
            return "refused by the database"

    said = at_once([launch] * 20)
    assert said.count("1") == 1
    refused = {"Round 1 of Try is still in progress.", "refused by the database"}
    assert set(said) - {"1"} <= refused
    assert Round.objects.count() == RoundStage.objects.count() == 1


def test_votes_that_come_while_the_list_is_frozen_are_on_it_or_not(
    shared_db: Any,  # noqa: F811
    experiment_of: Any,
    project: Any,
) -> None:
    round = at_label(rounds.begin(experiment_of(overlap=6)))
    assert round.campaign is not None
    people = crowd(project, 6)
    for person in people[:2]:
        _vote(person, round.campaign)
    frozen = threading.Event()

    def work(person: Any) -> None:
        while not frozen.is_set() and _vote(person, round.campaign):
            if person is people[-1]:
                with contextlib.suppress(queue.Refused):
                    queue.undo(person, round.campaign)

    def freeze() -> None:
        try:
            rounds.close_labels(round)
            labelling.label(Round.objects.get(pk=round.pk))
        finally:
            frozen.set()

    at_once([*(lambda p=person: work(p) for person in people[2:]), freeze])
    row = Round.objects.get(pk=round.pk)
    listed = set(row.ballots.values_list("pk", flat=True))
    assert row.ballots_sha256 == rows.ballots_digest(row.ballots.all())
    undone = Ballot.objects.filter(outcome=Ballot.Outcome.WITHDRAWN, revises__in=listed)
    assert not undone.exists(), "what a round has listed cannot be taken back"
    Round.objects.filter(pk=round.pk).update(stage=Stage.LABEL)
    labelling.label(Round.objects.get(pk=round.pk))
    assert set(row.ballots.values_list("pk", flat=True)) == listed
    connection.close()


def _vote(person: Any, campaign: Any) -> bool:
    ballot = queue.claim_next(person, campaign)
    if ballot is None:
        return False
    try:
        queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]]), uuid4())
    except queue.Refused:
        return False
    return True
