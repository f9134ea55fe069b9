"""The long part of an import, in a process of its own: killed, raced and overwhelmed."""

from __future__ import annotations

import gzip
import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from plumbline.collect.models import Ballot, Prompt
from plumbline.transfer import bringing, uploads
from plumbline.transfer.models import Import, Upload
from plumbline.transfer.porter import Porter
from tests.comparisons import shared_db  # noqa: F401  # a fixture

LINE = json.dumps({"prompt": "Why {}?", "chosen": "So.", "rejected": "No."})


@pytest.fixture(autouse=True)
def uploads_dir(settings, tmp_path):
    settings.UPLOADS_DIR = tmp_path / "uploads"


def received(project, alice, data: bytes, **said) -> Upload:
    values = {"set_name": "set", "heldout": 0.0, **said}
    return uploads.receive(project, alice, "x.jsonl", [data], **values)


def rows(count: int) -> bytes:
    return "".join(LINE.replace("{}", str(n)) + "\n" for n in range(count)).encode()


def worked(upload: Upload) -> Upload:
    bringing.work(upload)
    upload.refresh_from_db()
    return upload


def test_a_bomb_is_stopped_and_nothing_of_it_is_imported(project, alice, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_UNPACKED", 1 << 20)
    bomb = gzip.compress(rows(10) + b" " * (50 << 20) + rows(10))
    upload = worked(received(project, alice, bomb, format="trl_preference"))
    assert not upload.report["whole"]
    assert upload.report["findings"][-1][2] == "the file unpacks to more than 1 MiB"
    assert upload.state == "checked"
    uploads.bring_in(upload, leave_out=True)
    assert worked(upload).state == "failed"
    assert not Prompt.objects.exists()


def test_blank_lines_without_end_are_stopped(project, alice, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST_UNPACKED", 1 << 20)
    bomb = gzip.compress(b"\n" * (5 << 20))
    assert not worked(received(project, alice, bomb, format="hh_rlhf")).report["whole"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"prompt": "a\\u0000", "chosen": "b", "rejected": "c"}', "it holds a NUL character"),
        (b'{"prompt": "\xff"}', "byte 13 of the line is not UTF-8"),
        (b'{"prompt": ' + b"[" * 200_000, "not usable: nested too deeply"),
        (b'{"prompt": ' + b"9" * 10_000 + b"}", "not JSON: Exceeds the limit"),
        (b'{"prompt": "' + b"a" * (5 << 20) + b'"}', "the line is longer than 4 MiB"),
        (b'{"prompt": "\\ud800", "chosen": "b", "rejected": "c"}', "half of a surrogate pair"),
    ],
)
def test_what_no_database_holds_is_named_and_can_be_left_out(project, alice, line, sentence):
    data = rows(2) + line + b"\n" + rows(3)[len(rows(2)) :]
    upload = worked(received(project, alice, data, format="trl_preference"))
    [[number, _, said]] = upload.report["findings"]
    assert number == 3
    assert sentence in said
    uploads.bring_in(upload, leave_out=True)
    assert worked(upload).state == "done"
    assert (Ballot.objects.count(), upload.made.left_out) == (3, 1)


def test_a_byte_order_mark_is_no_error(project, alice):
    upload = worked(received(project, alice, b"\xef\xbb\xbf" + rows(2)))
    assert (upload.format, upload.report["bad"]) == ("trl_preference", 0)


def test_a_step_meanwhile_makes_the_work_count_for_nothing(project, alice, monkeypatch):
    upload = received(project, alice, rows(3))
    stale = Upload.objects.get(pk=upload.pk)
    assert uploads.check(upload, format="hh_rlhf")
    bringing.work(stale)
    upload.refresh_from_db()
    assert (upload.state, upload.format) == ("checking", "hh_rlhf")
    # Dropped while it is written: the rows go with the transaction.
    uploads.check(upload, format="trl_preference")
    uploads.bring_in(worked(upload))
    stale = Upload.objects.get(pk=upload.pk)
    Upload.objects.all().delete()
    bringing.work(stale)
    assert not Import.objects.exists()
    assert not Prompt.objects.exists()


def test_only_one_process_works_on_a_file(project, alice):
    upload = received(project, alice, rows(3))
    with bringing._alone(upload) as first, bringing._alone(upload) as second:
        assert first
        assert not second
        assert worked(upload).state == "checking"
    assert worked(upload).state == "checked"


def test_what_dies_three_times_is_given_up(project, alice, monkeypatch):
    upload = received(project, alice, rows(3))
    monkeypatch.setattr(bringing, "read", lambda *_, **__: 1 / 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            worked(upload)
        upload.refresh_from_db()
    assert worked(upload).state == "failed"
    assert "never came to an end" in upload.error


def test_files_nobody_comes_back_for_go_after_a_week(project, alice):
    old, new = (worked(received(project, alice, rows(n))) for n in (1, 2))
    Upload.objects.filter(pk=old.pk).update(changed_at=timezone.now() - timedelta(days=8))
    Porter().look()
    assert [one.pk for one in Upload.objects.all()] == [new.pk]
    assert not old.path.exists()


@pytest.mark.django_db(transaction=True)
def test_a_loop_that_was_killed_leaves_nothing_and_its_successor_ends_the_work(
    shared_db: Path | None,  # noqa: F811
    project,
    alice,
    settings,
    monkeypatch,
    tmp_path,
):
    url = f"sqlite:///{shared_db}"
    if shared_db is None:
        url = f"postgresql://postgres@/{connection.settings_dict['NAME']}"
    home = tmp_path / "home"
    settings.HOME, settings.UPLOADS_DIR = home, home / "uploads"
    monkeypatch.setenv("DATABASE_URL", url)
    upload = received(project, alice, rows(1500))
    first = Porter()
    _until(first, upload, "checked")
    uploads.bring_in(upload)
    deadline = time.monotonic() + 60
    while bringing.progress(upload).get("unit") != "rows written":
        assert time.monotonic() < deadline
        first.look()
        time.sleep(0.02)
    first.stop()
    assert not Prompt.objects.exists()
    _until(Porter(), upload, "done")
    assert Ballot.objects.count() == 1500
    while list(upload.path.parent.iterdir()):  # the process tidies up after its transaction
        assert time.monotonic() < deadline + 60
        time.sleep(0.05)


def _until(porter: Porter, upload: Upload, state: str) -> None:
    deadline = time.monotonic() + 90
    while upload.state != state:
        assert time.monotonic() < deadline, upload.state
        porter.look()
        time.sleep(0.1)
        upload.refresh_from_db()
