"""The launch form's reward model: objectives found by name, members, and what is done to labels."""

from __future__ import annotations

import sys

import pytest

from align import discovery, objectives
from plumbline.loop import rewarding
from plumbline.loop.models import Experiment
from plumbline.policies.models import RewardModel
from tests.lab import laboratory as lab
from tests.lab.test_experiment_new import URL, prompts, sent, text  # noqa: F401

pytestmark = pytest.mark.django_db
FRESH = '''"""Fresh: a hinge on the difference of scores."""
from dataclasses import dataclass
from align.knobs import knob
from align.objective import Objective

@dataclass(frozen=True, kw_only=True)
class Fresh(Objective):
    title = "Fresh hinge"
    gap: float = knob(1.5, "How far scores are pushed apart.", above=0)
'''


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A new objective file in the folder, with nothing else touched."""
    (tmp_path / "fresh.py").write_text(FRESH)
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    discovery._discover.cache_clear()
    yield
    sys.modules.pop("align.objectives.fresh", None)
    discovery._discover.cache_clear()


def test_every_objective_is_offered_with_its_knobs(researcher, prompts):  # noqa: F811
    page = text(researcher.get(URL))
    for name, cls in objectives.discover().items():
        assert f'<option value="{name}"' in page
        assert cls.title in page
    assert 'name="reward-knob-centring" value="0.01"' in page
    assert "arXiv:2203.02155" in page


def test_every_setting_of_a_reward_model_says_what_it_does():
    for name in objectives.discover():
        form = rewarding.RewardSettings(initial={"reward_objective": name})
        form.offer_objectives()
        assert [one for one, field in form.fields.items() if not field.help_text] == []
        assert form.objective_about()


def test_choosing_another_objective_swaps_its_knobs_alone(researcher, prompts):  # noqa: F811
    headers = {"HX-Request": "true", "HX-Target": "reward"}
    answer = researcher.get(URL, {"reward_objective": "davidson"}, headers=headers)
    page = text(answer)
    assert 'name="reward-knob-nu" value="1.0"' in page
    assert "reward-knob-margin" not in page
    assert 'id="knobs"' not in page


def test_a_dropped_in_objective_is_offered_with_no_form_of_its_own(
    researcher,
    fresh,
    sent,  # noqa: F811
):
    page = text(researcher.get(URL, {"reward_objective": "fresh"}))
    assert "Fresh hinge" in page
    assert "How far scores are pushed apart. Above 0." in page
    sent |= {"reward_objective": "fresh", "reward-knob-gap": 2}
    assert researcher.post(URL, sent).status_code == 302
    made = Experiment.objects.get()
    assert (made.reward_objective, made.reward_knobs) == ("fresh", {"gap": 2.0})


def test_what_is_asked_of_the_reward_model_is_kept_and_repeated(researcher, sent):  # noqa: F811
    sent |= {
        "reward_members": 5, "reward_reading": "nominal", "reward_nominal_share": 0.7,
        "agreement": "keep", "pairs_from": "reward_model", "pair_rule": "max_min",
        "label_raters": "on", "label_flip": 0.1, "label_newest": 2,
    }  # fmt: skip
    assert researcher.post(URL, sent).status_code == 302
    made = Experiment.objects.get()
    assert made.reward_ensemble == {
        "members": 5, "sharing": "heads", "reading": "nominal", "penalty": 0.5,
        "nominal_share": 0.7,
    }  # fmt: skip
    assert made.reward_labels == {
        "raters": True, "machines": 1.0, "newest": 2.0, "flip": 0.1, "smooth": 0.0,
        "margin": False, "cap": 0.25,
    }  # fmt: skip
    assert made.agreement == "keep"
    again = rewarding.like(made)
    assert (again["reward_members"], again["label_raters"], again["agreement"]) == (5, True, "keep")
    page = text(researcher.get(URL, {"like": made.pk}))
    assert 'name="reward_nominal_share" value="0.7"' in page


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"reward_members": 17}, "Members must be between 1 and 16."),
        ({"reward-knob-centring": -1}, "Centring must be at least 0, not -1."),
        ({"agreement": "keep"}, "A single model cannot disagree"),
        ({"agreement": "keep", "reward_members": 3}, "Voted pairs are people's word"),
        (
            {"reward_form": "probe", "reward_objective": "davidson", "reward-knob-nu": 1},
            "A probe is fitted by Bradley-Terry",
        ),
        (
            {"reward_objective": "pairwise_generative", "reward-knob-consistency": 1,
             "reward_members": 3},
            "side by side has no heads; let members share nothing.",
        ),
        (
            {"reward_objective": "plackett_luce", "reward-knob-places": 0, "label_margin": "on"},
            "does not read changed preferences",
        ),
        ({"label_flip": 0.9}, "Votes turned around, at most must be between 0 and 0.5."),
    ],
)  # fmt: skip
def test_what_cannot_work_together_is_refused_in_a_sentence(
    researcher,
    sent,  # noqa: F811
    changed,
    sentence,
):
    answer = researcher.post(URL, sent | changed)
    assert answer.status_code == 422
    assert sentence in text(answer)
    assert not Experiment.objects.exists()


def test_a_rounds_page_tells_whose_votes_were_not_taken_as_cast(researcher, project, alice):
    rater = {
        "reliability": 0.12, "votes": 40, "weight": 0.76, "turned": True, "note": "read turned",
    }  # fmt: skip
    view = {
        "votes": 50, "machine_votes": 10, "changed": {"turned around": 4, "votes weighed": 9},
        "raters": {str(alice.pk): rater}, "turned_by_rater": {str(alice.pk): 3},
    }  # fmt: skip
    model = RewardModel.objects.create(
        project=project, name="rm", objective="bradley_terry", path="/rm", sha256="0" * 64,
        ballots_used=50, accuracy=0.7, metrics={"labels": view, "spread": 0.4},
    )  # fmt: skip
    experiment = lab.experiment(project)
    figures = {"agreement": {"pairs": 12, "kept": 9}}
    round = lab.round_at(experiment, "done", reward_model=model, figures=figures)
    page = text(researcher.get(f"/p/alpha/lab/experiments/{experiment.pk}/rounds/{round.number}/"))
    assert "4 turned around, 9 votes weighed" in page
    assert "10 of 50 votes by AI" in page
    assert alice.username in page
    assert "3 turned around" in page
    assert "9 of 12" in page
