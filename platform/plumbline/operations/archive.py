"""A backup's folder: what is in it, written whole or not at all, and read only where every byte is
what its manifest says."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align import failpoints
from align.jobs import sync_dir

MANIFEST = "manifest.json"
SCHEMA = 1
PIECE = 1 << 20
SPARE = 64 << 20  # bytes left free on the disk that is written to


class Refused(Exception):
    """A backup or a restore that cannot be done, in a sentence."""


class Writer:
    """Files that are copied into a backup, with their sizes and hashes as they were read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, Any]] = {}
        self.bytes = 0

    def copy(self, source: Path, name: str) -> None:
        """Raises FileNotFoundError where it is gone."""
        failpoints.reach("backup.file")
        target = self.folder / name
        with source.open("rb") as old:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as new:
                hash, size = hashlib.sha256(), 0
                while piece := old.read(PIECE):
                    new.write(piece)
                    hash.update(piece)
                    size += len(piece)
                new.flush()
                os.fsync(new.fileno())
        self._note(name, size, hash.hexdigest())

    def register(self, name: str) -> None:
        """A file that somebody else has written there."""
        path = self.folder / name
        with path.open("rb") as written:
            os.fsync(written.fileno())
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        self._note(name, path.stat().st_size, sha256)

    def _note(self, name: str, size: int, sha256: str) -> None:
        self.files[name] = {"size": size, "sha256": sha256}
        self.bytes += size

    def finish(self, facts: dict[str, Any]) -> None:
        body = {"schema": SCHEMA, **facts, "files": self.files}
        whole = {**body, "sha256": _digest(body)}
        path = self.folder / MANIFEST
        with path.open("x", encoding="utf-8") as out:
            json.dump(whole, out, indent=1, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        for folder, _, _ in os.walk(self.folder):
            sync_dir(Path(folder))


@contextmanager
def writing(target: Path) -> Iterator[Writer]:
    """A new backup at `target`: it is there when all of it is, and after a failure nothing is."""
    if target.exists():
        raise Refused(f"{target} is there already; name a folder that is not.")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir(mode=0o700)
    try:
        with full_disk_refused(target.parent, "nothing was kept."):
            yield Writer(aside)
            failpoints.reach("backup.before_rename")
            aside.rename(target)
            sync_dir(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def full_disk_refused(folder: Path, what_then: str) -> Iterator[None]:
    """A disk that is full is Refused in a sentence, not an OSError."""
    try:
        yield
    except OSError as error:  # shutil.copytree's own has no number, and all others' in its words
        if error.errno == errno.ENOSPC or f"[Errno {errno.ENOSPC}]" in str(error):
            raise Refused(f"The disk at {folder} is full; {what_then}") from error
        raise


def check_space(folder: Path, wanted: int) -> None:
    """Raises Refused where `wanted` bytes do not fit beside what is there."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE:
        raise Refused(
            f"{wanted / 2**20:.0f} MiB do not fit: {free / 2**20:.0f} MiB are free at {folder}."
        )


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a backup with its own SHA-256, every file checked against it. Raises Refused
    naming the first that is missing, altered, cut off or not listed."""
    body = _manifest(folder / MANIFEST)
    files: dict[str, dict[str, Any]] = body["files"]
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    } - {MANIFEST}
    if missing := sorted(files.keys() - present):
        raise Refused(f"{folder / missing[0]} is missing from the backup.")
    if more := sorted(present - files.keys()):
        raise Refused(
            f"{folder / more[0]} is no part of the backup: its manifest does not list it."
        )
    for name, known in sorted(files.items()):
        path = folder / name
        if path.is_symlink() or path.stat().st_size != known["size"]:
            raise Refused(
                f"{path} was cut off or altered: it has {path.stat().st_size} bytes and had "
                f"{known['size']}."
            )
        with path.open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != known["sha256"]:
                raise Refused(f"{path} was altered after the backup was made.")
    return {**body, "sha256": _digest(body)}


def _manifest(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_bytes())
        body = {name: value for name, value in whole.items() if name != "sha256"}
        intact = whole["sha256"] == _digest(body)
    except FileNotFoundError:
        raise Refused(f"{path.parent} is no backup: it has no {MANIFEST}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(f"{path} cannot be read: it was cut off or altered.") from None
    if not intact:
        raise Refused(f"{path} was altered: it does not match its own SHA-256.")
    if body.get("schema") != SCHEMA:
        raise Refused(f"{path} is of another version of backups ({body.get('schema')}).")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in body["files"]):
        raise Refused(f"{path} names a file outside the backup.")
    return body


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
