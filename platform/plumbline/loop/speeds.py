"""How long work of a kind takes: measured on the project's own past jobs, else reckoned roughly.

A pace is seconds of the fleet for one unit of a kind's work, with seconds that every such job takes
besides. Both are ranges, and each pace says in a sentence where it is from, for the pages show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from plumbline.accounts.models import Project
from plumbline.fleet.models import Job

LATEST = 20  # jobs of a kind that are looked at
ONE_JOB = 0.3  # how far another job may be from the only one there was
BYTES = 3.0  # of a parameter on disk, between bf16's two and fp32's four
SMALL = 1e8  # parameters up to which a model is reckoned on processor cores
CORES, GPU = (4e9, 4e10), (3e13, 3e14)  # operations a second that they sustain
BEGINS = (3.0, 30.0)  # seconds to load the libraries and the model
PROMPT = 64  # tokens of a prompt, roughly
UNITS = {"sample": "answers", "score": "answers", "reward": "comparisons", "train": "examples"}
# Operations for a parameter and a token: forward 2, backward 4; a frozen policy beside it 2 more.
# Drawing token by token keeps a machine busy for about a tenth of what it could do.
WORK = {"sample": 20.0, "score": 4.0, "reward": 6.0, "train": 8.0}


@dataclass(frozen=True)
class Range:
    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)


NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class Pace:
    """Seconds a job takes: `begins` and `each` for every unit of its work."""

    begins: Range
    each: Range
    source: str
    measured: bool

    def seconds(self, units: Range) -> Range:
        return Range(
            self.begins.low + self.each.low * units.low,
            self.begins.high + self.each.high * units.high,
        )


def of(
    project: Project, kind: str, base_model: str, max_tokens: int, like: Mapping[str, Any]
) -> Pace | None:
    """The pace of jobs of a kind. `like` are values that a past job's description must have to be
    compared with, by dotted name. None where nothing was measured and the model is not known."""
    found = []
    jobs = Job.objects.filter(project=project, kind=kind, state=Job.State.SUCCEEDED, attempt=1)
    for job in jobs.exclude(started_at=None).order_by("-finished_at")[: 5 * LATEST]:
        if all(_at(job.spec, name) == value for name, value in like.items()):
            found.append(job)
    taken = [one for job in found[:LATEST] if (one := _measured(job)) is not None]
    if taken:
        return _from_jobs(kind, taken)
    return _reckoned(kind, parameters(base_model), max_tokens)


@cache
def parameters(base_model: str) -> float | None:
    """About how many a base model has, by the size of its files; None where they are elsewhere."""
    folder = Path(base_model)
    size = sum(one.stat().st_size for one in folder.glob("*.safetensors")) if base_model else 0
    return size / BYTES if size else None


def _measured(job: Job) -> tuple[float, float] | None:
    """Seconds besides the work, and seconds a unit, of a job that did something."""
    assert job.started_at is not None
    result, whole = job.result or {}, 0.0
    if job.finished_at is not None:
        whole = (job.finished_at - job.started_at).total_seconds()
    units = DONE[job.kind](job.spec, result)
    worked = whole if job.kind == "reward" else min(whole, float(result.get("seconds", whole)))
    return (whole - worked, worked / units) if units and whole > 0 else None


def _from_jobs(kind: str, taken: list[tuple[float, float]]) -> Pace:
    begins, each = (_spread(list(one)) for one in zip(*taken, strict=True))
    jobs = "the last job" if len(taken) == 1 else f"the last {len(taken)} jobs"
    return Pace(begins, each, f"Measured on {jobs} of this kind in this project.", True)


def _spread(values: list[float]) -> Range:
    """The middle four fifths; of a single value, what is around it."""
    values.sort()
    if len(values) == 1:
        return Range(values[0] * (1 - ONE_JOB), values[0] * (1 + ONE_JOB))
    cut = len(values) // 10
    return Range(values[cut], values[-1 - cut])


def _reckoned(kind: str, size: float | None, max_tokens: int) -> Pace | None:
    if size is None:
        return None
    slow, fast = CORES if size < SMALL else GPU
    machine = "a few processor cores" if size < SMALL else "one data-centre GPU"
    tokens = PROMPT + max_tokens
    operations = WORK[kind] * size * tokens * (2 if kind in ("reward", "train") else 1)
    return Pace(
        Range(*BEGINS),
        Range(operations / fast / 4, operations / slow),
        f"A rough figure: no job of this kind has ended in this project. Reckoned for a model of "
        f"{_count(size)} parameters on {machine}.",
        False,
    )


def _count(size: float) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if size >= unit:
            return f"{size / unit:.2g} {name}"
    return f"{size:.0f}"


def _at(spec: Mapping[str, Any], name: str) -> Any:
    """A job description's value by its dotted name."""
    value: Any = spec
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _reward_units(spec: Mapping[str, Any], result: Mapping[str, Any]) -> float:
    copies = 1 + int(spec.get("folds") or 0)
    epochs = _at(spec, "optimiser.epochs") or 1
    return float(copies * epochs * (result.get("trained_on") or 0))


DONE: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], float]] = {
    "sample": lambda spec, result: float(result.get("completions") or 0),
    "score": lambda spec, result: float((result.get("scored") or 0) + (result.get("skipped") or 0)),
    "reward": _reward_units,
    "train": lambda spec, result: float(
        (result.get("examples") or 0) * (_at(spec, "optimiser.epochs") or 1)
    ),
}
