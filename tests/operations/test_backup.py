"""A backup that is made while people vote restores into a fresh home and database, or is refused
with the file named that is not what it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections

from align import failpoints
from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.fleet.models import Job
from plumbline.operations import archive, backup
from plumbline.policies import serving
from plumbline.policies.models import Policy
from tests.comparisons import open_campaign

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trained(homes: Path, project: Any, commit_weights: Callable[..., Any]) -> Policy:
    """A policy whose weights lie in the folder of a job that is over, with its checkpoints."""
    base = serving.base_policy(project)
    job = Job.objects.create(
        project=project, kind="train", queue="gpu", title="Train", spec={}, state="succeeded"
    )
    made = commit_weights(12)
    shutil.copytree(made.path, job.folder / "weights")
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "state").write_bytes(b"x" * 1000)
    return Policy.objects.create(
        project=project,
        name="alpha-e1-r1-bbbb",
        weights="lora",
        base_model=base.base_model,
        path=str(job.folder / "weights"),
        sha256=made.sha256,
        parent=base,
        state="promoted",
    )


@pytest.fixture
def voting(shared_db: Any, trained: Policy, project: Any) -> Iterator[Callable[[], list[str]]]:
    """Two people who vote all the time, each in a thread; gives the votes that were acknowledged
    so far."""
    campaign = open_campaign(project, comparisons=400, overlap=2)
    said: list[str] = []
    stop = threading.Event()

    def vote(name: str) -> None:
        person = User.objects.get(username=name)
        while not stop.is_set():
            ballot = queue.claim_next(person, campaign)
            if ballot is None:
                break
            stored = queue.cast(ballot, queue.Verdict("ranked", ranking=[[1], [0]]), uuid.uuid4())
            said.append(str(stored.pk))
        connections.close_all()

    people = []
    for name in ("vera", "wim"):
        user = User.objects.create_user(username=name)
        Membership.objects.create(project=project, user=user, role="annotator")
        people.append(threading.Thread(target=vote, args=(name,)))
        people[-1].start()
    yield lambda: list(said)
    stop.set()
    for one in people:
        one.join()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of another home and an empty database of the same kind."""
    home = tmp_path / "restored"
    url = f"sqlite:///{home / 'db.sqlite3'}"
    name = f"restored_{uuid.uuid4().hex[:8]}"
    if connection.vendor == "postgresql":
        _postgres(f'CREATE DATABASE "{name}"')
        url = f"postgresql://postgres@/{name}"
    home.mkdir()
    yield os.environ | {"PLUMBLINE_HOME": str(home), "DATABASE_URL": url}
    if connection.vendor == "postgresql":
        _postgres(f'DROP DATABASE "{name}" WITH (FORCE)')


def _postgres(command: str) -> None:
    import psycopg

    with psycopg.connect("postgresql://postgres@/postgres", autocommit=True) as plain:
        plain.execute(command)


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


SAID = """
import json
from plumbline.collect.models import Ballot
from plumbline.policies.models import Policy
print(json.dumps({
    "votes": [str(pk) for pk in Ballot.objects.exclude(outcome="").values_list("pk", flat=True)],
    "paths": list(Policy.objects.exclude(path="").values_list("path", flat=True)),
}))
"""


def test_a_backup_made_while_people_vote_restores_every_acknowledged_vote(
    voting, trained, homes, elsewhere, tmp_path
):
    began = time.monotonic()
    while len(voting()) < 10:
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    before = voting()
    (homes / "secret_key").write_text("k" * 60)
    made = backup.make(tmp_path / "backup", with_secret_key=True)
    after = voting()
    assert made.gone == made.elsewhere == []
    assert not list((tmp_path / "backup").rglob("checkpoints"))

    done = manage(elsewhere, "restore", str(tmp_path / "backup"), "--json", "--no-engines")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["verify"]["findings"] == []
    assert told["verify"]["checked"]["weights"] == 2
    assert (told["moved"], told["secret_key"]) == (1, True)
    home = Path(elsewhere["PLUMBLINE_HOME"])
    assert (home / "secret_key").read_text() == "k" * 60
    assert (home / "secret_key").stat().st_mode & 0o777 == 0o600
    there = json.loads(manage(elsewhere, "shell", "-v0", "-c", SAID).stdout.splitlines()[-1])
    assert set(before) <= set(there["votes"])
    assert len(after) > len(before) or len(before) == 800  # they voted on meanwhile
    assert there["paths"] == [trained.path.replace(str(homes), str(home))]

    # What holds something is left alone unless one says so.
    again = manage(elsewhere, "restore", str(tmp_path / "backup"), "--no-engines")
    assert again.returncode == 1
    assert f"{home / 'runs'} is not empty" in again.stderr
    replaced = manage(elsewhere, "restore", str(tmp_path / "backup"), "--no-engines", "--replace")
    assert replaced.returncode == 0, replaced.stdout + replaced.stderr
    assert "What was there before is at" in replaced.stdout
    assert len(list(home.glob("runs.before-*"))) == 1


