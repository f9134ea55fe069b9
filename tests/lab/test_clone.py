"""Cloning an experiment or a round: the form filled, and the difference said."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.loop import cloning, forms
from plumbline.loop.forms import ExperimentForm
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/experiments/new/"


@pytest.fixture
def found(project):
    fields = {"rounds_wanted": 3, "seed": 7, "knobs": {"beta": 0.3}, "samples_per_prompt": 5}
    made = lab.experiment(project, name="Warmer answers", **fields)
    lab.finished_round(made, steps=1)
    policy = lab.policy(project, "alpha-better", parent=made.start)
    lab.finished_round(made, steps=1, policy_in=policy)
    return made


def text(response) -> str:
    return unescape(response.content.decode())


def test_an_experiments_clone_has_its_settings_and_says_so(researcher, found):
    page = text(researcher.get(URL, {"like": found.pk}))
    assert "A clone of Warmer answers" in page
    assert 'name="knob-beta" value="0.3"' in page
    assert "So far no setting differs." in page
    assert f'name="copied" value="experiment-{found.pk}"' in page


def test_a_rounds_clone_starts_where_the_round_started_and_says_what_it_lacks(researcher, found):
    second = found.rounds.get(number=2)
    page = text(researcher.get(URL, {"like_round": second.pk}))
    assert "A clone of round 2 of Warmer answers" in page
    assert 'value="Warmer answers, round 2 again"' in page
    assert f'<option value="{second.policy_in_id}" selected>alpha-better' in page
    assert 'name="rounds_wanted" value="1"' in page
    assert "its reward model learns from its own votes" in page
    first = text(researcher.get(URL, {"like_round": found.rounds.get(number=1).pk}))
    assert "its reward model learns" not in first


def test_what_differs_is_said_while_the_form_changes(researcher, project, found):
    clone = cloning.of_experiment(found)
    data = forms.as_data(ExperimentForm(project, initial=clone.values))
    sent = data | {"copied": clone.mark, "seed": 8, "knob-beta": 0.5}
    page = text(researcher.post(f"{URL}estimate/", sent))
    assert "It differs in 2 settings:" in page
    assert "<dt>Seed</dt><dd><s>7</s> 8</dd>" in page
    assert "<dt>Beta</dt><dd><s>0.3</s> 0.5</dd>" in page


def test_a_preset_keeps_what_was_cloned(researcher, found):
    asked = {"copied": f"experiment-{found.pk}", "algorithm": "dpo", "preset": "quick", "seed": 7}
    page = text(researcher.get(URL, asked))
    assert "A clone of Warmer answers" in page
    assert "<dt>Rounds</dt><dd><s>3</s> 1</dd>" in page


def test_another_projects_rounds_are_not_cloned(researcher, charlie):
    theirs = lab.finished_round(lab.experiment(charlie.projects.get()), steps=1)
    assert researcher.get(URL, {"like_round": theirs.pk}).status_code == 404
    assert researcher.get(URL, {"like": theirs.experiment_id}).status_code == 404
    assert cloning.find(theirs.experiment.project, "round-none") is None
    assert cloning.find(theirs.experiment.project, "planet-1") is None
