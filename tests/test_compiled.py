"""Querysets compiled once: they ask what the queryset asks, with other values each time."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Draft
from plumbline.compiled import (
    Compiled,
    Prepared,
    Writing,
    given_id,
    given_time,
    given_uuid,
    together,
)
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def ballots(project, bob, carol):
    campaign = open_campaign(project, comparisons=2)
    return [queue.claim_next(person, campaign) for person in (bob, carol)]


def fields(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_rows_come_as_the_queryset_gives_them_with_all_that_goes_along(ballots):
    def asked(ballot, person):
        drafted = Exists(Draft.objects.filter(ballot=OuterRef("pk")))
        found = Ballot.objects.select_related("comparison__campaign").annotate(drafted=drafted)
        return found.filter(pk=ballot, annotator=person).order_by()

    compiled = Compiled(lambda: asked(given_uuid("ballot"), given_id("person")))
    queue.save_draft(ballots[1], {"choice": "A1"})
    for ballot in ballots:
        expected = asked(ballot.pk, ballot.annotator).get()
        with CaptureQueriesContext(connection) as queries:
            found = compiled.first(ballot=ballot.pk, person=ballot.annotator_id)
            assert fields(found) == fields(expected)
            assert fields(found.comparison) == fields(expected.comparison)
            assert found.comparison.campaign == expected.comparison.campaign
        assert len(queries) == 1
        assert found.drafted == expected.drafted == (ballot == ballots[1])
    assert compiled.first(ballot=uuid4(), person=ballots[0].annotator_id) is None


def test_times_are_compared_as_times(ballots):
    live = Compiled(lambda: Ballot.objects.filter(expires_at__gt=given_time("now")))
    now = timezone.now()
    assert set(live.all(now=now)) == set(ballots)
    assert live.all(now=now + timedelta(days=1)) == []


def test_fields_left_out_are_read_when_they_are_asked_for(bob):
    compiled = Compiled(lambda: User.objects.filter(pk=given_id("user")).only("pk"))
    found = compiled.first(user=bob.pk)
    assert found.get_deferred_fields()
    assert found.username == bob.username


def prepared_here(kind):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT statement FROM pg_prepared_statements WHERE statement LIKE %s", [f"%{kind}%"]
        )
        return [text for (text,) in cursor.fetchall()]


@pytest.mark.postgres
def test_a_statement_is_planned_once_a_connection_with_what_never_changes_in_it(ballots):
    marker = "planned 100% once's"
    told = Compiled(
        lambda: Ballot.objects.filter(pk=given_uuid("ballot"), outcome="").exclude(comment=marker)
    )
    for ballot in (*ballots, ballots[0]):
        assert told.first(ballot=ballot.pk) == ballot
    other = Compiled(
        lambda: Ballot.objects.filter(pk=given_uuid("ballot"), outcome="").exclude(comment="")
    )
    assert other.all(ballot=ballots[0].pk) == []
    (text,) = prepared_here("planned 100")
    assert "'planned 100% once''s'" in text
    assert "$1" in text
    assert "$2" not in text


@pytest.mark.postgres
def test_nothing_is_prepared_where_connections_are_handed_on(ballots, settings):
    settings.DATABASE_PREPARES = False
    told = Compiled(lambda: Ballot.objects.filter(pk=given_uuid("ballot"), comment="not prepared"))
    assert told.all(ballot=ballots[0].pk) == []
    assert prepared_here("not prepared") == []


def test_named_values_may_stand_in_sql_more_than_once(bob, carol):
    statement = Prepared.named(
        "SELECT username FROM accounts_user WHERE id = %(user)s OR id = %(user)s + %(more)s",
        given_id("user"),
        given_id("more"),
    )
    with connection.cursor() as cursor:
        for person in (bob, carol):
            statement.execute(cursor, user=person.pk, more=0)
            assert cursor.fetchall() == [(person.username,)]


def test_what_goes_together_takes_one_trip_and_each_sees_what_was_done_before(bob, carol):
    named = Compiled(lambda: User.objects.filter(pk=given_id("user")))
    rename = Prepared.named(
        "UPDATE accounts_user SET username = username || '; 100 %%' WHERE id = %(user)s",
        given_id("user"),
    )
    told, him = (named, {"user": bob.pk}), {"user": bob.pk}
    with CaptureQueriesContext(connection) as queries:
        before, nothing, after, other = together(
            told, (rename, him), told, (named, {"user": carol.pk})
        )
    assert [one.username for one in (*before, *after, *other)] == ["bob", "bob; 100 %", "carol"]
    assert nothing == []
    assert len(queries) == (1 if connection.vendor == "postgresql" else 4)
    assert together() == []


@pytest.mark.postgres
def test_it_takes_one_trip_where_connections_are_handed_on_too(bob, carol, settings):
    settings.DATABASE_PREPARES = False
    named = Compiled(lambda: User.objects.filter(pk=given_id("user")).exclude(username="100 %"))
    with CaptureQueriesContext(connection) as queries:
        found = together((named, {"user": bob.pk}), (named, {"user": carol.pk}))
    assert found == [[bob], [carol]]
    assert len(queries) == 1


def test_where_one_of_several_fails_nothing_after_it_is_done(bob, ballots):
    first, second = ballots
    second.comparison_id, second.seat = first.comparison_id, first.seat
    rename = Prepared.named(
        "UPDATE accounts_user SET username = 'else' WHERE id = %(user)s", given_id("user")
    )
    taken = Writing(Ballot).updating(second, ("comparison", "seat"))
    with pytest.raises(IntegrityError), transaction.atomic():
        together(taken, (rename, {"user": bob.pk}))
    assert User.objects.get(pk=bob.pk).username == "bob"


def test_rows_are_stored_as_save_stores_them(ballots):
    writing, now = Writing(Draft), timezone.now()
    draft = writing.insert(Draft(pk=7, ballot=ballots[0], fields={"comment": "50 % é"}))
    assert now <= draft.saved_at <= timezone.now()
    assert fields(Draft.objects.get()) == fields(draft)
    draft.fields, draft.saved_at = {"choice": "A1"}, now
    writing.update(draft, ("fields",))
    stored = Draft.objects.get()
    assert stored.fields == {"choice": "A1"}
    assert stored.saved_at != now
    with pytest.raises(IntegrityError), transaction.atomic():
        writing.insert(Draft(pk=8, ballot=ballots[0], fields={}))
