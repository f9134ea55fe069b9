"""Gold at work: the pause rule, disputed gold, planting, and that none of it trains a policy."""

from __future__ import annotations

import random

import pytest

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Comparison, Completion, Enrolment
from plumbline.collect.quality import gold, people, planting
from plumbline.collect.votes import counted
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db

RIGHT, WRONG = [[0], [1]], [[1], [0]]


@pytest.fixture
def golds(campaign):
    return [crowd.gold(campaign, n) for n in range(8)]


def answer(user, comparison, ranking) -> Ballot:
    """A vote, reviewed as the queue does."""
    ballot = crowd.vote(user, comparison, ranking)
    gold.review(ballot)
    return ballot


def test_five_wrong_answers_pause_a_person_and_say_why(campaign, golds, bob):
    for comparison in golds[:4]:
        answer(bob, comparison, WRONG)
    assert not Enrolment.objects.filter(user=bob, paused_at__isnull=False).exists()
    answer(bob, golds[4], WRONG)
    place = Enrolment.objects.get(campaign=campaign, user=bob)
    assert place.paused_at is not None
    assert place.pause_reason.startswith("0 of 5 known comparisons right")


def test_right_answers_pause_nobody_and_ordinary_votes_ask_the_database_nothing(
    campaign, golds, bob, django_assert_num_queries
):
    for comparison in golds:
        answer(bob, comparison, RIGHT)
    ballot = crowd.vote(bob, campaign.comparisons.first(), RIGHT)
    with django_assert_num_queries(0):
        gold.review(ballot)
    assert not Enrolment.objects.filter(paused_at__isnull=False).exists()


def test_a_campaign_may_leave_pausing_to_people(project, bob):
    campaign = open_campaign(project, quality={"pause": False})
    for n in range(6):
        answer(bob, crowd.gold(campaign, n), WRONG)
    assert not Enrolment.objects.filter(paused_at__isnull=False).exists()


def test_a_corrected_answer_is_the_one_that_counts(campaign, golds, bob):
    answer(bob, golds[0], WRONG)
    answer(bob, golds[0], RIGHT)
    assert gold.results(campaign)[bob.pk] == {golds[0].pk: True}


def test_two_people_of_proven_skill_retire_a_gold_that_counts_for_nobody(
    campaign, golds, bob, carol, caplog
):
    disputed, rest = golds[0], golds[1:6]
    for person in (bob, carol):
        for comparison in rest:
            answer(person, comparison, RIGHT)
    answer(bob, disputed, WRONG)
    disputed.refresh_from_db()
    assert disputed.retired_at is None
    answer(carol, disputed, WRONG)
    disputed.refresh_from_db()
    assert disputed.retired_at is not None
    assert disputed.why[gold.DISPUTED] == sorted([bob.pk, carol.pk])
    assert f"gold {disputed.pk} is retired" in caplog.text
    assert disputed.pk not in gold.results(campaign)[bob.pk]


def test_people_without_proven_skill_do_not_retire_a_gold(campaign, golds, bob, carol):
    for person in (bob, carol):
        for comparison in golds[1:4]:
            answer(person, comparison, RIGHT)
        answer(person, golds[0], WRONG)
    golds[0].refresh_from_db()
    assert golds[0].retired_at is None


def test_planted_gold_breaks_an_answer_or_doubles_it(project):
    campaign = open_campaign(project, comparisons=12)
    text = "A plumb line hangs straight down because gravity pulls the bob along the vertical. "
    for slot, completion in enumerate(Completion.objects.all()):
        completion.text = text * (1 + slot % 3) + f"Variant {slot}."
        completion.save()
    made = planting.plant(campaign, 8, random.Random(0))
    assert [one.why["planted"] == "duplicate" for one in made] == [n % 4 == 3 for n in range(8)]
    for one in made:
        texts = [slot.completion.text for slot in one.slots.all()]
        groups = one.expected["ranking"]
        assert (texts[0] == texts[1]) == (len(groups) == 1)
        assert one.kind == "gold"
        original = Comparison.objects.get(pk=one.why["from"])
        assert texts[groups[0][0]] in [slot.completion.text for slot in original.slots.all()]
        assert one.prompt.messages == original.prompt.messages
    assert {one.expected["ranking"][0][0] for one in made if len(one.expected["ranking"]) == 2} == {
        0,
        1,
    }


def test_a_pair_is_planted_once_and_then_there_are_none_left(project):
    campaign = open_campaign(project, comparisons=3)
    assert len(planting.plant(campaign, 2, random.Random(0))) == 2
    assert len(planting.plant(campaign, 5, random.Random(0))) == 1
    with pytest.raises(ValueError, match="Every pair of this campaign has been used"):
        planting.plant(campaign, 1, random.Random(0))


def test_rankings_are_not_turned_into_gold_by_themselves(project):
    with pytest.raises(ValueError, match="or there are none"):
        planting.plant(open_campaign(project, answers=4), 1, random.Random(0))


def test_planted_answers_are_not_among_the_campaigns_own(project):
    campaign = open_campaign(project, comparisons=4)
    own = campaign.comparisons.first().prompt.set
    before = Completion.objects.filter(prompt__set=own).count()
    planting.plant(campaign, 4, random.Random(0))
    assert Completion.objects.filter(prompt__set=own).count() == before
    assert campaign.comparisons.filter(prompt__set=own).count() == 4


def test_what_is_asked_in_earnest_leaves_out_gold_repeats_and_training(campaign, golds, bob):
    ordinary = set(counted(campaign.comparisons.all()))
    first = campaign.comparisons.filter(kind="ordinary").first()
    for kind, fields in (
        ("repeat", {"repeats": first, "only_for": bob}),
        ("training", {"expected": {"outcome": "all_bad"}}),
    ):
        Comparison.objects.create(campaign=campaign, prompt=first.prompt, kind=kind, **fields)
    live = Comparison.objects.create(campaign=campaign, prompt=first.prompt, kind="live")
    assert len(ordinary) == 3
    assert set(counted(campaign.comparisons.all())) == ordinary | {live}


def test_an_excluded_persons_seats_go_to_others_and_their_words_stay(campaign, bob):
    first = campaign.comparisons.first()
    crowd.vote(bob, first, RIGHT)
    Comparison.objects.filter(pk=first.pk).update(full=True)
    with pytest.raises(ValueError, match="Say why"):
        people.exclude(campaign, bob, "  ")
    assert people.exclude(campaign, bob, "Answers without reading.") == 1
    ballot = Ballot.objects.get(annotator=bob)
    assert (ballot.seat, ballot.outcome, ballot.ranking) == (None, "ranked", RIGHT)
    first.refresh_from_db()
    assert not first.full
    place = Enrolment.objects.get(user=bob)
    assert place.paused_at
    assert place.excluded_at
    people.include(campaign, bob)
    place.refresh_from_db()
    assert (place.paused_at, place.excluded_at, place.pause_reason) == (None, None, "")


def test_exclusion_is_from_one_campaign_only(campaign, project, bob):
    from plumbline.collect.votes import kept

    other = open_campaign(project)
    here = crowd.vote(bob, campaign.comparisons.first(), RIGHT)
    there = crowd.vote(bob, other.comparisons.first(), RIGHT)
    people.exclude(campaign, bob, "Guesses.")
    assert set(kept(Ballot.objects.all())) == {there}
    assert here != there
    assert User.objects.filter(pk=bob.pk).exists()
