"""A round's figures for MLflow and Weights & Biases: where they are installed, and where not."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from django.core.management import CommandError, call_command

from plumbline.loop import folder, tracking
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def made(project):
    return lab.finished_round(lab.experiment(project, name="Warmer"), steps=4)


def test_every_logged_step_is_given_with_its_jobs_purpose(made):
    found = list(tracking.steps(made))
    assert [step for step, _ in found] == [1, 2, 3, 4]
    assert {"train/loss", "train/rewards/margins"} <= found[0][1].keys()
    assert tracking.results(made)["evaluation/current/rate"] == 0.672


@pytest.mark.parametrize("store", ["mlflow", "wandb"])
def test_figures_go_to_a_store_whose_package_is_there(made, store, tmp_path):
    if find_spec(store) is None:
        with pytest.raises(ValueError, match=f"{store} is not installed here"):
            tracking.send(made, store, tmp_path)
        return
    count = sum(len(figures) for _, figures in tracking.steps(made)) + 5
    assert tracking.send(made, store, tmp_path) == count
    if store == "wandb":
        assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
        return
    import mlflow

    run = mlflow.search_runs(experiment_names=["Warmer"]).iloc[0]
    assert run["metrics.evaluation/current/rate"] == 0.672
    assert run["params.knobs.beta"] == "0.1"


def test_a_store_nobody_knows_is_refused_by_name(made, tmp_path):
    with pytest.raises(ValueError, match="There is no store csv; there are mlflow and wandb"):
        tracking.send(made, "csv", tmp_path)


def test_the_command_writes_the_folder_once(project, tmp_path):
    made = lab.round_at(lab.experiment(project), "done")
    out = tmp_path / "round.tar"
    call_command("export_round", made.pk, out=out)
    assert folder.name(made).encode() in out.read_bytes()[:512]
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_round", made.pk, out=out)
    with pytest.raises(CommandError, match="there is no round 999"):
        call_command("export_round", 999)
