"""A round's figures in a store that other tools read: MLflow's, or Weights & Biases' offline one.

Neither package is among Plumbline's own. Where one is installed beside it, it is used; where it is
not, that is said. Nothing is sent anywhere: both write to a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plumbline.fleet.models import Metric
from plumbline.loop import difference, folder
from plumbline.loop.models import Round


def send(round: Round, store: str, to: Path) -> int:
    """Write the round's settings and every logged figure to `to`; how many figures.

    Raises ValueError with a sentence for a store that is not known or whose package is missing.
    """
    if store not in STORES:
        raise ValueError(f"There is no store {store}; there are {' and '.join(sorted(STORES))}.")
    if find_spec(store) is None:
        raise ValueError(
            f"The package {store} is not installed here. Install it beside Plumbline, or take the "
            "figures as CSV files out of the round's folder."
        )
    to.mkdir(parents=True, exist_ok=True)
    return STORES[store](import_module(store), round, to)


def steps(round: Round) -> Iterator[tuple[int, dict[str, float]]]:
    """Every logged step of the round's jobs with its figures, called `<purpose>/<name>`."""
    for asked in round.jobs.order_by("pk"):
        at: dict[str, float] = {}
        step = None
        rows = Metric.objects.filter(job=asked.job_id).order_by("step", "name")
        for row in rows.iterator():
            if step is not None and row.step != step:
                yield step, at
                at = {}
            step = row.step
            at[f"{asked.purpose.replace(':', '-')}/{row.name}"] = row.value
        if step is not None:
            yield step, at


def results(round: Round) -> dict[str, float]:
    """The evaluation's figures."""
    names = ("rate", "low", "high", "kl", "tokens")
    found = {
        f"evaluation/{one.against}/{name}": getattr(one, name)
        for one in round.evaluations.all()
        for name in names
    }
    return {name: value for name, value in found.items() if value is not None}


def _mlflow(mlflow: Any, round: Round, to: Path) -> int:
    mlflow.set_tracking_uri(f"sqlite:///{to.resolve() / 'mlflow.db'}")
    if mlflow.get_experiment_by_name(round.experiment.name) is None:
        artifacts = (to.resolve() / "artifacts").as_uri()
        mlflow.create_experiment(round.experiment.name, artifact_location=artifacts)
    mlflow.set_experiment(round.experiment.name)
    count = 0
    with mlflow.start_run(run_name=folder.name(round)):
        mlflow.log_params(_params(round))
        for step, figures in steps(round):
            mlflow.log_metrics(figures, step=step)
            count += len(figures)
        mlflow.log_metrics(results(round))
        mlflow.log_text(folder.card(round), folder.CARD)
    return count + len(results(round))


def _wandb(wandb: Any, round: Round, to: Path) -> int:
    run = wandb.init(
        mode="offline",
        dir=str(to),
        project=round.experiment.project.slug,
        group=round.experiment.name,
        name=folder.name(round),
        config=_params(round),
    )
    count = 0
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    for step, figures in steps(round):
        run.log({"step": step, **figures})
        count += len(figures)
    found = results(round)
    run.summary.update(found)
    run.finish()
    return count + len(found)


def _params(round: Round) -> dict[str, Any]:
    return {
        **difference.settings(round.experiment),
        "round": round.number,
        "votes": round.ballots.count(),
        "votes_sha256": round.ballots_sha256,
        "policy_sha256": round.policy_out.sha256 if round.policy_out else "",
    }


STORES: dict[str, Callable[[Any, Round, Path], int]] = {"mlflow": _mlflow, "wandb": _wandb}
