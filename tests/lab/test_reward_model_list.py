"""All reward models with what was measured of each, and the pairs that one is disputed about."""

from __future__ import annotations

import csv
import io
from html import unescape

import pytest

from plumbline.loop.models import Stage
from tests.lab import contest
from tests.lab import laboratory as lab
from tests.lab.test_reward_model import GATE, measured

pytestmark = pytest.mark.django_db
ADDRESS = "/p/alpha/lab/reward-models/"


def page(researcher, address: str = ADDRESS) -> str:
    return unescape(researcher.get(address).content.decode())


@pytest.fixture
def model(project):
    made = contest.reward_model(
        project, "alpha-r2-reward", temperature=1.8, metrics={"measured": measured(), "gate": GATE}
    )
    experiment = lab.experiment(project, name="Warmer")
    gate = {**GATE, "candidate": str(made.pk), "name": made.name}
    lab.round_at(experiment, Stage.TRAIN, number=2, figures={"reward_gate": gate})
    return made


def test_the_list_tells_models_apart(researcher, project, model):
    contest.reward_model(project, "alpha-old")
    found = page(researcher)
    for words in (
        "alpha-r2-reward", "bradley terry", "Warmer, round 2", "turned down", "81.0 %",
        "70.0 % – 90.0 %", "0.31", "0.2 to 0.42", "list items -0.1", "0.22", "1.8", "alpha-old",
    ):  # fmt: skip
        assert words in found, words


def test_without_reward_models_it_says_what_makes_one(researcher, project):
    assert "No reward models yet" in page(researcher)


def test_the_list_is_there_as_csv(researcher, model):
    text = researcher.get(f"{ADDRESS}csv/").content.decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["name"] == "alpha-r2-reward"
    assert row["made_in"] == "Warmer round 2"
    assert float(row["accuracy"]) == 0.81
    assert row["gate"] == "not passed"
    assert float(row["distance_to_the_last"]) == 0.22


def test_other_projects_models_stay_theirs(researcher, model, client_for, charlie):
    stranger = client_for(charlie)
    assert stranger.get(ADDRESS).status_code == 404
    assert stranger.get(f"{ADDRESS}{model.pk}/disputes/").status_code == 404
    assert "alpha-r2-reward" not in unescape(
        stranger.get("/p/beta/lab/reward-models/").content.decode()
    )


def test_disputed_pairs_show_both_answers_scores_and_votes(researcher, project):
    _, _, model = contest.ladder(project, rungs=1, prompts=12)
    found = page(researcher, f"{ADDRESS}{model.pk}/disputes/")
    assert found.count('<article class="card sample">') == 5
    assert "12 prompts" in found
    assert "Page 1 of 3" in found
    assert "People: <strong>" in found
    assert "of 1 vote." in found
    assert "Plain" in found
    assert "Rung 1 of" in found
    wrong = page(researcher, f"{ADDRESS}{model.pk}/disputes/?only=wrong&page=99")
    assert wrong.count('<article class="card sample">') >= 1
    members = page(researcher, f"{ADDRESS}{model.pk}/disputes/?kind=members")
    assert "of members prefer the first" in members
    assert f'href="{ADDRESS}{model.pk}/disputes/"' in page(researcher, f"{ADDRESS}{model.pk}/")


def test_a_model_without_members_or_votes_says_so(researcher, project):
    model = contest.reward_model(project)
    here = f"{ADDRESS}{model.pk}/disputes/"
    assert "People have not voted on two answers" in page(researcher, here)
    assert "has no members that could disagree" in page(researcher, f"{here}?kind=members")
