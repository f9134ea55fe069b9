"""The chain of entries: the database refuses to change it, and what was changed nonetheless is
named."""

from __future__ import annotations

import json
from io import StringIO
from threading import Barrier, Thread

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import F

from plumbline.accounts.models import User
from plumbline.audit import checking, guards, seals
from plumbline.audit.models import AuditEntry, AuditHead
from plumbline.audit.record import acting, record


@pytest.fixture
def alice(db):
    """In no project: that would have its entry too."""
    return User.objects.create_user("alice")


@pytest.fixture
def entries(project, alice):
    """Five of them, of a person and of the system."""
    with acting(f"user:{alice.pk}"):
        made = [record("thing.made", alice, project=project, place=k) for k in range(4)]
    return [*made, record("thing.ended", project=project)]


@pytest.fixture
def unguarded(db):
    """A database whose triggers somebody has dropped."""
    with connection.cursor() as cursor:
        for statement in guards.remove(connection.vendor):
            cursor.execute(statement)
    yield
    with connection.cursor() as cursor:
        for statement in guards.install(connection.vendor):
            cursor.execute(statement)


def faults() -> list[str]:
    return [str(fault) for fault in checking.faults()]


def about_entries() -> list[str]:
    return [str(fault) for fault in checking.faults() if "trigger" not in str(fault)]


def test_an_entry_tells_who_did_what_to_what(entries, project, alice):
    first, last = AuditEntry.objects.get(number=1), AuditEntry.objects.get(number=5)
    assert (first.who, first.what, first.object) == (
        f"user:{alice.pk}",
        "thing.made",
        f"user:{alice.pk}",
    )
    assert (first.project, first.told) == (project.pk, {"place": 0})
    assert (last.who, last.object, last.told) == ("system", "", {})
    assert faults() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda: AuditEntry.objects.filter(number=2).update(who="nobody"),
        lambda: AuditEntry.objects.filter(number=2).delete(),
        lambda: AuditEntry.objects.all().delete(),
        lambda: AuditHead.objects.update(number=1),
        lambda: AuditHead.objects.update(number=F("number") + 2),
        lambda: AuditHead.objects.all().delete(),
    ],
)
def test_the_database_refuses_to_change_or_delete_an_entry(entries, change):
    with pytest.raises(DatabaseError, match=guards.REFUSED), transaction.atomic():
        change()
    assert AuditEntry.objects.count() == 5
    assert faults() == []


@pytest.mark.postgres
def test_postgresql_refuses_to_empty_the_table(entries):
    with (
        pytest.raises(DatabaseError, match=guards.REFUSED),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("TRUNCATE audit_auditentry")
    assert faults() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("who", "user:999"),
        ("what", "thing.kept"),
        ("project", None),
        ("object", "user:999"),
        ("details", '{"place": 7}'),
        ("seal", "f" * 64),
    ],
)
def test_a_changed_entry_is_named(entries, unguarded, field, value):
    AuditEntry.objects.filter(number=3).update(**{field: value})
    assert about_entries()[0].startswith("entry 3 is not what was sealed")


def test_a_changed_time_is_named(entries, unguarded):
    AuditEntry.objects.filter(number=3).update(at=AuditEntry.objects.get(number=1).at)
    at = AuditEntry.objects.get(number=3).at
    named = about_entries()
    assert named or at == entries[2].at  # the same millisecond is the same entry


def test_who_seals_a_changed_entry_without_the_key_is_named(entries, unguarded):
    changed = AuditEntry.objects.get(number=3)
    changed.who = "user:999"
    changed.seal = seals.seal(changed, b"another key")
    changed.save()
    AuditEntry.objects.filter(number=4).update(previous=changed.seal)
    assert about_entries()[0].startswith("entry 3 is not what was sealed")


def test_missing_entries_are_named(entries, unguarded):
    AuditEntry.objects.filter(number__in=(2, 3)).delete()
    assert about_entries() == ["entries 2 to 3 are missing"]


def test_missing_entries_at_the_end_are_named(entries, unguarded):
    AuditEntry.objects.filter(number=5).delete()
    assert about_entries() == ["entry 5 is missing at the end"]


def test_two_entries_that_changed_places_are_named(entries, unguarded):
    second, third = entries[1:3]
    AuditEntry.objects.filter(number__in=(2, 3)).delete()
    second.number, third.number = 3, 2
    for entry in (second, third):
        entry.save(force_insert=True)
    assert about_entries()[0] == "entry 2 does not follow from the one before it"


