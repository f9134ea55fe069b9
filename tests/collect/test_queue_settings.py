"""Who is asked at all, and what: changing overlap, deadlines, pauses, training, hidden tests."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from plumbline.collect import enrolment, queue
from plumbline.collect.models import Campaign, Comparison, Enrolment
from plumbline.collect.quality import people
from tests.collect.crowd import gold
from tests.comparisons import compare, open_campaign


def enrol(campaign, user, **fields) -> Enrolment:
    return Enrolment.objects.update_or_create(campaign=campaign, user=user, defaults=fields)[0]


def training(campaign, number: int = 0, ranking=((0,), (1,))) -> Comparison:
    return compare(
        campaign,
        campaign.comparisons.first().prompt.set,
        f"Training question {number}?",
        [f"Right {number}", f"Wrong {number}"],
        kind="training",
        expected={"outcome": "ranked", "ranking": [list(group) for group in ranking]},
        explanation="The first one answers the question.",
    )


def test_raising_a_comparison_s_overlap_asks_more_people(project, bob, carol, alice, prefer):
    campaign = open_campaign(project, comparisons=1)
    comparison = prefer(queue.claim_next(bob, campaign)).comparison
    assert queue.claim_next(carol, campaign) is None
    queue.set_overlap(comparison, 2)
    assert not queue.complete(campaign)
    prefer(queue.claim_next(carol, campaign))
    assert queue.claim_next(alice, campaign) is None
    assert queue.complete(campaign)


def test_lowering_an_overlap_takes_no_vote_away_and_asks_nobody_else(
    project, bob, carol, alice, prefer
):
    campaign = open_campaign(project, comparisons=1, overlap=3)
    for person in (bob, carol):
        prefer(queue.claim_next(person, campaign))
    queue.undo(bob, campaign)  # seat 0 is bob's open claim, seat 1 is carol's vote
    queue.skip(queue.claim_next(bob, campaign), "no idea", uuid4())
    queue.set_overlap(campaign.comparisons.get(), 1)
    assert queue.claim_next(alice, campaign) is None, "a free seat below is not a wanted vote"
    assert queue.standing(campaign.comparisons.all()).count() == 1
    assert queue.complete(campaign)


def test_a_campaign_s_overlap_may_change_at_any_time(project, bob, carol, alice, prefer):
    campaign = open_campaign(project, comparisons=2)
    prefer(queue.claim_next(bob, campaign))
    prefer(queue.claim_next(bob, campaign))
    assert queue.complete(campaign)
    Campaign.objects.update(overlap=2)
    campaign = Campaign.objects.get()
    assert not queue.complete(campaign)
    for _ in range(2):
        prefer(queue.claim_next(carol, campaign))
    assert queue.claim_next(alice, campaign) is None
    Campaign.objects.update(overlap=1)
    campaign = Campaign.objects.get()
    assert queue.complete(campaign)
    assert queue.claim_next(alice, campaign) is None
    assert queue.standing(campaign.comparisons.all()).count() == 4


def test_what_is_stale_or_retired_is_not_asked_and_holds_nothing_up(project, bob, prefer):
    campaign = open_campaign(project, comparisons=3)
    stale, retired, other = campaign.comparisons.order_by("pk")
    now = timezone.now()
    Comparison.objects.filter(pk=stale.pk).update(expires_at=now - timedelta(seconds=1))
    Comparison.objects.filter(pk=retired.pk).update(retired_at=now)
    Comparison.objects.filter(pk=other.pk).update(expires_at=now + timedelta(hours=1))
    assert prefer(queue.claim_next(bob, campaign)).comparison == other
    assert queue.claim_next(bob, campaign) is None
    assert queue.complete(campaign)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"closed_at": timedelta(0)}, "closed"),
        ({"paused_at": timedelta(0)}, "paused"),
        ({"deadline": timedelta(seconds=-1)}, "deadline"),
    ],
)
def test_a_campaign_that_is_shut_says_why_and_opens_no_claims(
    settings, words, campaign, bob, carol
):
    mine = queue.claim_next(bob, campaign)
    for name, ago in settings.items():
        setattr(campaign, name, timezone.now() + ago)
    campaign.save()
    assert words in queue.why_not(carol, campaign)
    assert queue.claim_next(carol, campaign) is None
    assert queue.claim_next(bob, campaign) == mine, "what is being read may be answered"


def test_a_campaign_past_its_deadline_waits_for_nobody(campaign):
    campaign.deadline = timezone.now() + timedelta(hours=1)
    assert not queue.complete(campaign)
    campaign.deadline = timezone.now()
    assert queue.complete(campaign)


@pytest.mark.parametrize("when", ["paused_at", "excluded_at", "left_at"])
def test_people_who_are_paused_excluded_or_gone_get_nothing(when, campaign, bob):
    queue.claim_next(bob, campaign)
    enrol(campaign, bob, **{when: timezone.now()})
    assert queue.why_not(bob, campaign).endswith(".")
    assert queue.claim_next(bob, campaign) is None
    assert queue.progress(bob, campaign).left == 0


def test_a_campaign_for_the_invited_asks_them_alone(project, bob, carol):
    campaign = open_campaign(project, invited_only=True)
    enrol(campaign, bob)
    assert queue.why_not(bob, campaign) == ""
    assert queue.claim_next(bob, campaign) is not None
    assert "invited" in queue.why_not(carol, campaign)
    assert queue.claim_next(carol, campaign) is None
    assert not Enrolment.objects.filter(user=carol).exists()


def test_others_are_asked_in_place_of_an_excluded_person(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    prefer(queue.claim_next(bob, campaign))
    people.exclude(campaign, bob, "clicks at random")
    assert not queue.complete(campaign)
    prefer(queue.claim_next(carol, campaign))
    assert queue.complete(campaign)


def test_nobody_waits_for_people_who_may_not_answer(project, bob, carol):
    campaign = open_campaign(project, comparisons=1)
    queue.skip(queue.claim_next(bob, campaign), "broken", uuid4())
    assert not queue.complete(campaign), "carol may still vote"
    people.pause(campaign, carol, "too fast")
    assert queue.complete(campaign)


def test_training_comes_first_and_tells_what_was_expected(project, bob, prefer):
    campaign = open_campaign(project, comparisons=1)
    for number in range(2):
        training(campaign, number)
    first = queue.claim_next(bob, campaign)
    assert first.comparison.kind == "training"
    said = queue.feedback(prefer(first, 1))
    assert (said.right, said.left, said.passed) == (False, 1, False)
    assert said.expected["ranking"] == [[0], [1]]
    assert said.explanation == "The first one answers the question."


def test_whoever_passes_the_training_goes_on_for_good(project, bob, prefer):
    campaign = open_campaign(project, comparisons=1)
    training(campaign)
    said = queue.feedback(prefer(queue.claim_next(bob, campaign), 0))
    assert (said.right, said.passed) == (True, True)
    training(campaign, 1)
    assert queue.claim_next(bob, campaign).comparison.kind == "ordinary"


def test_whoever_fails_the_training_waits_for_a_researcher(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    training(campaign)
    prefer(queue.claim_next(bob, campaign), 1)
    assert "training" in queue.why_not(bob, campaign)
    assert queue.claim_next(bob, campaign) is None
    assert queue.why_not(carol, campaign) == "", "she has not been asked yet"
    queue.let_in(bob, campaign)
    assert queue.claim_next(bob, campaign).comparison.kind == "ordinary"


def test_everybody_is_trained_at_once_and_training_is_no_vote(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    training(campaign)
    for person in (bob, carol):
        prefer(queue.claim_next(person, campaign))
    figures = queue.progress(bob, campaign)
    assert (figures.mine, figures.votes, figures.wanted) == (0, 0, 1)
    assert not queue.complete(campaign)


def test_a_hidden_test_is_asked_of_everybody_and_counts_for_nothing(project, bob, carol, prefer):
    always = {"gold_start": 0.5, "gold_end": 0.5, "repeat_share": 0.0}
    campaign = open_campaign(project, comparisons=12, overlap=2, quality=always)
    hidden = gold(campaign)
    for person in (bob, carol):
        while ballot := queue.claim_next(person, campaign):
            prefer(ballot)
    assert hidden.ballots.exclude(outcome="").count() == 2
    assert queue.complete(campaign)
    figures = queue.progress(bob, campaign)
    assert figures == queue.Progress(mine=12, votes=24, wanted=24, left=0)


def test_a_repeat_is_shown_with_its_sides_swapped(project, bob, prefer):
    often = {"gold_start": 0.0, "gold_end": 0.0, "repeat_share": 0.5, "repeat_gap": 1}
    campaign = open_campaign(project, comparisons=20, quality=often)
    while ballot := queue.claim_next(bob, campaign):
        prefer(ballot)
    repeats = campaign.comparisons.filter(kind="repeat")
    assert repeats
    for repeat in repeats:
        again, first = repeat.ballots.get(), repeat.repeats.ballots.get()
        assert again.shown == first.shown[::-1]
    assert queue.progress(bob, campaign).mine == 20


def test_who_misses_the_hidden_tests_is_paused_with_the_vote(project, bob, prefer):
    always = {"gold_start": 0.5, "gold_end": 0.5, "repeat_share": 0.0}
    campaign = open_campaign(project, comparisons=40, quality=always)
    for number in range(12):
        gold(campaign, number)
    while ballot := queue.claim_next(bob, campaign):
        prefer(ballot, 1)
    assert Enrolment.objects.get(user=bob).paused_at is not None
    assert "paused" in queue.why_not(bob, campaign)


def test_whoever_leaves_gets_nothing_more_and_frees_what_they_had_open(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=2)
    prefer(queue.claim_next(bob, campaign))
    held = queue.claim_next(bob, campaign)
    enrolment.leave(campaign, bob)
    assert queue.claim_next(bob, campaign) is None
    assert queue.why_not(bob, campaign) == "You have left this campaign."
    assert queue.claim_next(carol, campaign).comparison == held.comparison
    assert queue.standing(campaign.comparisons.all()).count() == 1, "what they said stays"
