"""A database that is away, too slow or out of connections: people are told to come back, keep what
they filled in, and sending it again stores it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, ProgrammingError, connection
from django.test import Client

from plumbline.accounts import trouble
from plumbline.accounts.models import User
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(bob: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(bob, backend="plumbline.accounts.backends.ByPassword")
    return client


@pytest.fixture
def ballot(project: Any, bob: User) -> Ballot:
    found = queue.claim_next(bob, open_campaign(project, comparisons=1))
    assert found is not None
    return found


@contextmanager
def away(error: Exception, after: int = 0) -> Iterator[None]:
    """Every statement from the `after`-th on fails, as all do when the server has gone."""
    left = after

    def fail(execute: Callable[..., Any], *given: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise error
        return execute(*given)

    with connection.execute_wrapper(fail):
        yield


class Form(HTMLParser):
    """The fields of a page's form that are hidden."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("type") == "hidden":
            self.fields.setdefault(given["name"], []).append(given["value"])


GONE = OperationalError("server closed the connection unexpectedly")


def test_a_page_says_to_come_back(browser: Client, ballot: Ballot) -> None:
    with away(GONE):
        reply = browser.get(f"/p/alpha/ballots/{ballot.pk}/")
    assert (reply.status_code, reply["Retry-After"]) == (503, "5")
    page = reply.content.decode()
    assert "Busy at the moment" in page
    assert "server closed" not in page
    assert "<form" not in page
    assert "Content-Security-Policy" in reply


def test_a_vote_that_was_not_heard_comes_back_and_is_sent_again(
    browser: Client, ballot: Ballot
) -> None:
    url, key = f"/p/alpha/ballots/{ballot.pk}/", str(uuid4())
    sent = {"choice": "A2", "key": key, "comment": 'a "quoted" <b>word</b>'}
    with away(GONE, after=4):
        reply = browser.post(url, sent)
    assert reply.status_code == 503
    assert not Ballot.objects.exclude(outcome="").exists()
    kept = Form(reply.content.decode()).fields
    assert {name: values for name, values in kept.items() if "csrf" not in name} == {
        name: [value] for name, value in sent.items()
    }
    assert browser.post(url, {name: values[0] for name, values in kept.items()}).status_code == 303
    assert browser.post(url, {name: values[0] for name, values in kept.items()}).status_code == 303
    stored = Ballot.objects.get(outcome="ranked")
    assert (str(stored.idempotency_key), stored.pk) == (key, ballot.pk)


@pytest.mark.django_db(transaction=True)
def test_every_statement_of_a_vote_may_be_its_last(
    browser: Client, project: Any, bob: User
) -> None:
    """Wherever the database goes away, all of the vote is stored or nothing of it."""
    campaign = open_campaign(project, comparisons=40)
    struck = 0
    for after in range(60):
        ballot = queue.claim_next(bob, campaign)
        assert ballot is not None
        form = {"choice": "A2", "key": str(uuid4())}
        with away(GONE, after=after):
            reply = browser.post(f"/p/alpha/ballots/{ballot.pk}/", form)
        struck += reply.status_code == 503
        again = browser.post(f"/p/alpha/ballots/{ballot.pk}/", form)
        assert again.status_code == 303
        stored = Ballot.objects.get(pk=ballot.pk)
        assert (stored.outcome, str(stored.idempotency_key)) == ("ranked", form["key"])
        if reply.status_code == 303:
            break
    assert struck == after >= 8, "every statement was struck once, until none was left"
    assert Ballot.objects.filter(outcome="ranked").count() == after + 1


def test_an_outbox_and_htmx_hear_it_too(browser: Client, ballot: Ballot) -> None:
    form = {"choice": "A2", "key": str(uuid4())}
    with away(GONE):
        reply = browser.post(f"/p/alpha/ballots/{ballot.pk}/", form, HTTP_ACCEPT="application/json")
    assert (reply.status_code, reply["Retry-After"]) == (503, "5")
    assert reply.json() == {"error": trouble.SENTENCE}


def test_what_is_secret_is_not_written_into_a_page(bob: User) -> None:
    bob.set_password("correct horse battery staple")
    bob.save()
    browser = Client(raise_request_exception=False)
    with away(GONE):
        reply = browser.post(
            "/accounts/login/", {"login": "bob", "password": "correct horse battery staple"}
        )
    assert reply.status_code == 503
    assert "correct horse" not in reply.content.decode()


@pytest.mark.parametrize(
    "error", [ProgrammingError("no"), OperationalError("no such table: x"), ValueError("no")]
)
def test_what_is_broken_stays_an_error(browser: Client, ballot: Ballot, error: Exception) -> None:
    with away(error):
        reply = browser.get(f"/p/alpha/ballots/{ballot.pk}/")
    assert reply.status_code == 500
    assert "Something broke here" in reply.content.decode()
