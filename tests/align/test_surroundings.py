"""What a job says of where it ran."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from align import surroundings


def test_the_commit_of_a_checkout_is_told_and_whether_files_differ(tmp_path: Path) -> None:
    def git(*args: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *names, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")
    assert surroundings.commit(tmp_path) == head
    (tmp_path / "code.py").write_text("2")
    assert surroundings.commit(tmp_path) == f"{head}-dirty"


def test_where_there_is_no_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert surroundings.commit(tmp_path) is None
    assert surroundings.commit(tmp_path / "nowhere") is None


def test_everything_is_json_and_loads_no_library(tmp_path: Path) -> None:
    told = surroundings.found(tmp_path)
    assert json.loads(json.dumps(told)) == told
    assert told["packages"]["python"].startswith("3.")
    assert told["hardware"]["cores"] >= 1
    program = "from align import surroundings as s; import sys, pathlib;"
    program += "s.found(pathlib.Path('.')); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_base_is_told_by_its_revision_or_by_what_it_holds(tmp_path: Path) -> None:
    cached = tmp_path / "snapshots" / "0a1b2c"
    cached.mkdir(parents=True)
    assert surroundings.base_revision(cached) == "0a1b2c"
    base = tmp_path / "base"
    assert surroundings.base_revision(base) is None
    base.mkdir()
    (base / "config.json").write_text("{}")
    first = surroundings.base_revision(base)
    assert first is not None
    assert first.startswith("outline ")
    (base / "config.json").write_text("[]")
    assert surroundings.base_revision(base) not in (None, first)


def test_what_weights_were_made_from_is_read_from_their_manifest(tmp_path: Path) -> None:
    metadata = {"data_sha256": "da7a", "seed": 3, "base_sha256": "ba5e", "job": {}}
    (tmp_path / "manifest.json").write_text(json.dumps({"metadata": metadata}))
    assert surroundings.made_from(tmp_path) == {
        "data_sha256": "da7a", "seed": 3, "base_revision": "ba5e"
    }  # fmt: skip
    assert surroundings.made_from(tmp_path / "nowhere") == {}
