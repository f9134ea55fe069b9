"""What a disk does to a checkpoint is always seen: it is refused, and the one before is used.

Real checkpoints of a real training: its weights, AdamW's state, its random states, its counters
and the manifest are cut at 64 places and have single bits flipped, by night 1,000 of them.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from align import jobs
from align.gpu import checkpoint, train
from tests.align.conftest import do
from tests.align.test_resume import kill_at_step

SEED = random.randrange(10**6)  # shown when a test fails
CUTS, FLIPS = 64, 1000
Spoil = Callable[[bytes], bytes]


@pytest.fixture
def run(fresh: Callable[[str], Path]) -> Path:
    """Told to stop after step 6: with checkpoints of steps 4 and 6."""
    folder = fresh("run")
    kill_at_step(folder, 6, signal.SIGTERM)
    names = [one.name for one in checkpoint.numbered(folder / jobs.CHECKPOINTS)]
    assert names == ["step-00000004", "step-00000006"]
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def cut(whole: bytes, at: int, of: int) -> bytes:
    return whole[: at * len(whole) // of]


def flipped(whole: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(whole)
    spoilt[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def used(run: Path) -> tuple[str, list[str]]:
    """The checkpoint a resumed training would take, and what it says of others."""
    refused: list[str] = []
    found = checkpoint.newest(run / jobs.CHECKPOINTS, refused.append)
    assert found is not None
    return found[0].name, refused


def test_no_cut_is_ever_loaded(run: Path) -> None:
    newest = checkpoint.numbered(run / jobs.CHECKPOINTS)[-1]
    for path in files(newest):
        whole = path.read_bytes()
        for at in range(CUTS):
            path.write_bytes(cut(whole, at, CUTS))
            name, refused = used(run)
            assert name == "step-00000004", f"{path.name} cut at {at} of {CUTS}"
            assert [path.name in one for one in refused] == [True]
        path.write_bytes(whole)
    assert used(run) == ("step-00000006", [])


@pytest.mark.parametrize("flips", [200, pytest.param(FLIPS, marks=pytest.mark.nightly)])
def test_no_flipped_bit_is_ever_loaded(run: Path, flips: int) -> None:
    newest = checkpoint.numbered(run / jobs.CHECKPOINTS)[-1]
    rng = random.Random(SEED)
    kept = {path: path.read_bytes() for path in files(newest)}
    assert {"manifest.json", "state.json", "state.safetensors"} == {path.name for path in kept}
    for number in range(flips):
        path = rng.choice(list(kept))  # each file as often, however small
        path.write_bytes(flipped(kept[path], rng))
        name, refused = used(run)
        assert name == "step-00000004", f"flip {number} of {path.name}, seed {SEED}"
        assert len(refused) == 1
        path.write_bytes(kept[path])
    assert used(run) == ("step-00000006", [])


def resumes(run: Path, folder: Path, whole: str, spoil: dict[str, Spoil]) -> str:
    """Spoil files of the newest checkpoint in a copy, go on from it, and return its log."""
    shutil.copytree(run, folder)
    newest = checkpoint.numbered(folder / jobs.CHECKPOINTS)[-1]
    for name, change in spoil.items():
        (newest / name).write_bytes(change((newest / name).read_bytes()))
    assert do(train.work, folder)["sha256"] == whole
    return (folder / jobs.EVENTS).read_text()


def test_training_goes_on_from_the_one_before_to_the_same_weights(
    run: Path, whole: str, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    for number, name in enumerate(("state.safetensors", "state.json", "manifest.json")):
        for kind, spoil in (
            ("cut", lambda data: cut(data, rng.randrange(CUTS), CUTS)),
            ("flip", lambda data: flipped(data, rng)),
        ):
            folder = tmp_path / f"{kind}-{number}"
            log = resumes(run, folder, whole, {name: spoil})
            assert "checkpoint passed over" in log, f"{kind} of {name}, seed {SEED}"
            assert "resumed from step 4" in log


def test_with_all_of_them_spoilt_it_begins_anew(run: Path, whole: str, tmp_path: Path) -> None:
    for one in checkpoint.numbered(run / jobs.CHECKPOINTS):
        (one / "state.safetensors").write_bytes(b"")
    log = resumes(run, tmp_path / "anew", whole, {})
    assert log.count("checkpoint passed over") == 2
    assert "resumed" not in log


@pytest.mark.nightly
def test_a_thousand_bits_later_it_still_ends_with_the_same_weights(
    run: Path, whole: str, tmp_path: Path
) -> None:
    """Every 25th of the flips, and every 4th of the cuts, seen through to the end of training."""
    rng = random.Random(SEED)
    for number in range(FLIPS // 25):
        name = rng.choice(["state.safetensors", "state.json", "manifest.json"])
        resumes(run, tmp_path / f"f{number}", whole, {name: lambda data: flipped(data, rng)})
    for at in range(0, CUTS, 4):
        resumes(
            run,
            tmp_path / f"c{at}",
            whole,
            {"state.safetensors": lambda data, at=at: cut(data, at, CUTS)},
        )
