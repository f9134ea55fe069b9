"""How many votes one person may give in an hour and in a day: no way of sending them gets past."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models import F
from django.utils import timezone

from plumbline.collect import queue, versions
from plumbline.collect.models import Ballot, CampaignVersion
from plumbline.collect.queue import history
from tests.collect.test_concurrency import at_once
from tests.comparisons import compare, open_campaign

PLAIN = {"gold_start": 0.0, "gold_end": 0.0, "repeat_share": 0.0}
BETTER = queue.Verdict("ranked", ranking=[[0], [1]])


def capped(project, comparisons: int = 8, **caps):
    return open_campaign(project, comparisons=comparisons, quality={**PLAIN, **caps})


def votes_of(person, campaign) -> int:
    return queue.standing(campaign.comparisons.all()).filter(annotator=person).count()


def work(person, campaign, prefer) -> int:
    """Votes given before the queue gave nothing more."""
    given = 0
    while ballot := queue.claim_next(person, campaign):
        prefer(ballot)
        given += 1
    return given


def age(person, ago: timedelta) -> None:
    Ballot.objects.filter(annotator=person, cast_at__isnull=False).update(
        cast_at=F("cast_at") - ago
    )


pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("name", "window"), [("hourly_cap", 1), ("daily_cap", 24)])
def test_after_so_many_votes_nothing_is_given_out_until_the_window_has_passed(
    name, window, project, bob, carol, prefer
):
    campaign = capped(project, **{name: 3})
    assert work(bob, campaign, prefer) == 3
    said = queue.why_not(bob, campaign)
    assert said.startswith("You have reached t")
    assert "number of votes, 3" in said
    assert queue.claim_next(carol, campaign) is not None, "others go on"
    age(bob, timedelta(hours=window) - timedelta(minutes=2))
    assert queue.claim_next(bob, campaign) is None
    age(bob, timedelta(minutes=3))
    assert queue.why_not(bob, campaign) == ""
    assert work(bob, campaign, prefer) == 3


def test_it_says_when_to_come_back_and_that_is_true(project, bob, prefer):
    campaign = capped(project, hourly_cap=2)
    work(bob, campaign, prefer)
    first = Ballot.objects.filter(annotator=bob).order_by("cast_at")[0].cast_at
    told = re.search(r"come back at (\d\d):(\d\d) UTC", queue.why_not(bob, campaign))
    assert told is not None
    until = timezone.localtime(first + timedelta(hours=1))
    late = (int(told[1]) * 60 + int(told[2]) - until.hour * 60 - until.minute) % (24 * 60)
    assert late == 1, "the full minute after the vote's hour is over"


def test_a_day_holds_after_its_hours_have_passed(project, bob, prefer):
    campaign = capped(project, hourly_cap=2, daily_cap=3)
    assert work(bob, campaign, prefer) == 2
    assert "this hour’s" in queue.why_not(bob, campaign)
    age(bob, timedelta(hours=2))
    assert work(bob, campaign, prefer) == 1
    said = queue.why_not(bob, campaign)
    assert "today’s number of votes, 3" in said


def test_skips_training_and_what_was_taken_back_count_for_nothing(project, bob, prefer):
    campaign = capped(project, daily_cap=2)
    prompts = campaign.comparisons.first().prompt.set
    expected = {"outcome": "ranked", "ranking": [[0], [1]]}
    compare(campaign, prompts, "Train?", ["a", "b"], kind="training", expected=expected)
    assert prefer(queue.claim_next(bob, campaign)).comparison.kind == "training"
    queue.skip(queue.claim_next(bob, campaign), "unclear", uuid4())
    prefer(queue.claim_next(bob, campaign))
    queue.undo(bob, campaign)
    assert work(bob, campaign, prefer) == 2
    assert votes_of(bob, campaign) == 3, "two, and the training's"


def test_a_hidden_test_counts_like_anything_else(project, bob, prefer):
    campaign = capped(project, comparisons=1, hourly_cap=2)
    prompts = campaign.comparisons.get().prompt.set
    expected = {"outcome": "ranked", "ranking": [[0], [1]]}
    gold = compare(campaign, prompts, "Gold?", ["a", "b"], kind="gold", expected=expected)
    ballot = history.open_claim(bob, gold, 0, timezone.now())
    prefer(ballot)
    assert queue.why_not(bob, campaign) == ""
    assert work(bob, campaign, prefer) == 1
    assert "number of votes, 2" in queue.why_not(bob, campaign)


def test_own_votes_may_be_revised_at_the_cap_and_never_above_it(project, bob, prefer):
    campaign = capped(project, hourly_cap=2)
    queue.skip(queue.claim_next(bob, campaign), "unclear", uuid4())
    skipped = queue.last_said(bob, campaign)
    work(bob, campaign, prefer)
    vote = queue.last_said(bob, campaign)
    again = queue.reopen(vote)
    prefer(again, 1)
    assert votes_of(bob, campaign) == 2
    assert queue.claim_next(bob, campaign) is None
    with pytest.raises(queue.Refused, match="number of votes, 2"):
        queue.reopen(skipped)


def test_what_is_open_when_a_cap_comes_is_refused_in_words_and_not_given_again(
    project, bob, client_for, prefer
):
    campaign = capped(project)
    prefer(queue.claim_next(bob, campaign))
    left = queue.claim_next(bob, campaign)
    campaign.quality = {**PLAIN, "daily_cap": 1}
    campaign.save()
    fields = {"choice": "A2", "key": str(uuid4())}
    url = f"/p/alpha/ballots/{left.pk}/"
    page = client_for(bob).post(url, fields, follow=True)
    told = page.content.decode()
    assert "This last one was not saved." in told
    assert page.redirect_chain[-1][0] == f"/p/alpha/campaigns/{campaign.pk}/"
    assert "Continue" not in told
    assert votes_of(bob, campaign) == 1
    refused = client_for(bob).post(url, fields, headers={"Accept": "application/json"})
    assert refused.status_code == 409
    assert "today’s number of votes, 1" in refused.json()["refused"]


def test_the_page_says_so_and_offers_no_start(project, bob, client_for, prefer):
    campaign = capped(project, daily_cap=1)
    url = f"/p/alpha/campaigns/{campaign.pk}/"
    client = client_for(bob)
    assert "Start comparing" in client.get(url).content.decode()
    work(bob, campaign, prefer)
    page = client.get(url).content.decode()
    assert "You have reached today’s number of votes, 1. Thank you; come back at" in page
    assert "Continue" not in page
    claimed = client.post(f"/p/alpha/campaigns/{campaign.pk}/claim/", follow=True)
    assert claimed.redirect_chain[-1][0] == url


def test_without_a_cap_nothing_is_asked_for_it(
    project, bob, prefer, django_assert_num_queries, monkeypatch
):
    campaign = capped(project)
    prefer(queue.claim_next(bob, campaign))
    with django_assert_num_queries(0):
        assert queue.cap_reached(bob, campaign) == ""


def test_a_cap_is_a_version_and_goes_on_to_the_next_round(project, alice):
    campaign = capped(project)
    quality = {**campaign.quality, "daily_cap": 40}
    version = versions.change(campaign, {"quality": quality}, alice)
    before = CampaignVersion.objects.get(campaign=campaign, number=version.number - 1)
    (found,) = versions.compare(before.settings, version.settings)
    assert (found.label, found.after) == ("Quality: daily cap", "40")


@pytest.mark.django_db(transaction=True)
def test_votes_sent_at_once_cannot_pass_it_together(shared_db, project, bob, client_for):
    campaign = capped(project, comparisons=10, hourly_cap=3)
    for _ in range(10):
        queue.skip(queue.claim_next(bob, campaign), "unclear", uuid4())
    skips = Ballot.objects.filter(annotator=bob)
    opened = [queue.reopen(skip) for skip in skips]
    client = client_for(bob)

    def send(ballot):
        fields = {"choice": "A2", "key": str(uuid4())}
        url = f"/p/alpha/ballots/{ballot.pk}/"
        return client.post(url, fields, headers={"Accept": "application/json"}).status_code

    told = at_once([lambda b=ballot: send(b) for ballot in opened])
    assert sorted(told) == [200] * 3 + [409] * 7
    assert votes_of(bob, campaign) == 3
