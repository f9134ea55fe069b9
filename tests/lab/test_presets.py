"""Presets in the launch form: every one launches, and each says what it would change."""

from __future__ import annotations

import re
from html import unescape

import pytest

from align import algorithms
from plumbline.loop import forms, presets
from plumbline.loop.forms import ExperimentForm
from plumbline.loop.models import Experiment
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/experiments/new/"
ALL = [
    (name, preset)
    for name, found in sorted(algorithms.discover().items())
    for preset in found.offered()
]


@pytest.fixture
def prompts(project):
    return lab.prompt_set(project, train=70, heldout=70)


def text(response) -> str:
    return unescape(response.content.decode())


@pytest.mark.parametrize("name", sorted(algorithms.discover()))
def test_every_algorithm_offers_a_published_a_faithful_and_a_quick_one(name):
    offered = algorithms.get(name).offered()
    assert {"published", "theory", "quick"} <= set(offered)
    for one in offered.values():
        assert one.source.endswith("."), one
        assert set(one.round) <= set(ExperimentForm.base_fields)


@pytest.mark.parametrize(("algorithm", "preset"), ALL)
def test_a_preset_that_is_filled_in_launches_as_it_is(
    researcher, project, prompts, algorithm, preset
):
    first = ExperimentForm(project, initial={"algorithm": algorithm})
    filled = presets.values(first, preset)
    form = ExperimentForm(project, initial={"algorithm": algorithm, **filled})
    data = {name: value for name, value in forms.as_data(form).items() if value is not False}
    response = researcher.post(URL, data | {"name": "As it is", "algorithm": algorithm})
    assert response.status_code == 302, re.findall(
        r"<li><a href=\"#id_.*?</li>", response.content.decode()
    )
    made = Experiment.objects.get()
    assert made.knobs.items() >= dict(algorithms.get(algorithm).offered()[preset].knobs).items()
    assert made.rounds.count() == 1


def test_a_quick_round_is_no_larger_than_the_prompt_set(project):
    lab.prompt_set(project, train=5, heldout=3)
    filled = presets.values(ExperimentForm(project), "quick")
    assert (filled["prompts_per_round"], filled["heldout_prompts"]) == (5, 3)
    assert filled["rounds_wanted"] == 1


def test_the_page_says_what_each_preset_would_change_and_what_it_has_changed(researcher, prompts):
    page = text(researcher.get(URL))
    assert "Would change" in page
    assert "Rounds: <s>2</s> 3" in page
    assert "the code published with it" in page
    filled = text(researcher.get(URL, {"algorithm": "dpo", "preset": "published"}))
    assert "Published is filled in. It changed Rounds: 2 → 3" in filled
    assert "The form has exactly these settings." in filled
    again = text(
        researcher.get(
            URL,
            {"algorithm": "dpo", "preset": "published", "rounds_wanted": 3, "epochs": 2},
        )
    )
    assert "changed Rounds:" not in again


def test_what_a_preset_would_change_follows_the_form(researcher, prompts, project):
    data = forms.as_data(ExperimentForm(project)) | {"rounds_wanted": 3}
    page = text(researcher.post(f"{URL}estimate/", data, headers={"HX-Request": "true"}))
    assert 'id="presets" hx-swap-oob="true"' in page
    assert "Rounds: <s>" not in page.partition("Theory-faithful")[0]
