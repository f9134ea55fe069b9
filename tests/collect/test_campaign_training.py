"""The training phase: what researchers author, what people meet, when they have passed."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.collect import queue, training, versions, votes
from plumbline.collect.models import Ballot, Campaign
from tests.collect import crowd

pytestmark = pytest.mark.django_db
RIGHT = {"outcome": "ranked", "ranking": [[0], [1]]}


@pytest.fixture
def taught(campaign):
    """Two of the campaign's three pairs teach: the first answer is better."""
    for one in campaign.comparisons.order_by("pk")[:2]:
        training.teach(one, RIGHT, "The first one **answers**.")
    return campaign


def choice(ballot: Ballot, best: int) -> str:
    return f"{'AB'[ballot.shown.index(best)]}2"


def answer(client, user, campaign, best: int = 0):
    """Take the next training comparison and answer it; the page that follows."""
    here = f"/p/alpha/campaigns/{campaign.pk}/training/next/"
    page = client.post(here)
    ballot = Ballot.objects.get(pk=page.url.split("/")[-2])
    sent = {"choice": choice(ballot, best), "key": str(uuid4()), "active_ms": "900"}
    return client.post(page.url, sent, follow=True)


def test_a_comparison_is_put_in_the_training_with_its_answer_and_why(client_for, alice, campaign):
    one = campaign.comparisons.first()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/"
    sent = {"place_0": "2", "place_1": "1", "explanation": "The second one answers."}
    response = client_for(alice).post(f"{page}teach/", sent, follow=True)
    assert "It is in the training now" in response.content.decode()
    one.refresh_from_db()
    assert (one.kind, one.expected) == ("training", {"outcome": "ranked", "ranking": [[1], [0]]})
    assert "B better than A" in response.content.decode()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"place_0": "1", "explanation": "So."}, "Place of B is missing."),
        ({"place_0": "1", "place_1": "2", "explanation": ""}, "Explanation: say why"),
        ({"place_0": "1", "place_1": "9", "explanation": "So."}, "less than or equal to 2"),
    ],
)
def test_what_cannot_teach_is_told_by_field(client_for, alice, campaign, sent, words):
    one = campaign.comparisons.first()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/teach/"
    response = client_for(alice).post(page, sent)
    assert response.status_code == 422
    assert words in response.content.decode()
    one.refresh_from_db()
    assert one.kind == "ordinary"


def test_one_that_has_votes_keeps_them_and_a_copy_teaches(campaign, bob):
    one = campaign.comparisons.first()
    crowd.vote(bob, one, [[0], [1]])
    made = training.teach(one, RIGHT, "So.")
    one.refresh_from_db()
    assert (one.kind, made.kind, made.pk == one.pk) == ("ordinary", "training", False)
    assert [slot.completion_id for slot in made.slots.all()] == [
        slot.completion_id for slot in one.slots.all()
    ]
    training.stop_teaching(made)
    made.refresh_from_db()
    assert made.retired_at is not None


def test_one_that_nobody_answered_goes_back_to_being_asked(taught):
    one = training.items(taught).first()
    training.stop_teaching(one)
    one.refresh_from_db()
    assert (one.kind, one.overlap, one.expected) == ("ordinary", None, None)


def test_a_hidden_test_cannot_teach(campaign):
    with pytest.raises(ValueError, match="hidden test"):
        training.teach(crowd.gold(campaign), RIGHT, "So.")


def test_people_are_led_to_the_training_first(client_for, bob, taught):
    response = client_for(bob).post(f"/p/alpha/campaigns/{taught.pk}/claim/", follow=True)
    text = response.content.decode()
    assert "First, 2 for practice" in text
    assert not bob.ballots.exists()


def test_feedback_says_what_was_expected_and_why(client_for, bob, taught):
    wrong = answer(client_for(bob), bob, taught, best=1).content.decode()
    assert "Not what is expected" in wrong
    assert "<strong>answers</strong>" in wrong
    assert "1 of 2 answered, 0 as expected" in wrong
    right = answer(client_for(bob), bob, taught, best=0).content.decode()
    assert "As expected" in right