@pytest.fixture
def made(shared_db: Any, trained: Policy, tmp_path: Path) -> Path:
    backup.make(tmp_path / "backup")
    return tmp_path / "backup"


def edit(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


HARM: dict[str, tuple[Callable[[Path], Any], str]] = {
    "edited": (edit, "was altered after the backup was made"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "was cut off"),
    "missing": (lambda path: path.unlink(), "is missing from the backup"),
}


def test_a_backup_that_is_not_what_it_was_is_refused_by_name(made):
    files = [path for path in made.rglob("*") if path.is_file() and path != made / "manifest.json"]
    assert len(files) >= 4  # the database, and the weights with their manifest
    archive.read(made)
    for path in files:
        whole = path.read_bytes()
        for harm, sentence in HARM.values():
            harm(path)
            with pytest.raises(archive.Refused, match=sentence) as refused:
                archive.read(made)
            assert str(path) in str(refused.value)
            path.write_bytes(whole)
    archive.read(made)


def test_a_manifest_that_is_not_what_it_was_is_refused(made):
    path = made / "manifest.json"
    whole = path.read_bytes()
    for body in (whole[:-20], whole.replace(b'"schema": 1', b'"schema": 2'), b"[]"):
        path.write_bytes(body)
        with pytest.raises(archive.Refused, match=str(path)):
            archive.read(made)
    path.unlink()
    with pytest.raises(archive.Refused, match="is no backup"):
        archive.read(made)


def test_a_file_that_came_later_is_refused(made):
    (made / "files" / "more").write_text("")
    with pytest.raises(archive.Refused, match="does not list it"):
        archive.read(made)


def test_a_backup_never_replaces_one_and_says_that_the_key_is_not_in_it(made, capsys, tmp_path):
    with pytest.raises(CommandError, match="is there already"):
        call_command("backup", str(made))
    call_command("backup", str(tmp_path / "second"))
    assert "The secret key is not in it" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no file with the secret key"):
        call_command("backup", str(tmp_path / "third"), "--with-secret-key")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("place", ["backup.file", "backup.after_dump", "backup.before_rename"])
def test_a_disk_that_is_full_is_said_and_leaves_nothing(
    shared_db, trained, tmp_path, monkeypatch, place
):
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / place).write_text("full")
    monkeypatch.setattr(failpoints, "FOLDER", str(orders))
    with pytest.raises(archive.Refused, match=r"disk at .* is full"):
        backup.make(tmp_path / "kept" / "backup")
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("place", ["restore.before_files", "restore.before_database"])
def test_a_disk_that_is_full_while_it_restores_is_said_and_the_next_one_ends_well(
    made, elsewhere, tmp_path, place
):
    (tmp_path / place).write_text("full")
    full = elsewhere | {"PLUMBLINE_FAILPOINTS": str(tmp_path)}
    done = manage(full, "restore", str(made), "--no-engines")
    assert done.returncode == 1
    assert "is full; make room: the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    again = manage(elsewhere, "restore", str(made), "--no-engines", "--replace")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_disk_that_a_copy_of_many_files_fills_is_a_full_disk(tmp_path):
    """`shutil.copytree` gathers what went wrong and numbers nothing."""
    words = str(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights"))
    refused = pytest.raises(archive.Refused, match="is full; go on")
    with refused, archive.full_disk_refused(tmp_path, "go on."):
        raise shutil.Error([("weights", "there", words)])


def test_what_does_not_fit_is_refused_before_it_begins(shared_db, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(
        archive.shutil, "disk_usage", lambda folder: type("U", (), {"free": 1 << 20})()
    )
    with pytest.raises(archive.Refused, match="MiB do not fit"):
        backup.make(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_other_failures_of_the_disk_keep_their_name(tmp_path):
    with pytest.raises(OSError, match="Input/output"), archive.writing(tmp_path / "backup"):
        raise OSError(errno.EIO, "Input/output error")
    assert list(tmp_path.iterdir()) == []
