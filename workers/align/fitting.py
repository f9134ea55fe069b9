"""`python -m align.fitting RUNDIR`: weigh factors by people's votes, and measure on votes held out.

The weights are of all votes but those on held-out prompts, and so are their intervals.
"""

from __future__ import annotations

import hashlib
from typing import Any

from align import jobs, monotone
from align.factor_jobs import COMPARED, FitJob
from align.measure import intervals, pairs
from align.measure.pairs import Pair
from align.monotone import Compared, Fitted
from align.run import Run, main

HELD_OUT = 5  # one prompt in so many


def work(run: Run) -> dict[str, Any]:
    """The weights and how well they foretell. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, FitJob):
        raise ValueError(f"align.fitting does fit jobs, not {job.kind} jobs")
    rows = [_compared(row, job) for row in jobs.read_rows(run.folder / COMPARED)]
    seen = [row for row in rows if not held_out(row.prompt)]
    unseen = [row for row in rows if held_out(row.prompt)]
    if len({row.prompt for row in seen}) < 2:
        raise ValueError("Weights need votes on two prompts or more beside those held out.")
    run.log(f"{len(seen)} compared pairs to fit, {len(unseen)} held out")
    run.check()
    fitted = monotone.fit(seen, job.signs, job.ridge, job.resamples, job.seed)
    measured = _pairs(fitted, unseen)
    accuracy = intervals.interval(measured, pairs.accuracy)
    return {
        "weights": dict(fitted.weights),
        "scales": dict(fitted.scales),
        "intervals": {name: list(ends) for name, ends in fitted.intervals.items()},
        "fitted_on": len(seen),
        "heldout": len(unseen),
        "accuracy": accuracy.value if accuracy else None,
        "accuracy_low": _finite(accuracy.low) if accuracy else None,
        "accuracy_high": _finite(accuracy.high) if accuracy else None,
        "log_loss": pairs.log_loss(measured) if measured else None,
        "train_accuracy": pairs.accuracy(_pairs(fitted, seen)),
    }


def held_out(prompt: str) -> bool:
    return int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


def _compared(row: Any, job: FitJob) -> Compared:
    for side in ("first", "second"):
        missing = sorted(job.signs.keys() - row[side].keys())
        if missing:
            raise ValueError(f"an answer to prompt {row['prompt']} has no {', '.join(missing)}")
    if not 0 <= row["p"] <= 1:
        raise ValueError(f"prompt {row['prompt']} has p = {row['p']}, which is not a probability")
    return Compared(row["first"], row["second"], row["p"], row["weight"], row["prompt"])


def _pairs(fitted: Fitted, rows: list[Compared]) -> list[Pair]:
    def reward(z: Any) -> float:
        return monotone.score(fitted.weights, fitted.scales, z)

    return [
        Pair(reward(row.first) - reward(row.second), row.p, row.weight, row.prompt) for row in rows
    ]


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None


if __name__ == "__main__":
    main(work)
