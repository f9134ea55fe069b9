"""`python -m align.pooling RUNDIR`: several judges' verdicts on a pair as one soft label.

Preference strength as Secrets of RLHF II votes it across reward models (arXiv:2401.06080), here
across judges: u = mean_k logit(p_k), each held to +-3 so that nobody's certainty decides alone, and
the label is sigmoid(u). A judge is contradicted where the mean of the *others* is on the other
side: it never vouches for itself. Where more judges lean one way than their strength does, a few
sure ones outvote many; the label then gives a share to the other side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from align import jobs
from align.factor_jobs import MEMBERS, POOLED, PooledRow, PoolJob
from align.run import Run, main

WIDEST = 3.0  # log-odds of one judge at most, as margins of labels have it


@dataclass(frozen=True)
class Strength:
    p: float
    strength: float
    spread: float
    contradicted: tuple[str, ...]


def pooled(said: Mapping[str, float | None], smooth: float, least: int = 2) -> Strength | None:
    """The label of what judges said; None where fewer than `least` said anything."""
    odds = {name: _odds(p) for name, p in sorted(said.items()) if p is not None}
    if len(odds) < max(1, least):
        return None
    mean = math.fsum(odds.values()) / len(odds)
    p = (1 + math.tanh(mean / 2)) / 2
    leaning = sum((one > 0) - (one < 0) for one in odds.values())
    if leaning * mean < 0:
        p = (1 - smooth) * p + smooth * (1 - p)
    spread = statistics.stdev(odds.values()) if len(odds) > 1 else 0.0
    total = math.fsum(odds.values())
    against = tuple(name for name, one in odds.items() if one * (total - one) < 0)
    return Strength(p, mean, spread, against)


def work(run: Run) -> dict[str, Any]:
    """Pool every row of members.jsonl. Raises ValueError for a bad job."""
    job = run.job
    if not isinstance(job, PoolJob):
        raise ValueError(f"align.pooling does pool jobs, not {job.kind} jobs")
    if not 0 <= job.smooth <= 0.5:
        raise ValueError(f"smooth must be between 0 and 0.5, not {job.smooth}")
    counts = {"pairs": 0, "pooled": 0, "contradicted": 0}

    def rows() -> Iterator[PooledRow]:
        for row in jobs.read_rows(run.folder / MEMBERS):
            run.check()
            found = pooled(row["said"], job.smooth, job.least)
            counts["pairs"] += 1
            if found is None:
                yield {"id": row["id"], "p": None, "strength": 0.0, "spread": 0.0,
                       "contradicted": []}  # fmt: skip
                continue
            counts["pooled"] += 1
            counts["contradicted"] += bool(found.contradicted)
            yield {
                "id": row["id"],
                "p": found.p,
                "strength": found.strength,
                "spread": found.spread,
                "contradicted": list(found.contradicted),
            }

    jobs.write_rows(run.folder / POOLED, rows())
    return counts


def _odds(p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"{p} is not a probability")
    least = 1 / (1 + math.exp(WIDEST))
    held = min(1 - least, max(least, p))
    return math.log(held / (1 - held))


if __name__ == "__main__":
    main(work)
