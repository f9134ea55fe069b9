"""How sure a reward model may be, by votes that trained copies of it and not them: cross-fitting.

A model is too sure of the votes it learned from, and those held out of all training are few. So
the prompts are dealt into folds, a copy learns from the others' votes as the model did from all,
and says its margins of the fold's; the temperature is fitted to those. The copies are thrown away.
"""

from __future__ import annotations

import gc
import hashlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from align import jobs
from align.gpu import ranks
from align.gpu.comparisons import Comparison
from align.gpu.part import Part
from align.jobs import RewardJob
from align.measure import pairs
from align.measure.pairs import Pair
from align.run import Run

FOLDER = "folds"
UNSEEN = "unseen.jsonl"  # margins of votes by copies that did not learn from them
OF_A_COPY = 0.1  # in log-temperature: how far a copy that learned from fewer votes may be off

Margins = Callable[[Run, RewardJob, Sequence[Comparison], Sequence[Comparison]], list[Pair]]


def figures(
    run: Run,
    job: RewardJob,
    trained: Sequence[Comparison],
    asked: Mapping[str, Comparison],
    margins: Margins,
) -> dict[str, Any]:
    """The temperature and its doubt, and how votes were foretold; nothing where a single prompt
    leaves no other to learn from. asked: the votes as they were before any was turned or softened,
    by comparison. margins: trains a copy, and says what it makes of other votes."""
    path, here = run.folder / UNSEEN, ranks.here()
    if not here.first(path.is_file()):
        parts = deal(trained, job.folds)
        if len(parts) < 2:
            return {}
        found: list[Pair] = []
        for fold, left in enumerate(parts):
            others = [one for k, part in enumerate(parts) if k != fold for one in part]
            # what is measured is what people said, what is learned from may have been changed
            measured = [asked[one.id] for one in left if one.id in asked]
            found += margins(_part(run, job, fold), job, others, measured)
            gc.collect()  # a study and its loop hold each other: one copy in memory at a time
        if here.leads:
            jobs.write_rows(
                path, ({"margin": p.margin, "p": p.p, "weight": p.weight} for p in found)
            )
            shutil.rmtree(run.folder / FOLDER)
        here.gather("written")
    return summary([Pair(**row) for row in jobs.read_rows(path)])


def summary(unseen: Sequence[Pair]) -> dict[str, Any]:
    """What a job's result says of margins out of fold."""
    once = [replace(pair, weight=min(1.0, pair.weight)) for pair in unseen]
    belief = pairs.believed(once)
    return {
        "temperature": belief.value,
        "temperature_doubt": math.hypot(belief.spread, OF_A_COPY),
        "folds_accuracy": pairs.accuracy(unseen),
        "folds_log_loss": pairs.log_loss(unseen),
    }


def deal(trained: Sequence[Comparison], folds: int) -> list[list[Comparison]]:
    """The comparisons in `folds` parts, a prompt's together, prompts dealt by their hashes; fewer
    parts where there are fewer prompts."""
    prompts: dict[str, list[Comparison]] = {}
    for one in trained:
        said = ",".join(map(str, one.sequences[0].prompt))
        prompts.setdefault(hashlib.sha256(said.encode()).hexdigest(), []).append(one)
    parts: list[list[Comparison]] = [[] for _ in range(min(folds, len(prompts)))]
    for place, name in enumerate(sorted(prompts)):
        parts[place % len(parts)] += prompts[name]
    return parts


def _part(run: Run, job: RewardJob, fold: int) -> Part:
    """The fold's run: the same data, in a folder of its own."""
    folder, here = run.folder / FOLDER / str(fold), ranks.here()
    if here.leads and not (folder / jobs.JOB).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / jobs.COMPARISONS
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../{jobs.COMPARISONS}")
        jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
    here.gather("there")
    return Part(run, folder, "fold", fold)
