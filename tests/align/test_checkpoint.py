"""Committed folders: whole or absent after any crash, refused by name after any damage."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from align.gpu import checkpoint
from tests.align.conftest import die, forked


def writer(content: bytes) -> Any:
    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(content)
        (folder / "inner").mkdir()
        (folder / "inner" / "b.json").write_text("{}")

    return write


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    checkpoint.commit(tmp_path / "x" / "one", writer(b"0123456789" * 50), {"seed": 3})
    return tmp_path / "x" / "one"


def test_what_was_committed_verifies_and_says_what_it_is(committed: Path) -> None:
    manifest = checkpoint.verify(committed)
    assert set(manifest.files) == {"a.bin", "inner/b.json"}
    assert manifest.metadata == {"seed": 3}
    assert checkpoint.verify(committed, manifest.sha256) == manifest


def test_equal_content_has_an_equal_hash(committed: Path, tmp_path: Path) -> None:
    one = checkpoint.verify(committed).sha256
    again = checkpoint.commit(tmp_path / "two", writer(b"0123456789" * 50), {"seed": 3})
    other = checkpoint.commit(tmp_path / "three", writer(b"0123456789" * 50), {"seed": 4})
    assert again.sha256 == one
    assert other.sha256 != one
    with pytest.raises(ValueError, match="not the one expected"):
        checkpoint.verify(committed, other.sha256)


@pytest.mark.parametrize("name", ["a.bin", "inner/b.json", "manifest.json"])
def test_any_flipped_bit_is_refused_by_name(committed: Path, name: str) -> None:
    path = committed / name
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(300):
        spoilt = bytearray(whole)
        spoilt[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=name):
            checkpoint.verify(committed)
    path.write_bytes(whole)
    checkpoint.verify(committed)


@pytest.mark.parametrize("name", ["a.bin", "manifest.json"])
def test_any_truncation_is_refused_by_name(committed: Path, name: str) -> None:
    path = committed / name
    whole = path.read_bytes()
    for keep in sorted({k * len(whole) // 64 for k in range(64)}):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=name):
            checkpoint.verify(committed)


def test_a_missing_or_an_extra_file_is_refused_by_name(committed: Path) -> None:
    (committed / "evil.py").write_text("")
    with pytest.raises(ValueError, match="evil.py is not in manifest.json"):
        checkpoint.verify(committed)
    (committed / "evil.py").unlink()
    (committed / "a.bin").unlink()
    with pytest.raises(ValueError, match="a.bin is missing"):
        checkpoint.verify(committed)


def test_a_folder_that_was_never_committed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was never committed"):
        checkpoint.verify(tmp_path)


def test_a_writer_that_fails_leaves_nothing_behind(committed: Path) -> None:
    def full_disk(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoint.commit(committed, full_disk)
    checkpoint.verify(committed)
    assert [path.name for path in committed.parent.iterdir()] == ["one"]


STEPS = ("fsync", "rename", "rmdir", "unlink")


def dying_at(count: int) -> list[str]:
    """Patch the system calls a commit makes so that the one numbered `count` never happens."""
    seen: list[str] = []
    for name in STEPS:
        real = getattr(os, name)

        def call(*args: Any, _name: str = name, _real: Any = real, **kwargs: Any) -> Any:
            if len(seen) == count:
                die()
            seen.append(_name)
            return _real(*args, **kwargs)

        setattr(os, name, call)
    return seen


@pytest.mark.parametrize("occupied", [False, True], ids=["fresh", "replacing"])
def test_a_crash_before_any_system_call_leaves_old_or_new_and_a_retry_works(
    tmp_path: Path, occupied: bool
) -> None:
    old, new = b"old" * 100, b"new" * 100
    crashes = 0
    for count in range(100):
        parent = tmp_path / str(count)
        folder = parent / "one"
        if occupied:
            checkpoint.commit(folder, writer(old))

        def crash(folder: Path = folder, count: int = count) -> None:
            dying_at(count)
            checkpoint.commit(folder, writer(new))

        status = forked(crash)
        if folder.exists():
            checkpoint.verify(folder)
            assert (folder / "a.bin").read_bytes() in (old, new)
        checkpoint.sweep(parent)
        checkpoint.commit(folder, writer(new))
        assert (folder / "a.bin").read_bytes() == new
        assert [path.name for path in parent.iterdir()] == ["one"]
        if status == 0:
            break
        assert status == -9
        crashes += 1
    assert crashes >= 6


def test_the_newest_checkpoint_that_verifies_wins(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.commit(tmp_path / f"step-{step:08d}", writer(b"x"), {"step": step})
    (tmp_path / "step-00000003" / "a.bin").write_bytes(b"y")
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".tmp-half")
    refused: list[str] = []
    found = checkpoint.newest(tmp_path, refused.append)
    assert found is not None
    assert found[1].metadata["step"] == 2
    assert len(refused) == 1
    assert "step-00000003/a.bin" in refused[0]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        checkpoint.commit(tmp_path / f"step-{step:08d}", writer(b"x"))
        checkpoint.prune(tmp_path, 2)
    assert [p.name for p in checkpoint.numbered(tmp_path)] == ["step-00000003", "step-00000004"]


def test_no_checkpoints_is_no_error(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "none", print) is None
    checkpoint.sweep(tmp_path / "none")
