"""A folder that differs from its manifest in any way is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline.policies.manifest import verify

checkpoint = pytest.importorskip("align.gpu.checkpoint")


@pytest.fixture
def committed(tmp_path: Path) -> tuple[Path, str]:
    def write(folder: Path) -> None:
        (folder / "a.safetensors").write_bytes(b"weights")
        (folder / "inner").mkdir()
        (folder / "inner" / "config.json").write_text("{}")

    folder = tmp_path / "weights"
    return folder, checkpoint.commit(folder, write, {"seed": 3}).sha256


def test_what_training_commits_verifies(committed: tuple[Path, str]) -> None:
    assert verify(*committed) == {"seed": 3}


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda f: (f / "a.safetensors").write_bytes(b"Weights"), "was altered after"),
        (lambda f: (f / "a.safetensors").write_bytes(b"weight"), "was altered after"),
        (lambda f: (f / "a.safetensors").unlink(), "is missing"),
        (lambda f: (f / "inner" / "x").write_text(""), "is not in manifest"),
        (lambda f: (f / "manifest.json").unlink(), "never committed"),
        (lambda f: (f / "manifest.json").write_text("{"), "not a readable manifest"),
        (lambda f: (f / "manifest.json").write_text("[1]"), "not a readable manifest"),
    ],
)
def test_any_difference_is_named(
    committed: tuple[Path, str], harm: Callable[[Path], object], sentence: str
) -> None:
    harm(committed[0])
    with pytest.raises(ValueError, match=sentence):
        verify(*committed)


def test_an_edited_manifest_is_refused(committed: tuple[Path, str]) -> None:
    folder, sha256 = committed
    path = folder / "manifest.json"
    body = json.loads(path.read_text())
    body["metadata"] = {"seed": 4}
    path.write_text(json.dumps(body))
    with pytest.raises(ValueError, match="does not match its own"):
        verify(folder, sha256)


def test_intact_weights_of_another_policy_are_refused(committed: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match="other weights than"):
        verify(committed[0], "0" * 64)


def test_files_that_can_carry_code_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    manifest = checkpoint.commit(folder, lambda f: (f / "model.py").write_text("1"))
    with pytest.raises(ValueError, match="could carry code"):
        verify(folder, manifest.sha256)
