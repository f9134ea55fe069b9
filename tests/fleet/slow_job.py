"""A job program for tests: as many small steps as the job's `n`, resumable, told what to do by its
`model`: "steady", "poison" (dies by SIGKILL), "wrong" (bad job), "loud" (a traceback), "full" (of
the disk), "large" (of memory), "deaf" (ignores SIGTERM). Each step adds a line to steps.txt, so
work done twice can be seen.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any

from align import run
from align.jobs import SampleJob


def work(attempt: run.Run) -> dict[str, Any]:
    job: Any = attempt.job
    if attempt.job.kind == "train":  # the same, told by a job of the GPU queue
        job = SampleJob(
            engine_url="-",
            model=job.algorithm,
            n=job.optimiser.epochs,
            temperature=job.optimiser.learning_rate,
        )
    done = attempt.folder / "steps.txt"
    (attempt.folder / "child.pid").write_text(str(os.getpid()))
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    (attempt.folder / "gpus.txt").write_text(gpus)
    (attempt.folder / "environment.txt").write_text("\n".join(os.environ))
    match job.model:
        case "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wrong":
            raise ValueError("this job can never work")
        case "loud":
            raise RuntimeError("the reason is on the last line")
        case "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "large":
            raise MemoryError("memory runs out with a single example at a time")
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steps = done.read_text().split() if done.exists() else []
    for step in range(len(steps), job.n):
        attempt.check()
        time.sleep(job.temperature)
        # As a checkpoint does: the step is certain before the next one begins.
        with done.open("a") as out:
            out.write(f"{step}\n")
        attempt.metrics(step, {"loss": 1 / (step + 1)})
        attempt.progress(step + 1, job.n, "steps")
    attempt.log("all steps done")
    return {"sum": sum(int(step) for step in done.read_text().split())}


if __name__ == "__main__":
    run.main(work)