def test_dropped_triggers_are_named(entries, unguarded):
    assert len(faults()) == len(guards.missing(set(), connection.vendor)) >= 3
    assert all("is gone" in fault for fault in faults())


def test_entries_of_a_key_that_is_not_here_are_named(entries, settings):
    settings.AUDIT_KEY = "the second key"
    record("thing.made")
    assert faults() == [], "SECRET_KEY, by which the first were sealed, is still here"
    settings.AUDIT_KEY, settings.AUDIT_KEYS_BEFORE = "the third key", ["the second key"]
    record("thing.made")
    assert faults() == []
    settings.AUDIT_KEYS_BEFORE = []
    assert len(faults()) == 1
    assert faults()[0].startswith("entry 6 was sealed with the key ")


def test_what_did_not_happen_leaves_no_entry(entries):
    with transaction.atomic():
        record("thing.made")
        transaction.set_rollback(True)
    assert AuditEntry.objects.count() == 5
    assert faults() == []


def test_writing_goes_on_after_a_lost_head(entries, unguarded):
    AuditHead.objects.all().delete()
    assert record("thing.made").number == 6
    assert about_entries() == []


@pytest.mark.django_db(transaction=True)
def test_eight_writers_at_once_leave_one_chain():
    ready = Barrier(8)

    def write(writer: int) -> None:
        ready.wait()
        for k in range(12):
            with transaction.atomic():
                record("thing.made", writer=writer, place=k)
        connection.close()

    writers = [Thread(target=write, args=(k,)) for k in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    told = [(entry.told["writer"], entry.told["place"]) for entry in AuditEntry.objects.all()]
    assert sorted(told) == [(writer, k) for writer in range(8) for k in range(12)]
    assert faults() == []


def run(*options: str) -> tuple[str, str]:
    out, told = StringIO(), StringIO()
    call_command("audit", *options, stdout=out, stderr=told)
    return out.getvalue(), told.getvalue()


def test_the_command_says_that_all_is_whole(entries):
    assert run() == ("", "The audit is whole: 5 entries.\n")


def test_the_command_fails_and_names_the_first_broken_entry(entries, unguarded):
    AuditEntry.objects.filter(number=2).update(what="thing.kept")
    told = StringIO()
    with pytest.raises(CommandError, match="not what was written"):
        call_command("audit", stderr=told)
    assert told.getvalue().startswith("entry 2 is not what was sealed")


def test_the_command_shows_entries_of_a_time(entries):
    lines = run("--since", "1h", "--json")[0].splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert run("--since", "2999-01-01")[0] == ""
    assert "system thing.ended" in run("--print")[0]
    with pytest.raises(CommandError, match="is no time"):
        run("--since", "yesterday")


def test_a_copy_grows_by_what_is_new(entries, tmp_path):
    kept = tmp_path / "audit.jsonl"
    run("--copy", str(kept))
    assert len(kept.read_text().splitlines()) == 5
    record("thing.made")
    assert "1 entries added" in run("--copy", str(kept))[1]
    assert "0 entries added" in run("--copy", str(kept))[1]
    assert [json.loads(line)["number"] for line in kept.read_text().splitlines()] == [*range(1, 7)]


def test_a_copy_that_a_crash_cut_short_is_made_whole(entries, tmp_path):
    kept = tmp_path / "audit.jsonl"
    run("--copy", str(kept))
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-40])
    run("--copy", str(kept))
    assert kept.read_bytes() == whole


def test_a_table_that_was_written_anew_is_found_by_the_copy(entries, unguarded, tmp_path):
    """By somebody who has the key too: the chain is whole, and tells another story."""
    kept = tmp_path / "audit.jsonl"
    checking.copy(kept)
    before = kept.read_bytes()
    AuditEntry.objects.all().delete()
    AuditHead.objects.all().delete()
    for _ in range(5):
        record("thing.made")
    assert about_entries() == []
    with pytest.raises(checking.CopyDiffers, match="entry 1 in the database is not the one"):
        checking.copy(kept)
    assert kept.read_bytes() == before


def test_entries_taken_from_the_end_are_found_by_the_copy(entries, unguarded, tmp_path):
    kept = tmp_path / "audit.jsonl"
    checking.copy(kept)
    AuditEntry.objects.filter(number__gt=3).delete()
    AuditHead.objects.update(number=3, seal=entries[2].seal)
    assert about_entries() == []
    with pytest.raises(checking.CopyDiffers, match="entry 4 is in the copy and not"):
        checking.copy(kept)


def test_a_copy_is_never_written_through_a_link(entries, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        checking.copy(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()