def test_who_answers_as_expected_passes_and_is_asked_in_earnest(client_for, bob, taught):
    client = client_for(bob)
    answer(client, bob, taught)
    last = answer(client, bob, taught).content.decode()
    assert "You have passed the training." in last
    assert bob.enrolments.get(campaign=taught).trained_at is not None
    page = client.post(f"/p/alpha/campaigns/{taught.pk}/claim/")
    ballot = Ballot.objects.get(pk=page.url.split("/")[-2])
    assert ballot.comparison.kind == "ordinary"


def test_who_fails_goes_through_it_again_and_nothing_is_deleted(client_for, bob, taught):
    client = client_for(bob)
    answer(client, bob, taught, best=1)
    answer(client, bob, taught, best=0)
    page = f"/p/alpha/campaigns/{taught.pk}/training/"
    assert "1 of 2 as expected; 2 are needed" in client.get(page).content.decode()
    assert client.post(f"/p/alpha/campaigns/{taught.pk}/claim/").url == page
    client.post(f"{page}next/", {"do": "again"})
    for _ in range(2):
        answer(client, bob, taught)
    assert training.standing(bob, taught).passed
    assert bob.ballots.filter(outcome="ranked").count() == 4
    assert bob.ballots.filter(outcome="withdrawn").count() == 2


def test_the_share_needed_is_the_campaigns(client_for, alice, bob, taught):
    versions.change(taught, {"training_pass": 50}, alice)
    client = client_for(bob)
    answer(client, bob, taught, best=1)
    answer(client, bob, taught, best=0)
    assert training.standing(bob, taught).passed
    versions.change(taught, {"training_pass": 0}, alice)
    assert not training.due(bob, Campaign.objects.get(pk=taught.pk))


def test_nobody_repeats_a_training_they_have_not_failed(bob, taught):
    with pytest.raises(ValueError, match="no training to repeat"):
        training.again(bob, taught)


def test_everybody_may_answer_a_training_comparison(bob, carol, taught):
    for user in (bob, carol):
        ballot = training.claim(user, taught)
        assert training.claim(user, taught) == ballot, "the one in hand comes first"
        best, rest = [0], [1]
        queue.cast(ballot, queue.Verdict("ranked", ranking=[best, rest]), uuid4())
    assert training.items(taught).first().ballots.count() == 2


def test_training_answers_train_no_policy(client_for, bob, taught):
    answer(client_for(bob), bob, taught)
    earnest = votes.counted(taught.comparisons.all())
    assert not queue.standing(earnest).exists()


def test_feedback_is_ones_own(client_for, bob, carol, taught):
    answer(client_for(bob), bob, taught)
    page = f"/p/alpha/ballots/{bob.ballots.get().pk}/feedback/"
    assert client_for(bob).get(page).status_code == 200
    assert client_for(carol).get(page).status_code == 404


def test_ratings_are_taught_too(client_for, alice, bob, campaign):
    scale = {"name": "clarity", "question": "", "least": 1, "most": 5, "low": "", "high": ""}
    versions.change(campaign, {"asks": ["rate"], "criteria": [scale]}, alice)
    one = campaign.comparisons.first()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/teach/"
    sent = {"rate_0_clarity": "5", "rate_1_clarity": "2", "explanation": "So."}
    assert client_for(alice).post(page, sent).status_code == 302
    one.refresh_from_db()
    assert one.expected["ratings"] == {"0": {"clarity": 5}, "1": {"clarity": 2}}
    ballot = training.claim(bob, Campaign.objects.get(pk=campaign.pk))
    said = {"0": {"clarity": 4}, "1": {"clarity": 2}}
    queue.cast(ballot, queue.Verdict("absolute", ratings=said), uuid4())
    assert training.settle(bob, Campaign.objects.get(pk=campaign.pk)).passed, "one off is met"
    text = client_for(bob).get(f"/p/alpha/ballots/{ballot.pk}/feedback/").content.decode()
    assert "As expected" in text
