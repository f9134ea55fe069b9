"""What an annotator is told: where their votes went, what came of them, and no secrets."""

from __future__ import annotations

import pytest

from plumbline.loop.models import Stage
from plumbline.policies.models import Deployment
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db

PAGE = "/p/alpha/lab/my-work/"
FIRST, SECOND = [[0], [1]], [[1], [0]]


@pytest.fixture
def mine(client_for, bob):
    return client_for(bob)


def voted_round(project, bob, carol, **fields):
    """A finished round that froze four votes of bob's and four of carol's."""
    campaign = open_campaign(project, comparisons=4, overlap=2)
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"), steps=1, **fields)
    for comparison in campaign.comparisons.all():
        for person in (bob, carol):
            made.ballots.add(crowd.vote(person, comparison, FIRST))
    return made


def test_nothing_voted_is_an_invitation_to_begin(mine, project):
    page = mine.get(PAGE).content.decode()
    assert "No votes yet" in page
    assert "To the campaigns" in page


def test_votes_are_told_which_round_took_them_and_how_its_model_does(mine, project, bob, carol):
    made = voted_round(project, bob, carol)
    Deployment.objects.create(project=project, policy=made.policy_out)
    page = mine.get(PAGE).content.decode()
    assert "Warmer answers, round 1" in page
    assert "4 votes of yours" in page
    assert "of 8 in all" in page
    assert "answers 67 % of the time" in page
    assert "95 % interval 55.3 % to 77.0 %" in page
    assert "100 %" in page
    assert "Its model is the one people use now." in page


def test_a_model_that_a_later_one_was_made_from_lives_on(mine, project, bob, carol):
    made = voted_round(project, bob, carol)
    later = lab.policy(project, "later", parent=made.policy_out)
    Deployment.objects.create(project=project, policy=later)
    assert "was made from its model" in mine.get(PAGE).content.decode()


def test_a_round_under_way_and_one_that_failed_are_told_as_such(mine, project, bob, carol):
    campaign = open_campaign(project, comparisons=2)
    one, two = campaign.comparisons.all()
    running = lab.round_at(lab.experiment(project), Stage.TRAIN)
    running.ballots.add(crowd.vote(bob, one, FIRST))
    failed = lab.round_at(lab.experiment(project), Stage.FAILED)
    failed.ballots.add(crowd.vote(bob, two, FIRST))
    page = mine.get(PAGE).content.decode()
    assert "Under way: train." in page
    assert "ended without a new model" in page


def test_agreement_is_told_once_it_gives_nobody_away(mine, project, bob, carol):
    campaign = open_campaign(project, comparisons=12, overlap=2)
    comparisons = list(campaign.comparisons.order_by("pk"))
    for comparison in comparisons[:9]:
        crowd.vote(bob, comparison, FIRST)
        crowd.vote(carol, comparison, FIRST)
    page = mine.get(PAGE)
    assert page.context["agreement"].value is None
    assert "It takes 10 comparisons" in page.content.decode()
    for comparison in comparisons[9:]:
        crowd.vote(bob, comparison, FIRST)
        crowd.vote(carol, comparison, SECOND)
    assert mine.get(PAGE).context["agreement"].value == pytest.approx(9 / 12)


def test_hidden_tests_count_like_any_other_answer(mine, project, bob):
    campaign = open_campaign(project, comparisons=2)
    crowd.vote(bob, campaign.comparisons.first(), FIRST)
    for number in range(3):
        crowd.vote(bob, crowd.gold(campaign, number), SECOND)
    response = mine.get(PAGE)
    page = response.content.decode().lower()
    assert response.context["votes"] == 4, "a count that stands still would say which it was"
    for word in ("gold", "known", "expected", "accuracy"):
        assert word not in page


def test_one_sees_only_ones_own_project(mine, project, bob, charlie):
    from plumbline.accounts.models import Project

    elsewhere = open_campaign(Project.objects.get(slug="beta"))
    crowd.vote(bob, elsewhere.comparisons.first(), FIRST)
    assert mine.get(PAGE).context["votes"] == 0
