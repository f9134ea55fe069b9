"""What it takes to do a round again: what its jobs recorded when they ran, and the commands.

Jobs keep where they ran with their results, so this reads the database alone. A figure that no job
has recorded yet is left out, not guessed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from align import jobs
from plumbline.fleet.models import Job
from plumbline.loop import settings_file
from plumbline.loop.models import Round, RoundJob


@dataclass(frozen=True)
class Fact:
    """`values` are several where the round's jobs differ, each with the jobs that say so."""

    label: str
    values: tuple[tuple[str, str], ...]  # value, and which jobs


def facts(round: Round, asked: Iterable[RoundJob]) -> list[Fact]:
    """Everything recorded of a round, for its page."""
    done = [(one.purpose.partition(":")[0], one.job) for one in asked]
    rows = [
        _seeds(round, done),
        _fact("Commit", done, lambda job: _ran(job).get("commit")),
        _fact("Packages", done, lambda job: _packages(_ran(job).get("packages") or {})),
        Fact("Ballots", ((round.ballots_sha256, "SHA-256 of the frozen list"),))
        if round.ballots_sha256
        else None,
        _fact("Data", done, lambda job: _ran(job).get("data_sha256")),
        _fact("Base revision", done, lambda job: _ran(job).get("base_revision")),
        _fact("Chat template", done, lambda job: _ran(job).get("template_sha256")),
        _fact("Hardware", done, lambda job: _hardware(_ran(job).get("hardware") or {})),
    ]
    return [row for row in rows if row is not None and row.values]


def download(round: Round) -> dict[str, Any]:
    """The settings file of a round's experiment, with what was recorded of the round."""
    asked = list(round.jobs.select_related("job").order_by("pk"))
    return {
        **settings_file.write(round.experiment),
        "round": {
            "number": round.number,
            "policy_in": {"name": round.policy_in.name, "sha256": round.policy_in.sha256},
            "policy_out": {"name": round.policy_out.name, "sha256": round.policy_out.sha256}
            if round.policy_out
            else None,
            "ballots_sha256": round.ballots_sha256,
            "seed": round.experiment.seed,
            "jobs": [
                {
                    "purpose": one.purpose,
                    "description": one.job.spec,
                    "state": one.job.state,
                    "ran": _ran(one.job),
                    "weights_sha256": (one.job.result or {}).get("sha256"),
                }
                for one in asked
            ],
        },
    }


def file_name(round: Round) -> str:
    return f"{round.experiment.project.slug}-e{round.experiment_id}-r{round.number}.json"


def launch_command(round: Round) -> str:
    return f"python manage.py launch {shlex.quote(file_name(round))}"


def training_command(asked: Iterable[RoundJob]) -> str | None:
    """A shell line that trains the round's policy anew from its frozen examples."""
    for one in asked:
        if one.purpose == "train":
            folder = shlex.quote(str(one.job.folder))
            files = " ".join(f"{folder}/{name}" for name in (jobs.JOB, jobs.EXAMPLES))
            return f"mkdir again && cp {files} again/ && python -m {jobs.MODULES['train']} again"
    return None


def _ran(job: Job) -> Mapping[str, Any]:
    found = (job.result or {}).get("ran") or {}
    assert isinstance(found, Mapping)
    return found


def _seeds(round: Round, done: list[tuple[str, Job]]) -> Fact:
    """The experiment's, and those that jobs were given, which follow from it."""
    found: dict[str, list[str]] = {str(round.experiment.seed): ["experiment"]}
    for purpose, job in done:
        seed = job.spec.get("seed", (job.spec.get("optimiser") or {}).get("seed"))
        if seed is not None:
            found.setdefault(str(seed), []).append(purpose)
    return Fact("Seeds", _told(found))


def _fact(label: str, done: list[tuple[str, Job]], read: Any) -> Fact:
    found: dict[str, list[str]] = {}
    for purpose, job in done:
        if value := read(job):
            found.setdefault(str(value), []).append(purpose)
    return Fact(label, _told(found) if len(found) > 1 else tuple((one, "") for one in found))


def _told(found: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((value, ", ".join(dict.fromkeys(which))) for value, which in found.items())


def _packages(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def _hardware(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    gpus: list[str] = found.get("gpus") or []
    each = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)]
    cores = f"{found['cores']} cores of " if found.get("cores") else ""
    each.append(f"{cores}{found.get('processor')}, {found.get('memory_gib')} GiB")
    return f"{', '.join(each)}, {found.get('system')}"
