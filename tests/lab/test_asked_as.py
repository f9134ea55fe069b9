"""What people are asked in an experiment's rounds, and whether a reward model can learn from it."""

from __future__ import annotations

import pytest

from plumbline.collect.models import Ballot, Campaign
from plumbline.loop.models import Experiment
from tests.comparisons import compare
from tests.lab import laboratory as lab
from tests.lab.test_experiment_new import URL, prompts, sent, text  # noqa: F401  # fixtures

pytestmark = pytest.mark.django_db
SCALE = {"name": "clarity", "question": "", "least": 1, "most": 5, "low": "", "high": ""}
BY_RATINGS = {
    "reward_objective": "regression", "reward-knob-sharpness": 4,
    "pairs_from": "reward_model", "pair_rule": "max_min",
}  # fmt: skip
NEEDED = "learns from people's ratings by criteria."


@pytest.fixture
def rating(project):
    return Campaign.objects.create(
        project=project, name="Ratings alone", asks=["rate"], criteria=[SCALE]
    )


def test_an_experiment_takes_its_questions_from_a_campaign(researcher, sent, rating):  # noqa: F811
    response = researcher.post(URL, sent | BY_RATINGS | {"asked_as": rating.pk})
    assert response.status_code == 302, text(response)
    made = Experiment.objects.get()
    assert made.asked_as == rating
    assert (made.reward_objective, made.reward_knobs["from_votes"]) == ("regression", False)
    assert "Ratings alone" in text(researcher.get(response.url))
    again = text(researcher.get(f"{URL}?like={made.pk}"))
    assert f'<option value="{rating.pk}" selected>' in again


def test_an_objective_of_ratings_is_refused_where_nobody_is_asked_for_any(
    researcher, project, sent  # noqa: F811
):  # fmt: skip
    refused = researcher.post(URL, sent | BY_RATINGS)
    assert refused.status_code == 422
    assert NEEDED in text(refused)
    assert "under “People are asked as in”" in text(refused)
    plain = Campaign.objects.create(project=project, name="Pairs")
    assert NEEDED in text(researcher.post(URL, sent | BY_RATINGS | {"asked_as": plain.pk}))
    from_votes = {"reward-knob-from_votes": "on"}
    assert researcher.post(URL, sent | BY_RATINGS | from_votes).status_code == 302


def test_pairs_cannot_come_from_votes_where_nobody_compares(researcher, sent, rating):  # noqa: F811
    refused = text(researcher.post(URL, sent | {"asked_as": rating.pk}))
    assert "Ratings alone does not ask which answer is better" in refused


def test_an_offline_experiment_of_ratings_wants_ballots_that_hold_some(
    researcher, rating, sent  # noqa: F811
):  # fmt: skip
    questions = lab.PromptSet.objects.get(pk=sent["prompt_set"])
    ballot = lab.ballot(compare(rating, questions, "Question 0 of Prompts?", ["One", "Two"]))
    offline = sent | BY_RATINGS | {"labels": "ballots"}
    assert "Nobody has rated answers of Prompts" in text(researcher.post(URL, offline))
    Ballot.objects.filter(pk=ballot.pk).update(ratings={"0": {"clarity": 4}})
    assert researcher.post(URL, offline).status_code == 302
