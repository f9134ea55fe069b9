"""Gold at work: the pause rule, disputed gold, planting, and that none of it trains a policy."""

from __future__ import annotations

import random

import pytest

from plumbline.accounts.models import User
from plumbline.collect import screen
from plumbline.collect.models import Ballot, Comparison, Completion, Enrolment
from plumbline.collect.quality import gold, people, planting, skill
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
    with pytest.raises(ValueError, match="Every comparison that could be used has been"):
        planting.plant(campaign, 1, random.Random(0))


def test_a_ranking_is_known_by_one_of_its_answers_and_a_copy_of_it(project, bob):
    campaign = open_campaign(project, comparisons=8, answers=4)
    made = planting.plant(campaign, 8, random.Random(0))
    assert [one.why["planted"] == "duplicate" for one in made] == [n % 4 == 3 for n in range(8)]
    for one in made:
        origins = {slot.slot: slot.completion.origin for slot in one.slots.all()}
        assert sorted(origins.values())[:2] == ["planted: as it was"] * 2
        known = [slot for group in one.expected["ranking"] for slot in group]
        assert not {"planted: as it was"} & {origins[slot] for slot in known}
        free = [slot for slot in origins if slot not in known]
        right = crowd.vote(bob, one, [[free[0]], *one.expected["ranking"], [free[1]]])
        assert skill.passes(one.expected, right)
        backwards = [[slot] for slot in (*known[::-1], *free)]
        assert skill.passes(one.expected, crowd.vote(bob, one, backwards)) is False


def test_of_more_than_six_answers_none_can_be_known(project):
    with pytest.raises(ValueError, match="of two to 6 answers side by side"):
        planting.plant(open_campaign(project, answers=7), 1, random.Random(0))


def test_where_people_only_rate_a_broken_answer_is_known_to_be_rated_lower(project, bob):
    scale = [{"name": "truth", "least": 1, "most": 5}, {"name": "tone", "least": 1, "most": 5}]
    campaign = open_campaign(project, comparisons=4, asks=["rate"], criteria=scale)
    made = planting.plant(campaign, 4, random.Random(0))
    broken, duplicate = made[0], made[3]
    (better,), (worse,) = broken.expected["rated"]

    def passes(comparison, first, second):
        ratings = {
            str(slot): {"truth": value, "tone": 3}
            for slot, value in zip((better, worse), (first, second), strict=True)
        }
        ballot = crowd.vote(bob, comparison, outcome="absolute", ratings=ratings)
        return skill.passes(comparison.expected, ballot)

    assert passes(broken, 4, 2) is True
    assert passes(broken, 3, 3) is False
    assert passes(broken, 2, 4) is False
    assert passes(duplicate, 4, 4) is True
    assert passes(duplicate, 5, 1) is False
    said = screen.expected(Ballot(shown=[better, worse]), broken.expected)
    assert said == "A rated above B"
    assert screen.expected(Ballot(shown=[0, 1]), duplicate.expected) == "A and B rated alike"


def test_a_known_answer_that_was_not_asked_for_is_neither_right_nor_wrong(campaign, bob):
    known = crowd.gold(campaign)
    rated = crowd.vote(bob, known, outcome="absolute", ratings={"0": {"truth": 3}})
    assert skill.passes(known.expected, rated) is None
    by_ratings = {"outcome": "absolute", "ranking": [], "rated": [[0], [1]]}
    assert skill.passes(by_ratings, crowd.vote(bob, known, WRONG)) is None


def test_where_people_neither_compare_nor_rate_the_page_says_why_nothing_is_planted(
    client_for, alice, bob, project
):
    campaign = open_campaign(project, asks=["correct"])
    crowd.vote(bob, campaign.comparisons.first(), outcome="absolute")
    page = client_for(alice).get(f"/p/alpha/campaigns/{campaign.pk}/quality/").content.decode()
    assert "People neither compare nor rate here" in page
    assert "quality/plant/" not in page
    with pytest.raises(ValueError, match="neither compare nor rate"):
        planting.plant(campaign, 1, random.Random(0))


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
