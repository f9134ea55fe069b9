"""Work that is done once: a job or a sampling request has a folder named by all that goes into it,
the code of `align` included.

Arms that begin alike share what they have in common, and a bench that was interrupted goes on where
it was. The job programs are the product's own, run in this process.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import align
from align import jobs
from align.gpu import contrast, merge, reward, score, train
from align.jobs import ModelRef
from align.run import Run, hold
from tests.bench.alignment.sampler import Sampler
from tests.bench.alignment.world import Reply

WORK: dict[str, Callable[[Run], dict[str, Any]]] = {
    "train": train.work,
    "reward": reward.work,
    "score": score.work,
    "contrast": contrast.work,
    "merge": merge.work,
}


class Workshop:
    """A folder of finished work, and a sampler that is loaded once."""

    def __init__(self, folder: Path, sampler: Sampler) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.sampler = sampler

    def do(
        self, job: jobs.Job, inputs: Mapping[str, Iterable[Mapping[str, Any]]] | None = None
    ) -> dict[str, Any]:
        """A job's result; `folder` is where it worked, `weights` a whole path."""
        rows = {name: list(found) for name, found in (inputs or {}).items()}
        place = self.folder / f"{job.kind}-{digest([jobs.to_json(job), rows])}"
        if not (place / jobs.RESULT).is_file():
            self._run(place, job, rows)
        result: dict[str, Any] = json.loads((place / jobs.RESULT).read_text())
        if "weights" in result:
            result["weights"] = place / result["weights"]
        return {**result, "folder": place}

    def draw(
        self, policy: ModelRef, questions: Sequence[str], n: int, temperature: float, seed: int
    ) -> list[list[Reply]]:
        """`n` answers to each question. The same arguments give the same answers."""
        asked = [dataclasses.asdict(policy), list(questions), n, temperature, seed]
        place = self.folder / f"draw-{digest(asked)}.jsonl"
        if not place.is_file():
            found = self.sampler.draw(policy, questions, n, temperature, seed)
            rows = ({"replies": [dataclasses.asdict(reply) for reply in row]} for row in found)
            mine = place.with_name(f"{place.name}.{os.getpid()}")
            jobs.write_rows(mine, rows)
            mine.replace(place)
        return [
            [Reply(one["text"], tuple(one["token_ids"]), one["finish_reason"]) for one in row]
            for row in (line["replies"] for line in jobs.read_rows(place))
        ]

    def _run(self, place: Path, job: jobs.Job, rows: Mapping[str, list[Any]]) -> None:
        """In a folder of this process's own, so that two that want the same do not meet."""
        mine = place.with_name(f"{place.name}.{os.getpid()}")
        shutil.rmtree(mine, ignore_errors=True)
        mine.mkdir()
        for name, found in rows.items():
            jobs.write_rows(mine / name, found)
        jobs.write_json(mine / jobs.JOB, jobs.to_json(job))
        with hold(mine) as run:
            run.finish(WORK[job.kind](run))
        try:
            mine.rename(place)
        except OSError:  # the other one was quicker
            shutil.rmtree(mine)


def digest(described: Any) -> str:
    text = json.dumps([code(), described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@functools.cache
def code() -> str:
    """Of every source file of `align`: what another version worked out is no result of this one."""
    root = Path(align.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return total.hexdigest()


def response(reply: Reply) -> jobs.ResponseRow:
    return {
        "id": "",
        "text": reply.text,
        "token_ids": list(reply.token_ids),
        "finish_reason": reply.finish_reason,
    }
