"""An ensemble whose members are trained apart: an adapter, or a whole model, each.

A member is a reward job of its own in a folder of the run directory, with another seed and with
votes drawn anew by prompt; it can be killed and goes on like any other. What is committed holds
every member's own committed folder and how they are read as one.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align import jobs
from align.ensemble import Ensemble
from align.gpu import checkpoint, comparisons, data, model, resample
from align.gpu.batches import Examples, micro_batches
from align.gpu.comparisons import Comparison
from align.gpu.data import Exchange
from align.gpu.optimise import Sums, add, means
from align.gpu.panel import Figures, Marks, Panel, panel, reading, unread
from align.gpu.part import Part
from align.gpu.provenance import file_hash, provenance
from align.gpu.views import View
from align.jobs import RewardJob
from align.labels import Labels
from align.run import Run

FILE = "members.json"
FOLDER = "members"
APART = 1_000_003  # between members' seeds

Work = Callable[[Run], dict[str, Any]]
Load = Callable[[Path, model.Policy | None], Any]


@dataclass
class Committee:
    """Reward models with one tokenizer, read as one."""

    judges: Sequence[Any]
    panel: Panel

    @property
    def policy(self) -> Any:
        return self.judges[0].policy

    @property
    def whole_prompts(self) -> bool:
        return any(judge.whole_prompts for judge in self.judges)

    def marks(self, rows: Sequence[Exchange]) -> Marks:
        """The reward of each row's response, (B,), and what each member says."""
        return self.panel(torch.stack([judge.scores(rows) for judge in self.judges], 1))

    def scores(self, rows: Sequence[Exchange]) -> Tensor:
        return self.marks(rows).reward


def load(folder: Path, one: Load) -> Committee:
    """A committed ensemble; `one` loads a member's folder."""
    found = json.loads((folder / FILE).read_text())
    names = [f"member-{member}" for member in range(found["how"]["members"])]
    return Committee(_judges([folder / name for name in names], one), Panel.of(found))


def work(run: Run, job: RewardJob, view: View, train: Work, one: Load) -> dict[str, Any]:
    """Train every member that is not there yet, commit them together, and measure their reading."""
    checkpoint.sweep(run.folder)
    encoder = data.Encoder(model.load_tokenizer(Path(job.base.base)))
    trained, heldout, dropped = comparisons.encode(view.rows, encoder, job.optimiser.max_length)
    trained = resample.drawn(trained, job.ensemble.members, job.optimiser.seed)
    times = {one.id: one.times for one in trained}
    results = [
        _member(run, job, train, view.rows, times, member) for member in range(job.ensemble.members)
    ]
    folders = [run.folder / FOLDER / str(m) / jobs.WEIGHTS for m in range(len(results))]
    whole = Committee(_judges(folders, one), Panel(job.ensemble))
    whole.panel = panel(job.ensemble, _measure(run, job, whole, trained, unread))
    held = means(_measure(run, job, whole, heldout, reading))
    train_held = means(_measure(run, job, whole, trained, reading))

    def write(stray: Path) -> None:
        jobs.write_json(stray / FILE, whole.panel.asdict())
        for member, folder in enumerate(folders):
            shutil.copytree(folder, stray / f"member-{member}")

    # Of the base: the members' own folders are the run directory's.
    metadata = provenance(
        replace(whole.policy, ref=job.base), job, file_hash(run.folder / jobs.COMPARISONS)
    )
    manifest = checkpoint.commit(run.folder / jobs.WEIGHTS, write, metadata)
    return {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "accuracy": held.get("accuracy"),
        "log_loss": held.get("log_loss"),
        "heldout": sum(len(one.preferences) for one in heldout),
        "trained_on": sum(one.judgements for one in trained),
        "dropped": dropped,
        "train_accuracy": train_held.get("accuracy"),
        "train_log_loss": train_held.get("log_loss"),
        "spread": held.get("spread"),
        "members": [result["accuracy"] for result in results],
        "labels": view.figures,
        "steps": sum(result["steps"] for result in results),
        "seconds": round(sum(result["seconds"] for result in results), 3),
        "tokens": sum(result["tokens"] for result in results),
    }


def _judges(folders: Sequence[Path], one: Load) -> list[Any]:
    """Members in memory: adapters of one base share it, whole models cannot."""
    first = one(folders[0], None)
    return [first, *(one(folder, first.policy) for folder in folders[1:])]


def _member(
    run: Run,
    job: RewardJob,
    train: Work,
    rows: Sequence[Mapping[str, Any]],
    times: Mapping[str, Sequence[int]],
    member: int,
) -> dict[str, Any]:
    """A member's result, trained unless it is finished."""
    folder = run.folder / FOLDER / str(member)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / jobs.JOB).is_file():
        jobs.write_rows(folder / jobs.COMPARISONS, _resampled(rows, times, member))
        seed = job.optimiser.seed + APART * (member + 1)
        mine = replace(
            job,
            ensemble=Ensemble(),
            labels=Labels(),
            optimiser=replace(job.optimiser, seed=seed),
        )
        jobs.write_json(folder / jobs.JOB, jobs.to_json(mine))
    if not (folder / jobs.RESULT).is_file():
        part = Part(run, folder, "member", member)
        part.finish(train(part))
        gc.collect()  # a study and its loop hold each other: the model goes before the next loads
    found: dict[str, Any] = json.loads((folder / jobs.RESULT).read_text())
    return found


def _resampled(
    rows: Sequence[Mapping[str, Any]], times: Mapping[str, Sequence[int]], member: int
) -> list[Mapping[str, Any]]:
    """Training rows as often as the member counts their prompt, by weight; held-out rows once."""
    found: list[Mapping[str, Any]] = []
    for row in rows:
        often = 1 if row["heldout"] else times.get(row["id"], [0] * (member + 1))[member]
        if not often:
            continue
        plain = {key: value for key, value in row.items() if key != "votes"}
        for name in ("preferences", "rankings", "ratings"):
            if name in plain:
                plain[name] = [(*one[:-1], one[-1] * often) for one in plain[name]]
        found.append(plain)
    return found


@torch.no_grad()
def _measure(
    run: Run,
    job: RewardJob,
    whole: Committee,
    compared: Sequence[Comparison],
    figures: Figures,
) -> Sums:
    found: Sums = {}
    given = Examples([1.0] * len(compared), [one.tokens for one in compared])
    for indices in micro_batches(range(len(compared)), given, job.optimiser.micro_batch_size):
        run.check()
        some = [compared[index] for index in indices]
        rows, said = comparisons.collate(some, whole.policy.device)
        add(found, figures(whole.marks(rows), some, said))
    return found
