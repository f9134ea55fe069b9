"""In which order comparisons come to somebody who has passed by more of them than a claim sees."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from plumbline.collect import queue
from plumbline.collect.models import Ballot, Comparison, Enrolment
from plumbline.collect.queue import claims, figures, order
from tests.collect.crowd import vote
from tests.comparisons import compare, open_campaign


@pytest.fixture
def short_head(monkeypatch):
    """A claim sees three comparisons at the head of the order."""
    monkeypatch.setattr(order, "HEAD", 3)


def test_somebody_far_down_the_order_goes_on_from_there(short_head, project, bob, prefer):
    campaign = open_campaign(project, comparisons=10, overlap=2)
    asked = [prefer(queue.claim_next(bob, campaign)).comparison_id for _ in range(10)]
    assert all(before < after for before, after in pairwise(asked))
    assert queue.claim_next(bob, campaign) is None
    place = Enrolment.objects.get()
    assert place.cursor_comparison == asked[-1]


def test_the_cursor_follows_priorities(short_head, project, bob, prefer):
    campaign = open_campaign(project, comparisons=10, overlap=2)
    by_number = list(campaign.comparisons.order_by("pk"))
    for number, comparison in enumerate(by_number):
        Comparison.objects.filter(pk=comparison.pk).update(priority=number % 3)
    wanted = campaign.comparisons.order_by("-priority", "pk").values_list("pk", flat=True)
    asked = [prefer(queue.claim_next(bob, campaign)).comparison_id for _ in range(10)]
    assert asked == list(wanted)


def test_what_comes_free_behind_somebody_is_found(short_head, project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=10, overlap=2)
    first = prefer(queue.claim_next(carol, campaign)).comparison
    queue.set_overlap(first, 1)
    while ballot := queue.claim_next(bob, campaign):
        prefer(ballot)
    assert not first.ballots.filter(annotator=bob).exists()
    queue.set_overlap(first, 2)
    assert queue.claim_next(bob, campaign).comparison == first


def test_something_urgent_comes_first_wherever_somebody_is(short_head, project, bob, prefer):
    campaign = open_campaign(project, comparisons=10, overlap=2)
    for _ in range(6):
        prefer(queue.claim_next(bob, campaign))
    prompts = campaign.comparisons.first().prompt.set
    urgent = compare(campaign, prompts, "Urgent?", ["yes", "no"], priority=5)
    assert queue.claim_next(bob, campaign).comparison == urgent


def test_now_and_then_somebody_begins_at_the_top_again(short_head, project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=10, overlap=2)
    fifth = campaign.comparisons.order_by("pk")[4]
    queue.set_overlap(fifth, 1)
    vote(carol, fifth, [[0], [1]])
    for _ in range(7):
        prefer(queue.claim_next(bob, campaign))
    queue.set_overlap(fifth, 2)
    assert prefer(queue.claim_next(bob, campaign)).comparison_id > fifth.pk
    long_ago = timezone.now() - 2 * order.CURSOR_LASTS
    Enrolment.objects.filter(user=bob).update(cursor_at=long_ago)
    assert queue.claim_next(bob, campaign).comparison == fifth


def fewer(questions: int, by: int) -> int:
    """On PostgreSQL what needs no answer in between is asked in one trip."""
    return questions - by if connection.vendor == "postgresql" else questions


def test_a_claim_asks_the_database_few_questions(project, bob, prefer):
    campaign = open_campaign(project, comparisons=20)
    prefer(queue.claim_next(bob, campaign))
    with CaptureQueriesContext(connection) as asked:
        ballot = queue.claim_next(bob, campaign)
    assert len(asked) <= fewer(12, by=3)
    with CaptureQueriesContext(connection) as asked:
        prefer(ballot)
    assert len(asked) <= fewer(7, by=3)


def test_a_vote_with_the_page_that_comes_back_asks_few_questions(
    project, bob, client_for, monkeypatch
):
    untested = {"gold_start": 0, "gold_end": 0, "repeat_share": 0}  # a test is looked for by chance
    campaign = open_campaign(project, comparisons=20, quality=untested)
    browser = client_for(bob)

    def send(ballot):
        form = {"choice": "A1", "key": uuid4(), "active_ms": "9000"}
        where = f"/p/alpha/ballots/{ballot.pk}/"
        with CaptureQueriesContext(connection) as asked:
            said = browser.post(where, form, HTTP_HX_REQUEST="true")
        assert said.status_code == 200
        assert said["HX-Push-Url"] != where
        return len(asked)

    send(queue.claim_next(bob, campaign))
    assert send(queue.claim_next(bob, campaign)) <= fewer(27, by=6), "counted at each look"
    monkeypatch.setattr(figures, "SMALL", 1)
    monkeypatch.setattr(figures, "SECONDS", 300)  # however slow the machine is
    send(queue.claim_next(bob, campaign))
    assert send(queue.claim_next(bob, campaign)) <= fewer(20, by=6)


def test_full_says_whether_votes_are_wanted(project, bob, carol, prefer, let_expire):
    campaign = open_campaign(project, comparisons=1)
    comparison = campaign.comparisons.get()

    def full() -> bool:
        comparison.refresh_from_db()
        return comparison.full

    ballot = queue.claim_next(bob, campaign)
    assert not full(), "a claim may lapse"
    prefer(ballot)
    assert full()
    reopened = queue.undo(bob, campaign)
    assert not full()
    let_expire(reopened)
    assert queue.claim_next(carol, campaign).seat == 0


def test_a_vote_made_elsewhere_counts_where_full_does_not_know_of_it(campaign, bob, carol):
    for comparison in campaign.comparisons.all():
        vote(carol, comparison, [[0], [1]])
    assert queue.complete(campaign)
    assert queue.claim_next(bob, campaign) is None
    done = queue.progress(carol, campaign)
    assert (done.mine, done.votes) == (3, 3)


def test_a_large_campaign_is_counted_now_and_then_and_oneself_always(
    monkeypatch, project, bob, carol, prefer
):
    monkeypatch.setattr(figures, "SMALL", 2)
    campaign = open_campaign(project, comparisons=4, overlap=2, deadline=_tomorrow())
    assert queue.progress(bob, campaign) == queue.Progress(mine=0, votes=0, wanted=8, left=4)
    prefer(queue.claim_next(bob, campaign))
    prefer(queue.claim_next(carol, campaign))
    done = queue.progress(bob, campaign)
    assert (done.mine, done.votes) == (1, 0)
    cache.clear()
    assert queue.progress(bob, campaign).votes == 2


def _tomorrow():
    return timezone.now() + timedelta(days=1)


def said_elsewhere(person, project) -> None:
    now = timezone.now()
    there = open_campaign(project, comparisons=400).comparisons.all()
    told = {"shown": [0, 1], "outcome": "skipped", "claimed_at": now}
    told["expires_at"] = now + timedelta(minutes=15)
    for revision in range(1, 11):
        Ballot.objects.bulk_create(
            Ballot(comparison=one, annotator=person, revision=revision, cast_at=now, **told)
            for one in there
        )


@pytest.mark.postgres
def test_reading_a_place_does_not_grow_with_what_the_person_has_said(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=120, quality={"repeat_share": 0.0})
    said_elsewhere(carol, project)  # or a hundred ballots are all there are, and soon read whole
    statement, given = claims.PLACE.prepared.ready({"user": bob.pk, "campaign": campaign.pk})
    reading = statement % tuple(given)

    def ballots_read() -> int:
        with CaptureQueriesContext(connection) as queries:
            prefer(queue.claim_next(bob, campaign))
        trips = [query["sql"].split("; ") for query in queries]
        (place,) = (sql for trip in trips for sql in trip if sql == reading)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # or rows that earlier tests took back count as there
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {place}")
            ((((read,),),),) = [cursor.fetchall()]
        return _rows_read(read["Plan"], "collect_ballot")

    for _ in range(10):
        prefer(queue.claim_next(bob, campaign))
    few = ballots_read()
    for _ in range(90):
        prefer(queue.claim_next(bob, campaign))
    assert 0 < ballots_read() < few + 30


def _rows_read(plan: dict[str, Any], table: str) -> int:
    """The rows of a table that a query looked at, by the plan it went by."""
    below = sum(_rows_read(part, table) for part in plan.get("Plans", []))
    if plan.get("Relation Name") != table:
        return below
    one_loop = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return below + round(one_loop * plan["Actual Loops"])
