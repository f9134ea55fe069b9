"""The training phase: what researchers author, what people meet, when they have passed."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.collect import queue, training, versions, votes
from plumbline.collect.models import Ballot, Campaign
from plumbline.collect.queue.training import of_campaign
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db
RIGHT = {"outcome": "ranked", "ranking": [[0], [1]]}


@pytest.fixture
def taught(campaign):
    """Two of the campaign's three pairs teach: the first answer is better."""
    for one in campaign.comparisons.order_by("pk")[:2]:
        training.teach(one, RIGHT, "The first one **answers**.")
    return campaign


def answer(client, user, campaign, best: int = 0):
    """Take the next comparison and answer it; the page that follows."""
    page = client.post(f"/p/alpha/campaigns/{campaign.pk}/claim/")
    ballot = Ballot.objects.get(pk=page.url.split("/")[-2])
    choice = f"{'AB'[ballot.shown.index(best)]}2"
    sent = {"choice": choice, "key": str(uuid4()), "active_ms": "900"}
    return client.post(page.url, sent, follow=True)


def standing(client, campaign) -> str:
    """The person's training page."""
    return client.get(f"/p/alpha/campaigns/{campaign.pk}/training/").content.decode()


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
    one = of_campaign(taught).first()
    training.stop_teaching(one)
    one.refresh_from_db()
    assert (one.kind, one.overlap, one.expected) == ("ordinary", None, None)


def test_a_hidden_test_cannot_teach(campaign):
    with pytest.raises(ValueError, match="hidden test"):
        training.teach(crowd.gold(campaign), RIGHT, "So.")


def test_the_training_page_says_what_comes_and_how_one_stands(client_for, bob, taught):
    client = client_for(bob)
    assert "First, 2 for practice" in standing(client, taught)
    campaign = client.get(f"/p/alpha/campaigns/{taught.pk}/").content.decode()
    assert "The training and how you stand in it" in campaign
    answer(client, bob, taught, best=1)
    text = standing(client, taught)
    assert "1 of 2 answered" in text
    assert "Not as expected" in text


def test_feedback_says_what_was_expected_and_why(client_for, bob, taught):
    wrong = answer(client_for(bob), bob, taught, best=1).content.decode()
    assert "<strong>answers</strong>" in wrong
    first = bob.ballots.get()
    better = "AB"[first.shown.index(0)]
    assert f"{better} better than {'BA'['AB'.index(better)]}" in wrong


def test_who_answers_as_expected_passes_and_is_asked_in_earnest(client_for, bob, taught):
    client = client_for(bob)
    answer(client, bob, taught)
    answer(client, bob, taught)
    assert bob.enrolments.get(campaign=taught).trained_at is not None
    assert "You have passed" in standing(client, taught)
    page = client.post(f"/p/alpha/campaigns/{taught.pk}/claim/")
    ballot = Ballot.objects.get(pk=page.url.split("/")[-2])
    assert ballot.comparison.kind == "ordinary"


def test_who_fails_waits_for_a_researcher(client_for, alice, bob, taught):
    client = client_for(bob)
    answer(client, bob, taught, best=1)
    answer(client, bob, taught, best=0)
    assert "1 of 2 as expected; 2 are needed" in standing(client, taught)
    assert queue.claim_next(bob, taught) is None
    people = f"/p/alpha/campaigns/{taught.pk}/people/"
    assert "Let go on: bob" in client_for(alice).get(people).content.decode()
    client_for(alice).post(f"{people}change/", {"do": "trained", "which": str(bob.pk)})
    assert queue.claim_next(bob, taught).comparison.kind == "ordinary"


@pytest.mark.parametrize(
    ("share", "wrong", "passed"), [(50, 1, True), (51, 1, False), (0, 2, True)]
)
def test_the_share_needed_is_the_campaigns(client_for, alice, bob, taught, share, wrong, passed):
    versions.change(taught, {"training_pass": share}, alice)
    client = client_for(bob)
    for n in range(2):
        answer(client, bob, taught, best=1 if n < wrong else 0)
    assert (bob.enrolments.get(campaign=taught).trained_at is not None) == passed


def test_everybody_may_answer_a_training_comparison(client_for, bob, carol, taught):
    for user in (bob, carol):
        answer(client_for(user), user, taught)
    assert of_campaign(taught).order_by("pk").first().ballots.count() == 2


def test_training_answers_train_no_policy(client_for, bob, taught):
    answer(client_for(bob), bob, taught)
    earnest = votes.counted(taught.comparisons.all())
    assert not queue.standing(earnest).exists()


def test_ratings_are_taught_too(client_for, alice, bob, campaign):
    scale = {"name": "clarity", "question": "", "least": 1, "most": 5, "low": "", "high": ""}
    versions.change(campaign, {"asks": ["rate"], "criteria": [scale]}, alice)
    one = campaign.comparisons.first()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/teach/"
    sent = {"rate_0_clarity": "5", "rate_1_clarity": "2", "explanation": "So."}
    assert client_for(alice).post(page, sent).status_code == 302
    one.refresh_from_db()
    assert one.expected["ratings"] == {"0": {"clarity": 5}, "1": {"clarity": 2}}
    ballot = queue.claim_next(bob, Campaign.objects.get(pk=campaign.pk))
    assert ballot.comparison.kind == "training"
    said = {"0": {"clarity": 4}, "1": {"clarity": 2}}
    queue.cast(ballot, queue.Verdict("absolute", ratings=said), uuid4())
    assert bob.enrolments.get(campaign=campaign).trained_at is not None, "one off is met"


def test_a_researcher_makes_a_hidden_test_of_a_comparison(client_for, alice, bob, campaign):
    one, seen, _ = campaign.comparisons.order_by("pk")
    crowd.vote(bob, seen, [[0], [1]])
    client = client_for(alice)
    for row in (one, seen):
        page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{row.pk}/teach/"
        sent = {"place_0": "2", "place_1": "1", "explanation": "", "do": "hide"}
        said = client.post(page, sent, follow=True).content.decode()
        assert "It is a hidden test now" in said
        assert "B better than A" in said
    one.refresh_from_db()
    assert (one.kind, one.expected["ranking"]) == ("gold", [[1], [0]])
    seen.refresh_from_db()
    assert seen.kind == "ordinary", "its votes stay, and a copy is the test"
    assert campaign.comparisons.get(why__copy=seen.pk).kind == "gold"
    missing = client.post(page, {"place_0": "1", "do": "hide"})
    assert missing.status_code == 422
    assert "Place of B is missing." in missing.content.decode()


def test_where_nothing_can_be_known_before_there_is_no_hidden_test(client_for, alice, project):
    campaign = open_campaign(project, comparisons=1, asks=["correct"])
    one = campaign.comparisons.get()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/teach/"
    said = client_for(alice).post(page, {"do": "hide"}, follow=True).content.decode()
    assert "here people give neither" in said
    one.refresh_from_db()
    assert one.kind == "ordinary"
