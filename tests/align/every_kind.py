"""A small training of every algorithm and every sort of reward model, and faults to plant in it."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from align import algorithms, jobs
from align.gpu import reward, train, watching
from align.gpu.optimise import Loop
from align.gpu.side_by_side import SideBySide
from align.jobs import ModelRef
from align.run import Run
from tests.align.conftest import pair, response, train_job
from tests.align.test_examples_by_algorithm import rows
from tests.align.test_reward import comparison, comparisons, reward_job
from tests.align.test_reward_objectives import voted

Rundir = Callable[..., Path]
Work = Callable[[Run], Mapping[str, Any]]
ALGORITHMS = list(algorithms.discover())
# A reward model of every sort that is trained by steps: (objective, its knobs).
REWARDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bradley_terry": ("bradley_terry", {}),
    "plackett_luce": ("plackett_luce", {}),
    "general_preference": ("general_preference", {}),
    "rao_kupper": ("rao_kupper", {}),
    "davidson": ("davidson", {}),
    "regression": ("regression", {"from_votes": True}),
    "length_decorrelated": ("length_decorrelated", {}),
    "mixture": ("mixture", {}),
    "pairwise_generative": ("pairwise_generative", {}),
}
KINDS = [*ALGORITHMS, *(f"reward-{name}" for name in REWARDS)]
STEPS = 4


def job_of(kind: str, base: Path, **settings: Any) -> jobs.TrainJob | jobs.RewardJob:
    """Four steps, a checkpoint after each; `settings` are the optimiser's."""
    given: dict[str, Any] = {"learning_rate": 1e-3, "checkpoint_every": 1, **settings}
    if kind.startswith("reward-"):
        objective, knobs = REWARDS[kind.removeprefix("reward-")]
        made = reward_job(base, **{"epochs": 2, "batch_size": 4, "micro_batch_size": 2, **given})
        return dataclasses.replace(made, objective=objective, knobs=knobs)
    algorithm = algorithms.get(kind)()
    ref = ModelRef(base=str(base))
    asked = {*algorithm.references, *algorithm.divergences}
    made_ = train_job(base, **{"epochs": 2, "batch_size": 4, **given})
    return dataclasses.replace(made_, algorithm=kind, references=dict.fromkeys(sorted(asked), ref))


def data_of(kind: str) -> dict[str, list[dict[str, Any]]]:
    """Eight examples, or eight comparisons to train on and two held out."""
    if kind.startswith("reward-"):
        if kind == "reward-pairwise_generative":
            words = [("good", "yuck") if n % 3 else ("yuck", "good") for n in range(10)]
            return {
                "comparisons": [comparison(str(n), [*w], n % 5 == 0) for n, w in enumerate(words)]
            }
        return {"comparisons": [voted(row) for row in comparisons(10, heldout=5)]}
    made = rows(algorithms.get(kind)())
    return {"examples": [{**made[n % 3], "id": f"row-{n}", "messages": [
        {"role": "user", "content": f"question {n}"}]} for n in range(8)]}  # fmt: skip


def work_of(kind: str) -> Work:
    return reward.work if kind.startswith("reward-") else train.work


def spoilt(kind: str) -> list[dict[str, Any]]:
    """Rows with an answer of no length, and with one text as both answers."""
    if kind.startswith("reward-"):
        empty = voted(comparison("empty", ["good", "yuck"]))
        empty["responses"][1] = response("", token_ids=[])
        same = voted(comparison("same", ["good", "good"]))
        return [empty, same]
    (first, *_), roles = rows(algorithms.get(kind)()), algorithms.get(kind)().roles
    empty = {**first, "id": "empty", "responses": dict(first["responses"])}
    empty["responses"][roles[0]] = response("", token_ids=[])
    same = {**first, "id": "same"}
    same["responses"] = {role: pair("q", "same", "same")["responses"]["chosen"]
                         for role in first["responses"]}  # fmt: skip
    return [empty, same]


Patch = Callable[[Any, str, Any], None]  # setattr in a child that dies, or monkeypatch's
Fault = Callable[[Loop], object]


def before_step(patch: Patch, step: int, fault: Fault) -> None:
    """Call `fault` in front of the step of this number, in whatever trains in this process."""
    real = Loop._step

    def stepped(self: Loop) -> None:
        if self.state.step + 1 == step:
            fault(self)
        real(self)

    patch(Loop, "_step", stepped)


def spoil_batch(patch: Patch, value: float) -> Fault:
    """From then on the model says `value` of the last answer it reads."""

    def spoilt(found: torch.Tensor) -> torch.Tensor:
        bad = torch.zeros_like(found)
        bad.view(-1)[-1] = value
        return found + bad

    def fault(loop: Loop) -> None:
        policy, scalar, both = watching.read, reward.RewardModel.values, SideBySide.values

        def read(*args: Any, **settings: Any) -> watching.Reading:
            found = policy(*args, **settings)
            return found._replace(sums=spoilt(found.sums))

        patch(watching, "read", read)
        patch(reward.RewardModel, "values", lambda self, rows: spoilt(scalar(self, rows)))
        patch(SideBySide, "values", lambda self, rows: spoilt(both(self, rows)))

    return fault


def spoil_weight(loop: Loop) -> None:
    """A cosmic ray, or a kernel that is wrong: one number of one weight is none."""
    list(loop.parameters.values())[-1].data.view(-1)[0] = float("nan")


def dying_at(step: int) -> None:
    """Patch this process so that it dies when the figures of a step are to be written."""
    real = Run.metrics

    def metrics(self: Run, at: int, values: Mapping[str, float]) -> None:
        if at == step and "learning_rate" in values:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, at, values)

    Run.metrics = metrics  # type: ignore[method-assign]
