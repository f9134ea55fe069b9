"""Our side: the product's own programs, run as a worker runs them, with a clock on their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from align import jobs
from align.gpu import reward as rewards
from align.gpu import train as trainer
from align.jobs import ModelRef, Optimiser, Weights
from align.run import Run
from tests.bench.speed import comparisons
from tests.bench.speed.clock import Clock, settle
from tests.bench.speed.work import BETA, LEARNING_RATE, Work

NEVER = 10**9  # steps between checkpoints; the other side writes none either


class ClockedRun(Run):
    """A run whose events also stop a watch: the data is read, a step is done."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock

    def log(self, message: str) -> None:
        super().log(message)
        if "to train on" in message:
            self.clock.begin()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        super().metrics(step, values)
        if "grad_norm" in values:  # of an optimiser step, not of an epoch
            self.clock.step()
            self.clock.figures.append(dict(values))


def train(options: Mapping[str, Any]) -> dict[str, Any]:
    """DPO by `align.gpu.train`: the reference pass, the steps, the committed weights."""
    work = Work.of(options)
    return _report(
        train_job(work),
        {jobs.EXAMPLES: comparisons.examples(work.questions)},
        trainer.work,
        Path(options["scratch"]),
        work.tokens,
    )


def reward(options: Mapping[str, Any]) -> dict[str, Any]:
    """A Bradley-Terry reward model by `align.gpu.reward`; its batches count prompts."""
    work = Work.of(options)
    return _report(
        reward_job(work),
        {jobs.COMPARISONS: comparisons.rankings(work.questions)},
        rewards.work,
        Path(options["scratch"]),
        work.tokens,
    )


def train_job(work: Work) -> jobs.TrainJob:
    base = ModelRef(base=work.base)
    return jobs.TrainJob(
        algorithm="dpo",
        knobs={"beta": BETA},
        start=base,
        references={"reference": base},
        weights=weights(work),
        optimiser=optimiser(work, work.batch, work.at_once),
    )


def reward_job(work: Work) -> jobs.RewardJob:
    each = work.pairs_per_prompt
    return jobs.RewardJob(
        base=ModelRef(base=work.base),
        weights=weights(work),
        optimiser=optimiser(work, work.batch // each, max(1, work.at_once // each)),
    )


def weights(work: Work) -> Weights:
    return Weights(mode=work.mode, rank=work.rank, alpha=2 * work.rank, precision=work.precision)


def optimiser(work: Work, batch: int, at_once: int) -> Optimiser:
    longest = work.lengths.prompt[1] + work.lengths.answer[1]
    return Optimiser(
        learning_rate=LEARNING_RATE,
        batch_size=batch,
        micro_batch_size=at_once,
        max_length=longest,
        seed=work.seed,
        checkpoint_every=NEVER,
    )


def write(folder: Path, job: jobs.Job, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> Path:
    """A run directory."""
    folder.mkdir(parents=True)
    jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
    for name, found in rows.items():
        jobs.write_rows(folder / name, found)
    return folder


def _report(
    job: jobs.Job,
    rows: Mapping[str, Iterable[Mapping[str, Any]]],
    program: Callable[[Run], Mapping[str, Any]],
    scratch: Path,
    tokens: int,
) -> dict[str, Any]:
    clock = Clock(settle())
    result = program(ClockedRun(write(scratch / "run", job, rows), clock))
    assert not result["dropped"], "every pair is trained on"
    return {**clock.report(tokens), "loss": clock.figures[-1]["loss"]}
