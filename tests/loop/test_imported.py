"""Imported ballots train like any others: both real data sets go from a file to a served policy."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from django.core.management import call_command

from plumbline.collect.models import Ballot, PromptSet
from plumbline.fleet.models import Job
from plumbline.loop import rounds
from plumbline.loop.models import Stage
from plumbline.policies import serving
from tests.align.conftest import build_base
from tests.engines import EngineProcess
from tests.loop.conftest import run_round

pytestmark = pytest.mark.django_db

FILES = {
    "hh_rlhf": "hh_rlhf/harmless_base.jsonl.gz",
    "alpaca_eval": "alpaca_eval/annotations.jsonl.gz",
}


def offline_round(format: str, shared_data: Path, project, experiment_of):
    call_command(
        "import", format, shared_data / FILES[format], project=project.slug, set=format,
        split_heldout=0.2, limit=60, verbosity=0,
    )  # fmt: skip
    experiment = experiment_of(
        labels="ballots",
        prompt_set=PromptSet.objects.get(name=format),
        prompts_per_round=40,
        samples_per_prompt=1,
    )
    return run_round(rounds.begin(experiment), None)


def show(round, project, engine) -> None:
    """The round is done, and what it made answers clients under its own name."""
    assert round.stage == Stage.DONE, round.error
    assert round.ballots.count() > 20
    assert {ballot.annotator.kind for ballot in round.ballots.all()} == {"import"}
    assert Ballot.objects.count() >= round.ballots.count()
    assert round.reward_model.ballots_used == round.ballots.count()
    assert not Job.objects.filter(
        asked_by__round=round, kind="sample", asked_by__purpose__startswith="sample"
    ).exists()
    assert round.examples.exists()
    assert round.evaluations.get(against="current").wins >= 0
    assert project.deployments.get().policy == round.policy_out
    body = {
        "model": serving.engine_name(round.policy_out),
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 5,
    }
    reply = httpx.post(engine.url + "/v1/chat/completions", json=body, timeout=60).json()
    assert reply["model"] == round.policy_out.name


@pytest.mark.sqlite
def test_human_comparisons_train_the_demo_base(
    shared_data, project, experiment_of, engine, settings
):
    settings.ENGINE_URL = engine.url
    show(offline_round("hh_rlhf", shared_data, project, experiment_of), project, engine)


@pytest.mark.sqlite
def test_ai_judgements_train_another_base_folder(
    shared_data, project, experiment_of, settings, tmp_path
):
    base = build_base(tmp_path / "base")
    other = EngineProcess(tmp_path / "engine.log", model=base, max_model_len=1024)
    other.start()
    try:
        settings.ENGINE_URL, settings.BASE_MODEL = other.url, str(base)
        settings.MAX_MODEL_LEN = 1024
        round = offline_round("alpaca_eval", shared_data, project, experiment_of)
        show(round, project, other)
        assert round.policy_out.base_model == str(base)
    finally:
        other.kill()
