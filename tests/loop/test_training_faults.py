"""A round whose training breaks down says why on its page, and makes no policy."""

from __future__ import annotations

import errno
import html

import pytest

from plumbline.fleet.models import Job
from plumbline.loop import advance, rounds
from plumbline.loop.models import Stage
from plumbline.policies.models import Deployment, Policy
from tests.lab import laboratory as lab
from tests.loop.conftest import SMALL, run_round

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]
WILD = {**SMALL, "learning_rate": 1e9, "warmup_ratio": 0.0}


@pytest.fixture
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize("broken", ["optimiser", "reward_optimiser"])
def test_a_training_that_explodes_fails_the_round_with_the_reason_and_serves_nothing_new(
    broken, experiment_of, rater, alice, client_for
):
    more = {"pairs_from": "reward_model"} if broken == "reward_optimiser" else {}
    experiment = experiment_of(prompts_per_round=4, **{broken: WILD}, **more)
    before = set(Policy.objects.values_list("pk", flat=True))
    deployed = list(Deployment.objects.values("alias", "policy"))
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.FAILED
    kind = {"optimiser": "train", "reward_optimiser": "reward"}[broken]
    reason, _, words = round.error.partition("\n")
    assert reason.startswith(f"The {kind} job failed: the largest weight became 1e+09 at step 1 of")
    assert reason.endswith("A lower learning rate is the usual cure")
    assert words.startswith("ValueError: ")
    job = Job.objects.get(kind=kind, asked_by__round=round)
    assert (job.state, job.attempt) == (Job.State.FAILED, 1), "retrying could not help"
    assert round.policy_out is None
    assert set(Policy.objects.values_list("pk", flat=True)) == before
    assert list(Deployment.objects.values("alias", "policy")) == deployed
    page = client_for(alice).get(f"/p/alpha/lab/experiments/{experiment.pk}/rounds/1/")
    text = html.unescape(page.content.decode())
    assert f'<p class="lines">{reason}' in text


def test_a_disk_that_is_full_pauses_the_round_until_there_is_room(
    project, alice, client_for, monkeypatch
):
    round = lab.round_at(lab.experiment(project), Stage.TRAIN)

    def full(round):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(advance.STAGES, Stage.TRAIN, full)
    advance.advance(round)
    round.refresh_from_db()
    assert (round.stage, round.over) == (Stage.TRAIN, False)
    at = f"/p/alpha/lab/experiments/{round.experiment_id}/rounds/1/"
    page = html.unescape(client_for(alice).get(at).content.decode())
    assert "Waiting for room on the disk" in page
    assert "The disk is full: nothing can be prepared until there is room." in page
    monkeypatch.setitem(advance.STAGES, Stage.TRAIN, lambda round: Stage.FAILED)
    advance.advance(round)
    round.refresh_from_db()
    assert round.error == "", "it went on"
