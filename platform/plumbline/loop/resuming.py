"""From where a round's jobs go on when it is tried again, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from align import jobs
from plumbline.fleet.models import Job
from plumbline.loop.models import Round

AGAIN = (Job.State.FAILED, Job.State.CANCELLED)


def told(round: Round) -> list[str]:
    """A sentence for each job that would be run again."""
    asked = round.jobs.filter(job__state__in=AGAIN).select_related("job").order_by("pk")
    return [sentence for one in asked for sentence in _job(one.job)]


def checkpoint(job: Job) -> int | None:
    """The optimiser step of the newest checkpoint a job left; None where it left none. The job
    itself verifies it, and goes on from the one before where a disk spoilt it."""
    folder = job.folder / jobs.CHECKPOINTS
    if not folder.is_dir():
        return None
    steps = [one.name.partition("-")[2] for one in folder.iterdir() if one.is_dir()]
    return max((int(step) for step in steps if step.isdecimal()), default=None)


def _job(job: Job) -> Iterator[str]:
    done, total = job.progress.get("done"), job.progress.get("total")
    what = f"The {job.kind} job"
    step = checkpoint(job)
    if step is not None:
        of = f" of {total}" if total and job.progress.get("unit") == "steps" else ""
        yield f"{what} goes on from its checkpoint of step {step}{of}."
    elif job.kind in ("sample", "score") and done:
        yield f"{what} keeps the {done} of {total} {job.progress.get('unit', '')} it had done."
    else:
        yield f"{what} begins anew: it had left no checkpoint."
