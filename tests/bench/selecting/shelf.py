"""Curves that were measured once, kept by all that goes into them.

A bench that was interrupted goes on where it was; a changed strategy, plan, vote or source file
makes another curve.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import plumbline.collect
from align import jobs
from tests.bench.alignment.workshop import digest
from tests.bench.selecting import learning
from tests.bench.selecting.learning import Learner


class Shelf:
    """The curves of one learner, in `folder`."""

    def __init__(self, folder: Path, learner: Learner) -> None:
        self.folder = folder
        self.learner = learner
        pool = learner.pool
        read = hashlib.sha256(pool.features.numpy().tobytes()).hexdigest()
        votes = [[*pair, p] for pair, p in pool.votes.items()]
        asked = [read, list(pool.texts), votes, pool.heldout]
        self.source = digest([code(), asdict(learner.plan), asked])

    def curve(self, strategy: str, seed: int) -> list[float]:
        """Held-out accuracy at each of the plan's counts."""
        place = self.folder / f"curve-{digest([self.source, strategy, seed])}.json"
        if not place.is_file():
            jobs.write_json(place, {"accuracy": self.learner.curve(strategy, seed)})
        found: list[float] = json.loads(place.read_text())["accuracy"]
        return found


@functools.cache
def code() -> str:
    """Of every file that picks pairs or learns from them, but for `align`'s, which `digest` has."""
    root = Path(plumbline.collect.__file__).parent
    total = hashlib.sha256(Path(learning.__file__).read_bytes())
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return total.hexdigest()
