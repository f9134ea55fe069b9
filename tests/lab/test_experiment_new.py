"""The launch form: derived from the algorithms, refusing in sentences, beginning round 1."""

from __future__ import annotations

import re
import sys
from html import unescape

import pytest

from align import algorithms, discovery, jobs
from align.pairing import RULES
from plumbline.collect import selection
from plumbline.loop import roundjobs
from plumbline.loop.launch import Settings
from plumbline.loop.models import Experiment
from tests.comparisons import compare, open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/experiments/new/"
FRESH = '''"""Fresh: hold on to what was learned (arXiv:0000.00000)."""
from dataclasses import dataclass
from align.algorithm import Algorithm, knob

@dataclass(frozen=True, kw_only=True)
class Fresh(Algorithm):
    title = "Fresh"
    grip: float = knob(0.7, "How hard to hold on.", above=0, at_most=2)
    turns: int = knob(3, "How many turns.", at_least=1)
    mood: str = knob("calm", "In which mood.", choices=("calm", "wild"))
'''


@pytest.fixture
def prompts(project):
    return lab.prompt_set(project, train=10, heldout=6)


@pytest.fixture
def sent(prompts) -> dict[str, object]:
    """A form as the browser sends it with nothing but the name typed in."""
    return {
        "name": "Warmer answers", "algorithm": "dpo", "start": "", "prompt_set": prompts.pk,
        "rounds_wanted": 2, "seed": 0, "prompts_per_round": 8, "samples_per_prompt": 4,
        "temperature": 1.0, "other_temperature": "", "max_tokens": 96, "labels": "people",
        "asked_as": "",
        "prompts_compared": 0, "selection": "random", "overlap": 1, "deadline_minutes": 0,
        "stale_days": 7, "pairs_from": "votes", "pair_rule": "voted", "length_penalty": 0,
        "reference": "initial", "soup_with": "", "soup_share": 0.5, "replay": "all",
        "replay_share": 0.3, "replay_decay": 0.5, "anchor": 0, "warm_start": "on", "candidates": 0,
        "mode": "lora", "rank": 16, "learning_rate": 5e-5,
        "epochs": 1, "batch_size": 16, "precision": "auto", "micro_batch_tokens": 0,
        "processes": 2,
        "reward_form": "tuned", "reward_learning_rate": 5e-5, "reward_epochs": 1,
        "reward_folds": 3,
        "reward_objective": "bradley_terry", "reward_members": 1, "reward_sharing": "heads",
        "reward_reading": "mean", "reward_penalty": 0.5, "reward_nominal_share": 0.6,
        "agreement": "none", "label_machines": 1, "label_newest": 1, "label_flip": 0,
        "label_smooth": 0, "label_cap": 0.25, "reward-knob-centring": 0.01,
        "reward-knob-margin": 0,
        "heldout_prompts": 6, "judge": "reward_model", "gate_win_rate": 0.5, "gate_kl": 100,
        "knob-beta": 0.2, "knob-noise": "none", "knob-flip_rate": 0.1, "knob-soft_labels": "on",
        "knob-ties": "soft", "knob-tie_strength": 0,
    }  # fmt: skip


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A new algorithm file in the folder, with nothing else touched."""
    (tmp_path / "fresh.py").write_text(FRESH)
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(tmp_path)])
    discovery._discover.cache_clear()
    yield
    sys.modules.pop("align.algorithms.fresh", None)
    discovery._discover.cache_clear()


def text(response) -> str:
    return unescape(response.content.decode())


def test_the_form_starts_at_vetted_defaults_that_fit_the_prompt_set(researcher, prompts):
    page = text(researcher.get(URL))
    assert "How strongly the policy is held to its reference" in page
    assert "the RLHF Workflow's value. Above 0." in page
    assert 'name="knob-beta" value="0.1"' in page
    assert 'name="prompts_per_round" value="10"' in page
    assert 'name="heldout_prompts" value="6"' in page
    assert "DPO - Direct Preference Optimization (arXiv:2305.18290)" in page
    for rule in RULES:
        assert f'<option value="{rule}"' in page


def test_saving_begins_the_first_round(researcher, alice, sent):
    response = researcher.post(URL, sent)
    made = Experiment.objects.get()
    assert response.status_code == 302
    assert response["Location"] == f"/p/alpha/lab/experiments/{made.pk}/"
    assert made.knobs == {
        "beta": 0.2, "noise": "none", "flip_rate": 0.1, "soft_labels": True, "ties": "soft",
        "tie_strength": 0.0,
    }  # fmt: skip
    assert made.weights == {
        "mode": "lora", "rank": 16, "alpha": 32,
        "precision": "auto", "activation_checkpointing": False,
    }  # fmt: skip
    assert made.optimiser == {
        "learning_rate": 5e-5, "epochs": 1, "batch_size": 16, "micro_batch_tokens": 0,
    }  # fmt: skip
    assert made.reward_optimiser == {"learning_rate": 5e-5, "epochs": 1, "micro_batch_tokens": 0}
    assert made.processes == 2
    assert (made.created_by, made.start.name) == (alice, "alpha-base")
    assert (made.replay, made.warm_start) == ("all", True)
    assert made.autopilot is False
    assert [one.stage for one in made.rounds.all()] == ["prompts"]


def test_how_training_is_computed_is_decided_at_launch_and_reaches_the_jobs(researcher, sent):
    asked = {"precision": "bf16", "activation_checkpointing": "on", "micro_batch_tokens": 8192}
    researcher.post(URL, sent | asked)
    made = Experiment.objects.get()
    weights = jobs.Weights(**made.weights)
    assert (weights.precision, weights.activation_checkpointing) == ("bf16", True)
    for fields in (made.optimiser, made.reward_optimiser):
        assert roundjobs.optimiser(made, fields).micro_batch_tokens == 8192
    again = text(researcher.get(f"{URL}?like={made.pk}"))
    assert 'name="micro_batch_tokens" value="8192"' in again
    assert '<option value="bf16" selected>' in again


def test_settings_of_speed_and_memory_are_folded_until_one_of_them_matters(researcher, sent):
    fold = "<summary>Show 4 settings</summary>"
    sent["processes"] = 1
    page = text(researcher.get(URL))
    assert page.count(fold) == 1
    assert "Compute activations a second time instead of keeping them" in page
    assert fold not in text(researcher.post(URL, sent | {"micro_batch_tokens": -1}))
    assert fold not in text(researcher.post(URL, sent | {"name": "", "precision": "bf16"}))
    assert fold not in text(researcher.post(URL, sent | {"name": "", "processes": 2}))
    assert fold in text(researcher.post(URL, sent | {"name": ""}))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": ""}, "The experiment needs a name."),
        ({"samples_per_prompt": 1}, "A comparison needs at least two answers to each prompt."),
        ({"samples_per_prompt": 0}, "Answers to each prompt must be between 1 and 64."),
        ({"processes": 65}, "Processes must be between 0 and 64."),
        ({"samples_per_prompt": "many"}, "Answers to each prompt must be a whole number."),
        ({"temperature": 0}, "At temperature 0 all answers to a prompt are the same"),
        ({"temperature": "nan"}, "Temperature must be a number."),
        ({"max_tokens": 9000}, "The engine holds 512 tokens, prompt and answer together"),
        ({"prompts_per_round": 11}, "has 10 training prompts; a round cannot draw 11."),
        ({"heldout_prompts": 7}, "has 6 held-out prompts; the evaluation cannot use 7."),
        ({"pairs_from": "reward_model"}, "knows only the pairs people compared"),
        ({"labels": "ballots"}, "has no ballots yet. Import some, or let people compare answers."),
        ({"learning_rate": 0}, "At a learning rate of 0 nothing is learned."),
        ({"rank": 0}, "LoRA rank must be between 1 and 512."),
        ({"knob-beta": -1}, "Beta must be above 0, not -1."),
        ({"knob-beta": "x"}, "Beta must be a number."),
        ({"knob-flip_rate": 0.5}, "Flip rate must be below 0.5, not 0.5."),
        ({"pair_rule": "best"}, "best is not one of the available choices"),
        ({"gate_win_rate": 2}, "Win rate to clear must be between 0 and 1."),
        ({"anchor": -1}, "Anchor must be between 0 and 1000."),
        ({"anchor": ""}, "Anchor is missing."),
        ({"other_temperature": 3}, "Other temperature must be between 0 and 2."),
        ({"other_temperature": 0}, "At temperature 0 all 2 answers of that half are the same"),
        ({"prompts_compared": ""}, "Prompts compared is missing."),
        ({"prompts_compared": 9}, "A round has 8 prompts; people cannot compare answers to 9."),
        ({"prompts_compared": 5}, "nobody compares train nothing when pairs come from votes."),
        (
            {"prompts_compared": 5, "labels": "ballots"},
            "Ballots that are already there are all read; nobody compares anything.",
        ),
        ({"selection": "best"}, "best is not one of the available choices"),
        (
            {"selection": "contrast", "samples_per_prompt": 2},
            "Of two answers there is nothing to select; draw three or more.",
        ),
        (
            {"selection": "contrast", "labels": "ballots"},
            "Ballots that are already there say what was compared",
        ),
        (
            {"selection": "disagreement", "samples_per_prompt": 4},
            "Only a reward model of two members or more can disagree",
        ),
        (
            {"selection": "thompson", "samples_per_prompt": 4},
            "Only a reward model of two members or more can disagree",
        ),
        (
            {"selection": "mixed", "samples_per_prompt": 2},
            "Of two answers there is nothing to select; draw three or more.",
        ),
        ({"selection": "across"}, "across is not one of the available choices"),
        ({"stale_days": -1}, "Asked for, in days must be between 0 and 3650."),
        ({"precision": "fp8"}, "fp8 is not one of the available choices"),
        ({"micro_batch_tokens": -1}, "Tokens at a time must be between 0 and 100000000."),
        ({"reward_form": "oracle"}, "oracle is not one of the available choices"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(researcher, sent, changed, sentence):
    response = researcher.post(URL, sent | changed)
    assert response.status_code == 422
    assert sentence in text(response)
    assert not Experiment.objects.exists()


def test_full_weights_are_refused_on_vllm(researcher, sent, settings):
    settings.ENGINE = "vllm"
    response = researcher.post(URL, sent | {"mode": "full"})
    assert "vLLM can load LoRA adapters while it runs, but no other full weights." in text(response)


def test_a_name_is_used_once_in_a_project(researcher, sent):
    researcher.post(URL, sent)
    assert "An experiment of this name is here already" in text(researcher.post(URL, sent))
    assert Experiment.objects.count() == 1


def test_ballots_of_the_prompt_set_are_enough_for_an_offline_round(researcher, project, sent):
    campaign = open_campaign(project, comparisons=0)
    prompts = lab.PromptSet.objects.get(pk=sent["prompt_set"])
    comparison = compare(campaign, prompts, "Question 0 of Prompts?", ["One", "Two"])
    lab.ballot(comparison)
    assert researcher.post(URL, sent | {"labels": "ballots"}).status_code == 302


def test_a_foreign_prompt_set_or_policy_is_no_choice(researcher, charlie, sent):
    theirs = charlie.projects.get()
    foreign = lab.prompt_set(theirs, name="Theirs")
    base = lab.policy(theirs)
    policy = lab.policy(theirs, "beta-adapter", parent=base)
    assert "Theirs" not in text(researcher.get(URL))
    for changed in ({"prompt_set": foreign.pk}, {"start": str(policy.pk)}):
        assert researcher.post(URL, sent | changed).status_code == 422


def test_a_new_algorithm_file_appears_in_the_form(researcher, prompts, fresh):
    assert '<option value="fresh">Fresh</option>' in text(researcher.get(URL))
    part = text(researcher.get(URL, {"algorithm": "fresh"}, headers={"HX-Request": "true"}))
    assert part.lstrip().startswith('<fieldset class="group" id="knobs">')
    assert "hold on to what was learned" in part
    assert 'name="knob-grip" value="0.7"' in part
    assert "How hard to hold on. Above 0 and at most 2." in part
    assert '<option value="wild">wild</option>' in part
    assert "knob-beta" not in part


def test_a_new_algorithms_knobs_are_stored_in_their_types(researcher, sent, fresh):
    mine = {"algorithm": "fresh", "knob-grip": "1.5", "knob-turns": "2", "knob-mood": "wild"}
    researcher.post(URL, sent | mine)
    assert Experiment.objects.get().knobs == {"grip": 1.5, "turns": 2, "mood": "wild"}


def test_without_scripts_a_button_shows_another_algorithms_knobs(researcher, sent, fresh):
    typed = {name: value for name, value in sent.items() if name != "warm_start"}
    page = text(researcher.get(URL, typed | {"algorithm": "fresh"}))
    assert 'name="knob-grip" value="0.7"' in page
    assert 'value="Warmer answers"' in page
    assert not re.search(r'name="warm_start"[^>]* checked', page)


def test_a_preset_fills_the_algorithms_and_the_rounds_settings(researcher, sent):
    page = text(researcher.get(URL, sent | {"algorithm": "inpo", "preset": "theory"}))
    assert 'name="knob-eta" value="0.3"' in page
    assert 'name="samples_per_prompt" value="2"' in page
    assert '<option value="none" selected>None: this round' in page
    assert 'value="Warmer answers"' in page


def test_an_algorithm_warns_of_settings_that_are_likely_to_disappoint(researcher, sent):
    cycling = {"algorithm": "inpo", "knob-eta": "0.05", "knob-tau": "0.05"}
    assert "circle instead of settling" in text(researcher.get(URL, {"algorithm": "inpo"}))
    assert "circle instead of settling" in text(researcher.post(URL, sent | cycling, follow=True))


@pytest.mark.parametrize("name", sorted(algorithms.discover()))
def test_every_preset_fits_the_form(name, researcher, sent):
    for preset in algorithms.discover()[name].presets.values():
        assert set(preset.round) <= set(Settings.base_fields)
    for preset in algorithms.discover()[name].presets:
        assert researcher.get(URL, sent | {"algorithm": name, "preset": preset}).status_code == 200


def knobs(name: str) -> dict[str, object]:
    return {f"knob-{one.name}": one.default for one in algorithms.get(name).knobs()}


def test_an_algorithm_is_given_the_answers_it_reads(researcher, sent):
    few = knobs("brain") | {"algorithm": "brain", "samples_per_prompt": 3, "knob-n": 4}
    assert "reads 4 answers to each prompt" in text(researcher.post(URL, sent | few))
    given = knobs("selm") | {"algorithm": "selm", "labels": "ballots"}
    assert "also draws answers of its own" in text(researcher.post(URL, sent | given))


@pytest.mark.parametrize(
    ("algorithm", "changed", "sentence"),
    [
        ("kto", {"anchor": 1}, "KTO chooses no answer to hold on to; leave this at 0."),
        ("xpo", {"other_temperature": 0.3}, "compares answers of two policies with each other"),
        (
            "copg",
            {"other_temperature": 0.3, "samples_per_prompt": 1},
            "A comparison needs at least two answers to each prompt.",
        ),
    ],
)
def test_a_setting_that_an_algorithm_cannot_follow_is_refused(
    researcher, sent, algorithm, changed, sentence
):
    response = researcher.post(URL, sent | knobs(algorithm) | {"algorithm": algorithm} | changed)
    assert response.status_code == 422
    assert text(response).count('class="errorlist"') == 1
    assert sentence in text(response)


def test_what_is_drawn_asked_and_counted_besides_is_stored_shown_and_repeated(researcher, sent):
    besides = {
        "other_temperature": 0.3, "prompts_compared": 5, "pairs_from": "reward_model",
        "pair_rule": "max_min", "reward_form": "probe", "anchor": 0.5, "selection": "contrast",
    }  # fmt: skip
    assert researcher.post(URL, sent | besides).status_code == 302
    made = Experiment.objects.get()
    assert (made.other_temperature, made.prompts_compared) == (0.3, 5)
    assert (made.reward_form, made.anchor) == ("probe", 0.5)
    assert made.selection == "contrast"
    page = text(researcher.get(URL, {"like": made.pk}))
    assert 'name="other_temperature" value="0.3"' in page
    assert '<option value="probe" selected>' in page
    shown = text(researcher.get(f"/p/alpha/lab/experiments/{made.pk}/"))
    for setting in ("<dt>Other temperature</dt><dd>0.3</dd>", "<dt>Anchor</dt><dd>0.5</dd>"):
        assert setting in shown
    researcher.post(URL, sent | {"name": "Plain"})
    plain = Experiment.objects.get(name="Plain")
    assert (plain.other_temperature, plain.prompts_compared, plain.anchor) == (None, 0, 0.0)
    assert plain.reward_form == "tuned"
    shown = text(researcher.get(f"/p/alpha/lab/experiments/{plain.pk}/"))
    assert "<dt>Other temperature</dt><dd>none</dd>" in shown


def test_as_many_prompts_compared_as_there_are_may_train_on_votes(researcher, sent):
    assert researcher.post(URL, sent | {"prompts_compared": 8}).status_code == 302


def test_a_wrong_field_is_told_once(researcher, sent):
    page = text(researcher.post(URL, sent | {"prompts_per_round": 0, "prompts_compared": 3}))
    assert "Prompts a round must be between 1 and 100000." in page
    assert "people cannot compare answers to 3" not in page


def test_an_averaged_reference_needs_a_second_policy(researcher, sent):
    said = "An averaged reference needs a second policy; choose one."
    assert said in text(researcher.post(URL, sent | {"reference": "soup"}))


def test_an_experiment_can_be_repeated_with_changes(researcher, project, sent):
    researcher.post(URL, sent | {"rank": 4, "knob-beta": 0.35, "labels": "people"})
    page = text(researcher.get(URL, {"like": Experiment.objects.get().pk}))
    assert 'value="Warmer answers, again"' in page
    assert 'name="knob-beta" value="0.35"' in page
    assert 'name="rank" value="4"' in page


def test_a_project_without_prompts_is_told_to_import_some(researcher):
    assert "This project has no prompt set yet." in text(researcher.get(URL))


def test_an_annotator_may_not_launch(bob, project, client_for, sent):
    assert client_for(bob).get(URL).status_code == 403
    assert client_for(bob).post(URL, sent).status_code == 403


def test_every_way_of_choosing_comparisons_is_offered_and_explained_by_its_own_file(researcher):
    page = text(researcher.get(URL))
    assert len(selection.offered()) == 8
    for name, strategy in selection.offered().items():
        assert f'<option value="{name}"' in page
        assert strategy.title in page
        assert " ".join(strategy.about().split())[:60] in " ".join(page.split())


def test_of_two_answers_it_may_still_be_chosen_which_prompts_people_see(researcher, sent):
    some = {"selection": "design", "samples_per_prompt": 2, "prompts_compared": 5}
    by_model = {"pairs_from": "reward_model", "pair_rule": "max_min"}
    assert researcher.post(URL, sent | some | by_model).status_code == 302
    assert Experiment.objects.get().selection == "design"
    assert Experiment.objects.get().stale_days == 7
