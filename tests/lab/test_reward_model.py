"""A reward model's page: slices with intervals, calibration in words and as a picture, the gate."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.lab.reward_models import curve
from plumbline.loop.models import Stage
from plumbline.policies.models import RewardModel
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db

SURE = {"value": 0.81, "low": 0.7, "high": 0.9, "prompts": 31}
GATE = {
    "passed": False,
    "checks": [
        {"name": "held-out accuracy", "passed": False, "evidence": "It drops.", "values": {}}
    ],
}


def measured() -> dict:
    return {
        "slices": [
            {"name": "people", "votes": 62.0, "accuracy": SURE, "log_loss": SURE, "ece": 0.05},
            {"name": "test", "votes": 3.0, "accuracy": {**SURE, "low": None, "high": None},
             "log_loss": None, "ece": None},
        ],
        "reliability": [
            {"confidence": 0.6, "share": 0.55, "weight": 40.0},
            {"confidence": 0.9, "share": 0.4, "weight": 10.0},
        ],
        "reliability_raw": [{"confidence": 0.8, "share": 0.52, "weight": 50.0}],
        "temperature": 1.8, "ece": 0.05, "ece_raw": 0.21, "test_ece": 0.02, "test_ece_raw": 0.07,
        "length": {"value": 0.31, "low": 0.2, "high": 0.42, "prompts": 300},
        "style": {"list items": {"value": -0.1, "low": None, "high": None, "prompts": 1}},
        "previous": {"model": "00000000-0000-0000-0000-000000000000", "name": "the-old-one",
                     "accuracy": {**SURE, "value": -0.031}, "ece": None, "length": None,
                     "distance": {"value": 0.22, "low": 0.2, "high": 0.25}, "tau": 0.77},
        "probe": {"answers": 512, "prompts": 64, "sha256": "ab" * 32},
        "round": 2,
    }  # fmt: skip


@pytest.fixture
def model(project):
    return RewardModel.objects.create(
        project=project,
        name="alpha-r2-reward",
        objective="bradley_terry",
        path="/r",
        sha256="ef" * 32,
        ballots_used=128,
        metrics={"trained_on": 118, "heldout": 10, "measured": measured(), "gate": GATE,
                 "implicit": {"3": {"rows": [
                     {"votes": "inside", "title": "In distribution", "scorer": "explicit",
                      "count": 9.0, "accuracy": SURE, "less_explicit": None},
                     {"votes": "inside", "title": "In distribution", "scorer": "implicit",
                      "count": 9.0, "accuracy": SURE, "less_explicit": {**SURE, "value": -0.12}},
                 ]}},
                 "on_policy": {"3": {"votes": 64.0, "accuracy": SURE, "ece": 0.1}}},
    )  # fmt: skip


def page(researcher, model) -> str:
    return unescape(researcher.get(f"/p/alpha/lab/reward-models/{model.pk}/").content.decode())


def test_slices_are_shown_with_their_intervals(researcher, model):
    found = page(researcher, model)
    assert "People's held-out votes" in found
    assert "81.0 %" in found
    assert "70.0 % – 90.0 %" in found
    assert "one prompt: no interval" in found
    assert "One annotator in ten, once five have voted" in found  # why that slice has no figures


def test_the_reliability_curve_is_a_picture_and_a_sentence(researcher, model):
    found = page(researcher, model)
    assert 'role="img" aria-labelledby="reliability-says"' in found
    assert "60.0 % sure, 55.0 % right (40 votes); 90.0 % sure, 40.0 % right (10 votes)" in found
    first, second = curve(measured()["reliability"])
    assert (first.x, first.y) == ("74.0", "228.0")
    assert second.y == "250.0"  # worse than a coin: on the lower edge
    assert float(first.size) > float(second.size)


def test_the_gate_length_and_the_model_before_are_on_the_page(researcher, model):
    found = page(researcher, model)
    for words in ("turned down", "It drops.", "the-old-one", "-3.1 points", "0.22", "0.77"):
        assert words in found, words
    assert "512 fixed answers to 64 prompts" in found
    assert "On-policy: round 3’s votes, before they trained anything" in found


def test_the_temperature_says_what_it_does_and_what_it_is_now(researcher, model):
    assert "its scores alone are too sure" in page(researcher, model)
    assert "without it 7.0 %" in page(researcher, model)
    model.temperature = 1.8
    model.save()
    assert "By the newest votes" not in page(researcher, model)
    model.temperature = 2.5
    model.save()
    assert "By the newest votes it is 2.5 now." in page(researcher, model)
    assert "few votes leave it near 1." in page(researcher, model)
    model.metrics = {**model.metrics, "temperature": 1.62}
    model.save()
    assert "few votes leave it near 1.62, which suits copies of the model" in page(
        researcher, model
    )


def test_a_model_with_nothing_held_out_says_why_there_are_no_figures(researcher, model):
    nothing = {
        **measured(), "slices": [], "reliability": [], "reliability_raw": [], "temperature": 1.0,
        "ece": None, "ece_raw": None, "test_ece": None, "test_ece_raw": None, "previous": None,
        "length": None,
    }  # fmt: skip
    model.metrics = {"measured": nothing, "gate": {**GATE, "passed": True}}
    model.save()
    found = page(researcher, model)
    for words in (
        "Nobody can say yet: no votes are held out.",
        "A curve needs held-out votes of people.",
        "It is the first of its experiment",
        "Known once the next round’s votes are in",
        "Compared once a later round starts from a trained policy",
        "nothing to correlate",
    ):
        assert words in found, words


def test_the_policys_own_reward_stands_beside_the_explicit_one(researcher, model):
    found = page(researcher, model)
    assert "Explicit and implicit reward, round 3" in found
    assert "-12.0 points" in found


def test_a_model_from_before_is_shown_without_figures(researcher, project):
    old = RewardModel.objects.create(
        project=project, name="old", path="/r", sha256="", ballots_used=2
    )
    assert "before such models were measured" in page(researcher, old)


def test_another_projects_model_is_not_found(researcher, model, client_for, charlie):
    assert client_for(charlie).get(f"/p/alpha/lab/reward-models/{model.pk}/").status_code == 404


def test_the_round_says_why_its_model_was_not_replaced(researcher, project, model):
    experiment = lab.experiment(project)
    gate = {**GATE, "candidate": str(model.pk), "name": model.name}
    made = lab.round_at(experiment, Stage.TRAIN, figures={"reward_gate": gate})
    address = f"/p/alpha/lab/experiments/{experiment.pk}/rounds/{made.number}/"
    found = unescape(researcher.get(address).content.decode())
    assert "not replaced" in found
    assert "the model before it judges on" in found
    assert "It drops." in found
    assert f"/p/alpha/lab/reward-models/{model.pk}/" in found
    assert f'{address}">Round 1</a>' in page(researcher, model)
