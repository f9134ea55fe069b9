"""Folders that appear whole or not at all, and say what they hold.

A folder is written beside its destination under a stray name, every file is fsync-ed, a manifest
with sizes and SHA-256 hashes is added, and one rename makes it real; a crash at any instant
leaves the previous state. Readers `verify` first: a folder whose bytes differ from its manifest,
or that has a file too many, is refused by name. Holds no pickle and imports no torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import failpoints
from align.jobs import sync_dir
from align.run import NO_ROOM

MANIFEST = "manifest.json"
STRAY = ".tmp-"
OS_ERROR = re.compile(r"os error (\d+)")  # safetensors' own words for an OSError
READERS = 8  # threads, where there are so many cores


@dataclass(frozen=True)
class Manifest:
    """What a committed folder holds; `sha256` covers all files and the metadata."""

    files: Mapping[str, Mapping[str, Any]]  # relative path -> {"size": bytes, "sha256": hex}
    metadata: Mapping[str, Any]
    sha256: str


def commit(
    folder: Path, writer: Callable[[Path], None], metadata: Mapping[str, Any] | None = None
) -> Manifest:
    """Let `writer` fill a fresh folder, then make it durable and rename it to `folder`.

    What was at `folder` before is replaced. If the writer fails, nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    stray = folder.parent / f"{STRAY}{uuid.uuid4().hex}"
    failpoints.reach("checkpoint.begin")
    stray.mkdir()
    failpoints.reach("checkpoint.begun")
    try:
        failpoints.reach("checkpoint.fill")
        writer(stray)
        failpoints.reach("checkpoint.filled")
        manifest = _describe(stray, metadata or {})
        failpoints.reach("checkpoint.hashed")
        (stray / MANIFEST).write_bytes(_encode(manifest))
        failpoints.reach("checkpoint.described")
        for path in _files(stray):
            failpoints.reach("checkpoint.sync_file")
            _sync_file(path)
            failpoints.reach("checkpoint.synced_file")
        for path in (p for p in (stray, *stray.rglob("*")) if p.is_dir()):
            failpoints.reach("checkpoint.sync_folder")
            sync_dir(path)
            failpoints.reach("checkpoint.synced_folder")
        if folder.exists():
            discard(folder)
        failpoints.reach("checkpoint.rename")
        os.rename(stray, folder)
        failpoints.reach("checkpoint.renamed")
    except BaseException as error:
        failpoints.reach("checkpoint.failed")
        shutil.rmtree(stray, ignore_errors=True)
        failpoints.reach("checkpoint.cleared")
        if (said := OS_ERROR.search(str(error))) and (number := int(said[1])) in NO_ROOM:
            raise OSError(number, os.strerror(number), str(folder)) from error
        raise
    sync_dir(folder.parent)
    failpoints.reach("checkpoint.committed")
    return manifest


def reserve(folder: Path, size: int) -> None:
    """Raises OSError where so many bytes would not fit on the disk that holds `folder`; so that it
    is not filled to the last byte, which others want as well."""
    failpoints.reach("checkpoint.reserve")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        said = f"{size / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, said, str(folder))


def verify(folder: Path, sha256: str | None = None) -> Manifest:
    """Read every byte of a committed folder against its manifest.

    Raises ValueError naming the file that is missing, altered, truncated or not listed, and when
    the folder is intact but is not the one whose manifest hash is `sha256`.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: it was never committed")
    manifest = _decode(path)
    listed = {folder / name for name in manifest.files}
    present = set(_files(folder)) - {path}
    if odd := sorted(listed ^ present):
        what = "is missing" if odd[0] in listed else f"is not in {MANIFEST}"
        raise ValueError(f"{odd[0]} {what}")
    for name, entry in manifest.files.items():
        size = (folder / name).stat().st_size
        if size != entry["size"]:
            raise ValueError(f"{folder / name} has {size} bytes, not {entry['size']}")
    for file, found in _hashes(sorted(listed)).items():
        if found != manifest.files[file.relative_to(folder).as_posix()]["sha256"]:
            raise ValueError(f"{file} was altered: its SHA-256 is not the manifest's")
    if sha256 is not None and manifest.sha256 != sha256:
        raise ValueError(f"{folder} is intact but is not the one expected ({sha256[:12]})")
    return manifest


def identity(folder: Path) -> str:
    """The hash that a committed folder goes by, as its manifest says; nothing else is read."""
    return _decode(folder / MANIFEST).sha256


def newest(checkpoints: Path, refused: Callable[[str], None]) -> tuple[Path, Manifest] | None:
    """The checkpoint with the highest number that verifies; each bad one is told to `refused`."""
    for folder in reversed(numbered(checkpoints)):
        try:
            return folder, verify(folder)
        except ValueError as error:
            refused(f"checkpoint passed over: {error}")
    return None


def numbered(checkpoints: Path) -> list[Path]:
    """Committed checkpoints, oldest first."""
    if not checkpoints.is_dir():
        return []
    return sorted(p for p in checkpoints.iterdir() if p.is_dir() and not p.name.startswith(STRAY))


def prune(checkpoints: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for folder in numbered(checkpoints)[:-keep]:
        discard(folder)


def discard(folder: Path) -> None:
    """Delete a folder; a crash in the middle leaves a stray one, never half of a real one."""
    stray = folder.parent / f"{STRAY}{uuid.uuid4().hex}"
    failpoints.reach("checkpoint.discard")
    os.rename(folder, stray)
    failpoints.reach("checkpoint.set_aside")
    shutil.rmtree(stray)
    failpoints.reach("checkpoint.discarded")


def sweep(parent: Path) -> None:
    """Delete what interrupted commits left in `parent`. The caller holds the run directory."""
    if parent.is_dir():
        for stray in parent.glob(f"{STRAY}*"):
            failpoints.reach("checkpoint.sweep")
            shutil.rmtree(stray)
            failpoints.reach("checkpoint.swept")


def _describe(folder: Path, metadata: Mapping[str, Any]) -> Manifest:
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": found}
        for path, found in _hashes(_files(folder)).items()
    }
    body = {"files": files, "metadata": metadata}
    return Manifest(files, metadata, hashlib.sha256(_canonical(body)).hexdigest())


def _encode(manifest: Manifest) -> bytes:
    body = {"files": manifest.files, "metadata": manifest.metadata, "sha256": manifest.sha256}
    return _canonical(body)


def _decode(path: Path) -> Manifest:
    """A manifest whose own bytes are exactly those that were written."""
    data = path.read_bytes()
    try:
        body = json.loads(data)
        manifest = Manifest(body["files"], body["metadata"], body["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is not a readable manifest") from None
    body = {"files": manifest.files, "metadata": manifest.metadata}
    if _encode(manifest) != data or hashlib.sha256(_canonical(body)).hexdigest() != manifest.sha256:
        raise ValueError(f"{path} was altered: it does not match its own SHA-256")
    return manifest


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, indent=1).encode()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _hashes(paths: Sequence[Path]) -> dict[Path, str]:
    """Files' SHA-256. Several are read at once, the largest first: hashing holds no lock."""
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        largest = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)
        found = dict(zip(largest, pool.map(_hash, largest), strict=True))
    return {path: found[path] for path in paths}


def _hash(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
