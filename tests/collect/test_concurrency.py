"""Many at once, on a real SQLite file or PostgreSQL: no seat twice, no vote twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import connection

from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(tasks: list[Callable]) -> list:
    """Run all at the same moment, each on a connection of its own."""
    gate = Barrier(len(tasks))

    def run(task):
        try:
            gate.wait()
            return task()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def crowd(project, size: int) -> list[User]:
    people = User.objects.bulk_create(User(username=f"person-{n}") for n in range(size))
    Membership.objects.bulk_create(
        Membership(project=project, user=person, role="annotator") for person in people
    )
    return people


def test_twenty_people_on_one_comparison_fill_exactly_its_overlap(shared_db, project):
    campaign = open_campaign(project, comparisons=1, overlap=3)
    people = crowd(project, 20)
    claims = at_once([lambda p=person: queue.claim_next(p, campaign) for person in people])
    taken = [ballot for ballot in claims if ballot]
    assert sorted(ballot.seat for ballot in taken) == [0, 1, 2]


def test_twenty_people_label_everything_once_and_nothing_twice(shared_db, project):
    # No hidden repeats, which come by chance to who has answered enough.
    quality = {"repeat_share": 0.0}
    campaign = open_campaign(project, comparisons=12, overlap=2, quality=quality)
    people = crowd(project, 20)

    def work(person):
        while ballot := queue.claim_next(person, campaign):
            queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]]), uuid4())

    at_once([lambda p=person: work(p) for person in people])
    votes = Ballot.objects.values_list("comparison", "seat")
    assert sorted(votes) == sorted(
        (comparison.pk, seat) for comparison in campaign.comparisons.all() for seat in (0, 1)
    )
    assert queue.complete(campaign)


def test_one_person_in_ten_tabs_holds_one_claim(shared_db, project, bob):
    campaign = open_campaign(project, comparisons=10)
    claims = at_once([lambda: queue.claim_next(bob, campaign)] * 10)
    assert len({ballot.pk for ballot in claims}) == 1


def test_sixty_parallel_posts_of_one_form_are_one_vote(shared_db, project, bob, client_for):
    campaign = open_campaign(project, comparisons=4)
    ballot = queue.claim_next(bob, campaign)
    client = client_for(bob)
    cookie = client.cookies["sessionid"].value
    form = {"choice": "A2", "key": str(uuid4())}

    def post() -> str:
        browser = type(client)()
        browser.cookies["sessionid"] = cookie
        response = browser.post(f"/p/alpha/ballots/{ballot.pk}/", form)
        assert response.status_code == 303
        return response["Location"]

    answers = at_once([post] * 60)
    assert len(set(answers)) == 1, "everybody is sent to the same next comparison"
    assert Ballot.objects.exclude(outcome="").count() == 1
    assert Ballot.objects.filter(outcome="").count() == 1


def test_a_late_vote_and_a_new_claim_cannot_both_have_the_seat(
    shared_db, project, bob, carol, prefer, let_expire
):
    for _ in range(5):
        campaign = open_campaign(project, comparisons=1)
        late = queue.claim_next(bob, campaign)
        let_expire(late)

        def vote(ballot=late):
            try:
                return prefer(ballot)
            except queue.TooLate:
                return None

        stored, claimed = at_once([vote, lambda c=campaign: queue.claim_next(carol, c)])
        assert (stored is None) != (claimed is None)


def test_fifty_people_on_one_pair_are_exactly_its_overlap(shared_db, project):
    campaign = open_campaign(project, comparisons=1, overlap=3)
    people = crowd(project, 50)

    def vote(person):
        ballot = queue.claim_next(person, campaign)
        if ballot is not None:
            queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]]), uuid4())
        return ballot

    assert sum(ballot is not None for ballot in at_once([lambda p=p: vote(p) for p in people])) == 3
    assert sorted(Ballot.objects.filter(outcome="ranked").values_list("seat", flat=True)) == [
        0,
        1,
        2,
    ]
