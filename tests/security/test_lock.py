"""What production installs: everything that Plumbline asks for and what that asks for in turn, each
file by its hash, in the versions that are tested here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "platform" / "requirements.lock"
ENTRY = re.compile(
    r"^([a-z0-9.-]+)==(\S+?)(?: ; .+?)? \\((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)"
)


def locked() -> dict[str, str]:
    """Names and versions."""
    entries = re.split(r"\n(?=[a-z])", LOCK.read_text())[1:]
    found = [ENTRY.match(one) for one in entries]
    assert all(found), [one for one, match in zip(entries, found, strict=True) if match is None]
    return {match[1]: match[2] for match in found if match is not None}


def wanted(names: list[str], extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    for text in names:
        one = Requirement(text)
        markers = [{"extra": extra} for extra in sorted(extras)] or [{"extra": ""}]
        if one.marker is None or any(one.marker.evaluate(which) for which in markers):
            yield one


def test_all_that_plumbline_needs_is_locked_by_hash_in_a_version_that_it_accepts() -> None:
    versions = locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, seen = list(wanted(project["dependencies"])), set()
    assert waiting
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        assert name in versions, f"{one} is not locked: make lock"
        assert one.specifier.contains(versions[name], prereleases=True), f"{one}: {versions[name]}"
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += wanted(distribution(name).requires or [], extras)
    assert len(seen) > 40


@pytest.mark.parametrize("name", sorted(locked()))
def test_what_is_tested_is_what_is_locked(name: str) -> None:
    try:
        here = distribution(name).version
    except PackageNotFoundError:  # of another system, or what builds Plumbline itself
        return
    assert here == locked()[name]


def test_the_images_install_by_the_lock_and_nothing_else_from_the_index() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    installs = re.findall(r"pip install .+?(?= \\\n| &&)", compose)
    by_lock = [one for one in installs if "--require-hashes -r platform/requirements.lock" in one]
    itself = [one for one in installs if one not in by_lock]
    assert len(by_lock) == len(itself) == 2
    assert all("--no-build-isolation" in one for one in itself)
    assert "--no-deps" in itself[0], "of the pages"
    assert itself[1].endswith('".[gpu]"'), "PyTorch comes in the build that fits the GPU"
