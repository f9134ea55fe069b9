"""A campaign's life for researchers: filling, pausing, closing, pace and cost."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect import filling, lifecycle, queue, throughput, versions
from plumbline.collect.models import Campaign, Comparison, Completion, Prompt, PromptSet
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def answered(project):
    """Ten training prompts with four answers each, and two held-out ones."""
    source = PromptSet.objects.create(project=project, name="Stored answers")
    for n in range(12):
        prompt = Prompt.objects.create(
            set=source,
            messages=[{"role": "user", "content": f"Stored {n}?"}],
            digest=f"{n}",
            split="heldout" if n > 9 else "train",
        )
        for k in range(4):
            Completion.objects.create(prompt=prompt, origin="a test", text=f"Answer {n}.{k}")
    return source


@pytest.fixture
def empty(project):
    return Campaign.objects.create(project=project, name="Empty")


def send(client, campaign, **given):
    data = {"answers": "2", "strategy": "random", "most": "100", **given}
    return client.post(f"/p/alpha/campaigns/{campaign.pk}/fill/", data)


def test_stored_answers_become_pairs_that_people_can_vote_on(
    client_for, alice, bob, answered, empty
):
    client = client_for(alice)
    page = client.get(f"/p/alpha/campaigns/{empty.pk}/fill/").content.decode()
    assert "Stored answers (10 prompts left)" in page
    assert send(client, empty, source=str(answered.pk)).status_code == 302
    assert empty.comparisons.count() == 10
    one = empty.comparisons.first()
    assert (one.strategy, one.p_select, one.slots.count()) == ("random", 1 / 6, 2)
    assert queue.claim_next(bob, empty) is not None


def test_groups_to_rank_say_how_likely_they_were(client_for, alice, answered, empty):
    send(client_for(alice), empty, source=str(answered.pk), answers="3", most="4")
    assert empty.comparisons.count() == 4
    one = empty.comparisons.first()
    assert (one.slots.count(), one.p_select) == (3, 1 / 4)


def test_filling_twice_adds_only_what_is_new(client_for, alice, answered, empty):
    client = client_for(alice)
    send(client, empty, source=str(answered.pk), most="7")
    send(client, empty, source=str(answered.pk))
    prompts = empty.comparisons.values_list("prompt", flat=True)
    assert len(prompts) == len(set(prompts)) == 10
    page = client.get(f"/p/alpha/campaigns/{empty.pk}/fill/").content.decode()
    assert "No stored answers to compare" in page


def test_training_data_takes_no_held_out_prompt_and_an_evaluation_only_those(answered, empty):
    filling.fill(empty, answered, "random", 2, 100, random.Random(1))
    assert set(empty.comparisons.values_list("prompt__split", flat=True)) == {"train"}
    judged = Campaign.objects.create(project=empty.project, name="Judged", purpose="evaluate")
    filling.fill(judged, answered, "random", 2, 100, random.Random(1))
    assert set(judged.comparisons.values_list("prompt__split", flat=True)) == {"heldout"}
    assert judged.comparisons.count() == 2


def test_too_few_answers_are_told(client_for, alice, answered, empty):
    response = send(client_for(alice), empty, source=str(answered.pk), answers="5")
    assert response.status_code == 422
    assert "no prompt left with 5 different answers" in response.content.decode()
    response = send(client_for(alice), empty, source=str(answered.pk), most="0")
    assert "Prompts must be between 1 and" in response.content.decode()


def test_another_projects_prompts_are_out_of_reach(client_for, alice, charlie, answered, empty):
    elsewhere = PromptSet.objects.create(project=charlie.projects.get(), name="Secret")
    response = send(client_for(alice), empty, source=str(elsewhere.pk))
    assert response.status_code == 422
    assert not empty.comparisons.exists()


def test_pausing_and_closing_are_versions_with_an_author(client_for, alice, campaign):
    client, page = client_for(alice), f"/p/alpha/campaigns/{campaign.pk}/step/"
    seen = []
    for step in ("pause", "resume", "close", "reopen"):
        client.post(page, {"do": step})
        campaign.refresh_from_db()
        seen.append(lifecycle.state(campaign))
    assert seen == ["paused", "active", "closed", "active"]
    assert campaign.versions.filter(author=alice).count() == 4


def test_a_step_that_makes_no_sense_is_refused_in_words(client_for, alice, campaign):
    page = f"/p/alpha/campaigns/{campaign.pk}/step/"
    response = client_for(alice).post(page, {"do": "resume"}, follow=True)
    assert "The campaign is open; that cannot be done now." in response.content.decode()
    campaign.refresh_from_db()
    assert campaign.settings_version == 1


def test_a_campaign_past_its_deadline_says_so(client_for, alice, campaign):
    versions.change(campaign, {"deadline": timezone.now() - timedelta(hours=1)}, alice)
    page = client_for(alice).get(f"/p/alpha/campaigns/{campaign.pk}/manage/").content.decode()
    assert "Past its deadline" in page


def test_a_closed_campaign_hands_out_nothing(client_for, alice, bob, campaign):
    lifecycle.step(campaign, "close", alice)
    assert queue.claim_next(bob, campaign) is None


def test_pace_time_and_cost_are_counted_from_peoples_votes(alice, bob, carol, campaign):
    versions.change(campaign, {"hourly_rate": Decimal("20.00"), "overlap": 2}, alice)
    robot = User.objects.create_user(username="robot", kind=User.Kind.SIMULATED)
    now = timezone.now()
    one, two, three = campaign.comparisons.order_by("pk")
    crowd.vote(bob, one, [[0], [1]], at=now - timedelta(minutes=2), active_ms=1_800_000)
    crowd.vote(carol, one, [[0], [1]], at=now - timedelta(minutes=30), active_ms=1_800_000)
    crowd.vote(robot, two, [[0], [1]], at=now - timedelta(minutes=40), active_ms=9_000_000)
    crowd.vote(carol, three, [[0], [1]], at=now - timedelta(hours=3), active_ms=None)
    crowd.vote(bob, crowd.gold(campaign), [[0], [1]], at=now - timedelta(hours=4), active_ms=0)
    found = throughput.of(campaign)
    assert (found.votes, found.wanted, found.left) == (4, 6, 2), "known ones are not wanted"
    assert found.pace == 3
    assert found.active_hours == 1
    assert found.cost == 20
    assert (found.people, found.now, found.unmeasured) == (3, 1, 1)
    assert found.finish is not None
    assert timedelta(minutes=39) < found.finish - now < timedelta(minutes=41)
    assert sum(bar.votes for bar in found.bars) == 5


def test_an_empty_campaign_estimates_nothing(client_for, alice, empty):
    found = throughput.of(empty)
    assert (found.wanted, found.finish, found.cost, found.bars) == (0, None, None, ())
    text = client_for(alice).get(f"/p/alpha/campaigns/{empty.pk}/manage/").content.decode()
    assert "No comparisons yet" in text
    assert "set an hourly rate" in text


def test_the_overview_leads_to_its_votes_as_a_file(client_for, alice, campaign):
    open_campaign(campaign.project)
    client = client_for(alice)
    text = client.get(f"/p/alpha/campaigns/{campaign.pk}/manage/").content.decode()
    path = f"/p/alpha/data/export/?campaigns={campaign.pk}"
    assert path in text
    form = client.get(path).context["form"]
    assert form["campaigns"].value() in ([str(campaign.pk)], [campaign.pk])


def test_figures_are_polled_as_a_part_of_the_page(client_for, alice, campaign):
    page = f"/p/alpha/campaigns/{campaign.pk}/manage/"
    part = client_for(alice).get(page, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="live-figures"')
    assert 'hx-trigger="every 10s"' in part


def test_the_list_shows_where_each_campaign_stands(client_for, alice, bob, campaign):
    crowd.vote(bob, campaign.comparisons.first(), [[0], [1]])
    open_campaign(campaign.project, comparisons=0)
    text = client_for(alice).get("/p/alpha/campaigns/").content.decode()
    assert "Campaign 0" in text
    assert "Campaign 1" in text
    assert Comparison.objects.count() == 3


def test_a_project_without_campaigns_invites_to_make_one(client_for, alice):
    assert "No campaigns yet" in client_for(alice).get("/p/alpha/campaigns/").content.decode()
