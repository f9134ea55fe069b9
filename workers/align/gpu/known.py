"""Rewards that a model has given before, on disk by what it read.

A reward model is frozen and reads nothing but a prompt and an answer, so the same two give the same
reward, whichever job asks. One file a model, named by the hash of its weights; lines are only ever
appended, under a lock, so that several jobs may share it, and a torn one is passed over.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align.gpu.data import Exchange


class Known:
    """What one model has said so far: fields of its scores by the digest of what it read."""

    def __init__(self, folder: Path, sha256: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{sha256}.jsonl"

    def find(self, exchanges: Mapping[str, Exchange]) -> dict[str, dict[str, Any]]:
        """The scores known of these, by the keys they are given under."""
        if not self.path.is_file() or not exchanges:
            return {}
        wanted: dict[str, list[str]] = {}
        for key, exchange in exchanges.items():
            wanted.setdefault(digest(exchange), []).append(key)
        found: dict[str, dict[str, Any]] = {}
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                if line[:64] in wanted and line.endswith("}\n"):
                    score = json.loads(line[65:])
                    found.update((key, score) for key in wanted[line[:64]])
        return found

    def add(self, scores: Iterable[tuple[Exchange, Mapping[str, Any]]]) -> None:
        """Remember these. Nothing is forced to disk: what a crash loses is scored again."""
        rows = [f"{digest(exchange)} {json.dumps(score)}\n" for exchange, score in scores]
        with self.path.open("a+b") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            if end := out.seek(0, os.SEEK_END):
                out.seek(end - 1)
                rows.insert(0, "" if out.read(1) == b"\n" else "\n")
            out.write("".join(rows).encode())


def digest(exchange: Exchange) -> str:
    """SHA-256 of the token ids of prompt and answer, and of where one ends."""
    ids = array("q", [len(exchange.prompt), *exchange.prompt, *exchange.response])
    return hashlib.sha256(ids.tobytes()).hexdigest()
