"""What goes stale: for how long comparisons are asked, how many expired, asking them again."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.collect import filling, queue, throughput, versions
from plumbline.collect.models import Campaign, Comparison
from tests.collect import crowd
from tests.collect.filled import in_form
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


def expire(comparison: Comparison) -> None:
    ago = timezone.now() - timedelta(minutes=1)
    Comparison.objects.filter(pk=comparison.pk).update(expires_at=ago)


def days_left(comparison: Comparison) -> float:
    comparison.refresh_from_db()
    return (comparison.expires_at - timezone.now()) / timedelta(days=1)


def test_a_campaigns_days_hold_for_what_is_put_before_people(project):
    source = open_campaign(project, comparisons=2).comparisons.first().prompt.set
    campaign = Campaign.objects.create(project=project, name="A week", stale_days=7)
    assert filling.fill(campaign, source, "random", 2, 10, random.Random(0)) == 2
    assert all(6.9 < days_left(one) < 7.1 for one in campaign.comparisons.all())
    for_good = Campaign.objects.create(project=project, name="For good")
    filling.fill(for_good, source, "random", 2, 10, random.Random(0))
    assert not for_good.comparisons.exclude(expires_at=None).exists()


def test_changed_days_begin_anew_for_what_waits(client_for, project, alice, bob):
    campaign = open_campaign(project, comparisons=3)
    answered, gone, waiting = campaign.comparisons.order_by("pk")
    crowd.vote(bob, answered, [[0], [1]])
    queue.set_overlap(answered, 1)  # counts it as full
    expire(gone)
    page = f"/p/alpha/campaigns/{campaign.pk}/edit/"
    data = in_form(project, campaign, stale_days="3")
    assert client_for(alice).post(page, data).status_code == 302
    assert 2.9 < days_left(waiting) < 3.1
    assert days_left(gone) < 0
    answered.refresh_from_db()
    assert answered.expires_at is None
    latest = campaign.versions.first()
    told = versions.compare(campaign.versions.last().settings, latest.settings)
    assert [(one.label, one.before, one.after) for one in told] == [
        ("Days a comparison is asked for", "for good", "3")
    ]
    refused = client_for(alice).post(page, {**data, "stale_days": "-1"})
    assert "Days a comparison is asked for must be between 0 and 3650." in refused.content.decode()


def test_researchers_see_how_many_expired_and_ask_them_again(client_for, project, alice, bob):
    campaign = open_campaign(project, comparisons=4, overlap=2)
    Campaign.objects.filter(pk=campaign.pk).update(stale_days=7)
    campaign.refresh_from_db()
    full, half, none, fresh = campaign.comparisons.order_by("pk")
    for person in (bob, alice):
        crowd.vote(person, full, [[0], [1]])
    queue.set_overlap(full, 2)
    crowd.vote(bob, half, [[0], [1]])
    for one in (full, half, none):
        expire(one)
    client, home = client_for(alice), f"/p/alpha/campaigns/{campaign.pk}"
    page = client.get(f"{home}/manage/").content.decode()
    assert "2 comparisons</a> expired" in page
    assert "Ask them again for 7 days" in page
    shown = client.get(f"{home}/comparisons/?show=expired").context["rows"]
    assert [row["comparison"] for row in shown] == [half, none]
    open_ones = client.get(f"{home}/comparisons/?show=open").context["rows"]
    assert [row["comparison"] for row in open_ones] == [fresh]
    assert queue.claim_next(bob, campaign).comparison == fresh
    said = client.post(f"{home}/bring-back/", follow=True).content.decode()
    assert "2 comparisons are asked again for 7 days." in said
    assert not queue.expired(campaign).exists()
    assert days_left(none) == pytest.approx(7, abs=0.1)
    assert days_left(full) < 0, "nothing is wanted of it any more"


def test_nothing_is_brought_back_into_a_closed_campaign(client_for, project, alice):
    campaign = open_campaign(project, comparisons=1)
    expire(campaign.comparisons.get())
    Campaign.objects.filter(pk=campaign.pk).update(closed_at=timezone.now())
    client = client_for(alice)
    home = f"/p/alpha/campaigns/{campaign.pk}"
    assert "Reopen the campaign" in client.get(f"{home}/manage/").content.decode()
    assert "is closed" in client.post(f"{home}/bring-back/", follow=True).content.decode()
    assert queue.expired(campaign).count() == 1


def test_only_a_researcher_brings_back(client_for, project, bob):
    campaign = open_campaign(project, comparisons=1)
    assert client_for(bob).post(f"/p/alpha/campaigns/{campaign.pk}/bring-back/").status_code == 403


def test_votes_wanted_count_each_comparisons_own_people_and_no_more_of_what_expired(
    project, alice, bob, carol
):
    campaign = open_campaign(project, comparisons=4, overlap=2)
    own, half, retired, plain = campaign.comparisons.order_by("pk")
    crowd.gold(campaign)
    queue.set_overlap(own, 5)
    for person in (alice, bob, carol):
        crowd.vote(person, own, [[0], [1]])
    crowd.vote(bob, half, [[0], [1]])
    crowd.skip(alice, plain)
    expire(half)
    Comparison.objects.filter(pk=retired.pk).update(retired_at=timezone.now())
    assert queue.tally(campaign) == queue.Tally(votes=4, wanted=5 + 1 + 2)
    pace = throughput.of(campaign)
    assert (pace.votes, pace.wanted, pace.left, pace.expired) == (4, 8, 4, 1)
    assert queue.progress(bob, campaign).wanted == 8
