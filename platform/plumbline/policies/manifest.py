"""Proof that a weights folder is the one its policy was registered with, before an engine reads it.

The reading half of the commit protocol that training writes with: `manifest.json` lists every
file with its size and SHA-256, and its own hash is the policy's identity.
Refuses a folder with a file too many, too few or altered, and file types that can carry code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from align import model_folder

MANIFEST = "manifest.json"
# Pickles run code when they are loaded, and so may modules beside a model (CVE-2026-22807).
CODE = frozenset((*model_folder.CODE, *model_folder.PICKLES))


def verify(folder: Path, sha256: str) -> dict[str, Any]:
    """Read every byte of `folder` against its manifest; give the manifest's metadata.

    Raises ValueError naming what is missing, altered, unlisted or unsafe, or saying that the
    folder is intact but is not the one whose manifest hash is `sha256`.
    """
    body = outline(folder, sha256)
    for name, entry in body["files"].items():
        if _hash(folder / name) != entry["sha256"]:
            raise ValueError(f"{folder / name} was altered after it was committed")
    metadata: dict[str, Any] = body["metadata"]
    return metadata


def outline(folder: Path, sha256: str) -> dict[str, Any]:
    """`verify` without reading the files: for whoever hands the folder to one that does. Gives the
    manifest."""
    body = _manifest(folder / MANIFEST)
    if body["sha256"] != sha256:
        raise ValueError(f"{folder} holds other weights than the policy was registered with")
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    } - {MANIFEST}
    files: dict[str, dict[str, Any]] = body["files"]
    if missing := sorted(files.keys() - present):
        raise ValueError(f"{folder / missing[0]} is missing")
    if unlisted := sorted(present - files.keys()):
        raise ValueError(f"{folder / unlisted[0]} is not in {MANIFEST}")
    for name, entry in files.items():
        path = folder / name
        if path.is_symlink():
            raise ValueError(f"{path} is a link; what was committed holds none")
        if path.suffix.lower() in CODE:
            raise ValueError(f"{path} could carry code; weights are safetensors")
        if path.stat().st_size != entry["size"]:
            raise ValueError(f"{path} was altered after it was committed")
    return body


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest, once its own hash is found to cover what it says."""
    try:
        body = json.loads(path.read_bytes())
        covered = {"files": body["files"], "metadata": body["metadata"]}
        intact = hashlib.sha256(_canonical(covered)).hexdigest() == body["sha256"]
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {MANIFEST}: it was never committed") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is not a readable manifest") from None
    if not intact:
        raise ValueError(f"{path} was altered: it does not match its own SHA-256")
    return dict(body)


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, indent=1).encode()


def _hash(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
