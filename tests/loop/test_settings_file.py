"""A settings file launches the same experiment, here or in another project, or says why not."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from align import jobs
from plumbline.accounts.models import Membership, Project
from plumbline.loop import autopilot, forms, reproduce, settings_file
from plumbline.loop.forms import ExperimentForm
from plumbline.loop.models import Autopilot, Experiment
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
SAME = {
    field.name
    for field in Experiment._meta.concrete_fields
    if field.name not in ("id", "name", "created_at", "created_by", "state", "project")
}
SEAMS = ("weights", "optimiser", "reward_optimiser")


@pytest.fixture
def launched(project, alice, settings) -> Experiment:
    """An experiment with hardly a setting at its default."""
    settings.BASE_MODEL = "/base"
    prompts = lab.prompt_set(project, train=20, heldout=12)
    base = lab.policy(project)
    other = lab.policy(project, "alpha-other", parent=base)
    campaign = open_campaign(project, comparisons=1)
    campaign.name = "Kindness"
    campaign.save()
    changed = {
        "name": "Warmer answers", "algorithm": "inpo", "start": str(other.pk),
        "prompt_set": str(prompts.pk), "asked_as": str(campaign.pk), "rounds_wanted": 4,
        "seed": 11, "prompts_per_round": 9, "samples_per_prompt": 6, "temperature": 0.8,
        "other_temperature": 0.3, "max_tokens": 50, "prompts_compared": 5, "overlap": 3,
        "deadline_minutes": 90, "pairs_from": "reward_model", "pair_rule": "tournament",
        "length_penalty": 0.001, "reference": "soup", "soup_with": str(other.pk),
        "soup_share": 0.25, "replay": "decay", "anchor": 0.5, "warm_start": False, "rank": 8,
        "learning_rate": 2e-4, "epochs": 2, "batch_size": 4, "candidates": 2,
        "reward_members": 3, "reward_reading": "worst", "agreement": "keep",
        "label_machines": 0.5, "heldout_prompts": 7, "gate_win_rate": 0.52, "gate_kl": 12,
        "autopilot": True, "knob-eta": 0.3, "knob-tau": 0.1, "reward-knob-margin": 0.2,
    }  # fmt: skip
    form = ExperimentForm(project, initial=changed)
    bound = ExperimentForm(project, forms.as_data(form))
    assert bound.is_valid(), bound.errors
    made = bound.save(alice)
    made.optimiser = {**made.optimiser, "checkpoint_every": 3}  # the form does not ask for it
    made.weights = {**made.weights, "alpha": 99}
    made.save()
    return made


def write(experiment: Experiment, folder) -> str:
    path = folder / "settings.json"
    path.write_text(json.dumps(settings_file.write(experiment)))
    return str(path)


def call(*args: str) -> str:
    out = StringIO()
    call_command("launch", *args, stdout=out)
    return out.getvalue()


def test_the_same_settings_come_out(launched, alice, tmp_path):
    autopilot.change(launched, alice, {"on": True, "most_votes": 500, "most_kl": 9.5})
    told = call(write(launched, tmp_path), "--as", "alice")
    again = Experiment.objects.exclude(pk=launched.pk).get()
    assert told == (
        f"Warmer answers, run 2 is under way: experiment {again.pk} of alpha, round 1.\n"
    )
    launched.refresh_from_db()
    for name in SAME - set(SEAMS):
        assert getattr(again, name) == getattr(launched, name), name
    assert jobs.Weights(**again.weights) == jobs.Weights(**launched.weights)
    assert again.weights["alpha"] == 99
    for name in ("optimiser", "reward_optimiser"):
        mine, theirs = getattr(again, name), getattr(launched, name)
        assert jobs.Optimiser(**mine) == jobs.Optimiser(**theirs)
    assert again.optimiser["checkpoint_every"] == 3
    assert again.created_by == alice
    assert again.rounds.get().stage == "prompts"
    budget = Autopilot.objects.get(experiment=again)
    assert (budget.most_votes, budget.most_kl, budget.on) == (500, 9.5, True)


def test_settings_that_the_database_leaves_at_defaults_come_out_as_well(project, alice, settings):
    settings.BASE_MODEL = "/base"
    bare = lab.experiment(project, knobs={}, prompts_per_round=4, heldout_prompts=7)
    told = settings_file.write(bare)
    again = settings_file.launch(told, project, alice, name="Again")
    first = forms.like(bare)
    assert {name: forms.like(again)[name] for name in first if name != "name"} == {
        name: value for name, value in first.items() if name != "name"
    }


def test_a_round_is_taken_out_with_what_was_recorded(launched, tmp_path, alice):
    made = lab.finished_round(launched, steps=1)
    job = made.jobs.get(purpose="train").job
    job.result = {"sha256": "ab" * 32, "ran": {"commit": "c0ffee", "data_sha256": "da7a"}}
    job.save()
    told = reproduce.download(made)
    assert told["round"]["jobs"][0]["ran"]["commit"] == "c0ffee"
    (tmp_path / "round.json").write_text(json.dumps(told))
    assert "is under way" in call(str(tmp_path / "round.json"))


def test_prompts_that_are_other_ones_are_refused_unless_that_is_wanted(launched, tmp_path):
    path = write(launched, tmp_path)
    launched.prompt_set.prompts.last().delete()
    with pytest.raises(CommandError, match="The prompts of Prompts are not those"):
        call(path)
    assert "is under way" in call(path, "--anyway")


def test_what_is_not_there_is_named(launched, tmp_path, alice):
    elsewhere = Project.objects.create(slug="beta-two", name="Beta two")
    path = write(launched, tmp_path)
    with pytest.raises(CommandError, match="Nobody is a researcher of beta-two"):
        call(path, "--project", "beta-two")
    Membership.objects.create(project=elsewhere, user=alice, role="researcher")
    with pytest.raises(CommandError) as refused:
        call(path, "--project", "beta-two")
    assert str(refused.value).splitlines() == [
        "Nothing was launched.",
        "This project has no prompt set called Prompts.",
        "This project has no policy called alpha-other.",
        "This project has no policy called alpha-other.",
        "This project has no campaign called Kindness to ask people as in.",
    ]
    assert not elsewhere.experiments.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"plumbline": 9}, "This is no settings file"),
        ({"settings": {"speed": 1}}, "There is no setting called speed."),
        ({"settings": {"seed": -1}}, "Seed: Seed must be between 0"),
        ({"besides": {"optimiser": {"speed": 1}}}, "besides: optimiser has no speed."),
        ({"besides": {"speed": {}}}, "besides: there is nothing called speed."),
    ],
)
def test_a_file_that_was_spoilt_launches_nothing(launched, tmp_path, change, sentence):
    told = settings_file.write(launched)
    for name, value in change.items():
        told[name] = {**told[name], **value} if isinstance(value, dict) else value
    (tmp_path / "spoilt.json").write_text(json.dumps(told))
    with pytest.raises(CommandError, match=sentence):
        call(str(tmp_path / "spoilt.json"))
    assert Experiment.objects.count() == 1


def test_a_file_that_is_no_json_or_not_there_is_told(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(CommandError, match="is not JSON"):
        call(str(tmp_path / "broken.json"))
    with pytest.raises(CommandError, match="cannot be read"):
        call(str(tmp_path / "nowhere.json"))
