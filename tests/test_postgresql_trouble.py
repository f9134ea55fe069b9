"""On a PostgreSQL that is too slow or has no connection left, pages give up in time and people are
told to come back; what they send again is stored once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import OperationalError, connection, connections
from django.test import Client

from plumbline.accounts import trouble
from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from tests.comparisons import open_campaign

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user, backend="plumbline.accounts.backends.ByPassword")
    return client


@pytest.fixture
def limited(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process of pages that gives a statement up after a second."""
    ours = connections.settings["default"]
    monkeypatch.setitem(ours, "OPTIONS", dict(ours["OPTIONS"]))
    here = connection.settings_dict
    monkeypatch.setitem(here, "OPTIONS", ours["OPTIONS"])
    trouble.limit_statements(1)
    connection.close()
    yield
    connection.close()


@contextmanager
def another(statement: str) -> Iterator[None]:
    """Somebody else is in the middle of a transaction."""
    known = connection.settings_dict
    address = {"host": known["HOST"] or None, "user": "postgres", "dbname": known["NAME"]}
    with psycopg.connect(**address) as other:
        other.execute(statement)
        yield
        other.rollback()


def test_statements_that_wait_too_long_are_shed_and_nothing_is_lost(
    limited: None, project: Any
) -> None:
    campaign = open_campaign(project, comparisons=8)
    people = [User.objects.create_user(username=f"person-{n}") for n in range(8)]
    for one in people:
        Membership.objects.create(project=project, user=one, role="annotator")
    ballots = [queue.claim_next(one, campaign) for one in people]
    assert all(ballots)
    forms = [{"choice": "A2", "key": str(uuid4())} for _ in people]
    found: dict[int, tuple[int, float]] = {}

    def vote(n: int) -> None:
        started = time.monotonic()
        reply = clients[n].post(f"/p/alpha/ballots/{ballots[n].pk}/", forms[n])  # type: ignore[union-attr]
        found[n] = reply.status_code, time.monotonic() - started
        connection.close()

    clients = [signed_in(one) for one in people]

    def storm() -> None:
        threads = [threading.Thread(target=vote, args=[n]) for n in range(len(people))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with another("LOCK TABLE collect_ballot IN ACCESS EXCLUSIVE MODE"):
        storm()
    assert {status for status, _ in found.values()} == {503}
    assert max(taken for _, taken in found.values()) < 5
    storm()
    assert {status for status, _ in found.values()} == {303}
    assert Ballot.objects.filter(outcome="ranked").count() == 8


def test_a_query_that_sleeps_is_given_up(limited: None) -> None:
    started = time.monotonic()
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - started < 3


def test_without_a_connection_left_people_are_told_to_come_back(project: Any, bob: User) -> None:
    ballot = queue.claim_next(bob, open_campaign(project, comparisons=1))
    assert ballot is not None
    browser = signed_in(bob)
    known = connection.settings_dict
    address = {"host": known["HOST"] or None, "user": "postgres", "dbname": known["NAME"]}
    url = f"/p/alpha/ballots/{ballot.pk}/"
    connection.close()
    with ExitStack() as all_of_them:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                all_of_them.enter_context(psycopg.connect(**address))
        with pytest.raises(psycopg.OperationalError, match="too many"):
            psycopg.connect(**address)
        started = time.monotonic()
        reply = browser.get(url)
        assert (reply.status_code, reply["Retry-After"]) == (503, "5")
        assert time.monotonic() - started < 2
    deadline = time.monotonic() + 30
    while (reply := browser.get(url)).status_code == 503:  # they are closed a moment later
        assert time.monotonic() < deadline
    assert reply.status_code == 200
