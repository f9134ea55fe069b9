"""`python -m align.measuring RUNDIR`: measure answers by all factors that reading them gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align import factors, jobs
from align.factor_jobs import FACTORS, FactorJob, FactorRow
from align.run import Run, main


def work(run: Run) -> dict[str, Any]:
    """Write every answer's factors, and say how many. Raises ValueError for another kind of job."""
    if not isinstance(run.job, FactorJob):
        raise ValueError(f"align.measuring does factors jobs, not {run.job.kind} jobs")
    count = 0

    def rows() -> Iterator[FactorRow]:
        nonlocal count
        for row in jobs.read_rows(run.folder / jobs.ITEMS):
            run.check()
            count += 1
            asked = factors.question(row["messages"])
            yield {"id": row["id"], "values": factors.measure(asked, row["response"]["text"])}

    jobs.write_rows(run.folder / FACTORS, rows())
    return {"answers": count}


if __name__ == "__main__":
    main(work)
