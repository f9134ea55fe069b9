"""A disk that is full fails an attempt with a sentence, harms nothing, and is no trouble later."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from align import jobs
from align.gpu import checkpoint, train
from tests.align.conftest import do, forked, metrics


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 640 KB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def hog(disk: Path, leave: int) -> Path:
    """Somebody else's file, which leaves so many bytes."""
    found = disk / "hog"
    found.write_bytes(b"x" * (shutil.disk_usage(disk).free - leave))
    return found


def test_a_small_disk_ends_the_attempt_and_room_on_it_lets_the_job_go_on(
    fresh: Callable[[str], Path], whole: str, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(fresh("template-of-it"), small_disk / "run"))
    do(train.work, fresh("size"))
    other = hog(small_disk, leave=260_000)  # for the reference pass and a checkpoint or two
    assert forked(lambda: do(train.work, folder)) == jobs.DISK_FULL
    said = capfd.readouterr().err
    assert jobs.FULL in said
    assert "MB are needed and" in said or "No space left" in said
    assert not (folder / jobs.RESULT).exists()
    assert not list(folder.rglob(f"{checkpoint.STRAY}*")), "nothing half done is left behind"
    kept = checkpoint.numbered(folder / jobs.CHECKPOINTS)
    assert kept, "it had got somewhere"
    for one in kept:
        checkpoint.verify(one)

    before = len(metrics(folder))
    assert forked(lambda: do(train.work, folder)) == jobs.DISK_FULL, "no room, no progress"
    other.unlink()
    assert do(train.work, folder)["sha256"] == whole
    assert "resumed from step" in (folder / jobs.EVENTS).read_text()
    assert len(metrics(folder)) >= before


def test_even_where_no_line_can_be_logged_it_ends_with_that_status(
    fresh: Callable[[str], Path], whole: str, small_disk: Path
) -> None:
    """As an operator starts it, stderr on the same disk: the status says it without a word."""
    folder = Path(shutil.copytree(fresh("template-of-it"), small_disk / "run"))
    other = hog(small_disk, leave=0)
    command = [sys.executable, "-m", "align.gpu.train", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / jobs.STDERR).open("ab") as stderr:
        status = subprocess.run(command, env=environment, stderr=stderr).returncode
    assert status == jobs.DISK_FULL
    assert (folder / jobs.STDERR).read_bytes() == b""
    other.unlink()
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert json.loads((folder / jobs.RESULT).read_text())["sha256"] == whole


def test_no_checkpoint_is_begun_that_would_not_fit(tmp_path: Path) -> None:
    checkpoint.reserve(tmp_path / "not" / "yet", 1000)
    with pytest.raises(OSError, match=r"1,000,000,000.0 MB are needed and .* MB are free"):
        checkpoint.reserve(tmp_path, 10**15)
