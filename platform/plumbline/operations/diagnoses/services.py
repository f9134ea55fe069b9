"""Database, Redis, loop and workers, asked now."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from align import jobs
from plumbline.fleet import presence
from plumbline.operations import farewells, signs
from plumbline.operations.diagnosis import Diagnosis, look, ok, wrong

PATIENCE = 3.0  # seconds for Redis
APART = 2.0  # seconds between this host's clock and the database's


def database() -> Diagnosis:
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA journal_mode")
                return _sqlite(str(cursor.fetchone()[0]).lower())
            cursor.execute("SHOW server_version")
            return ok(f"PostgreSQL {cursor.fetchone()[0]} answers.")
    except DatabaseError as error:
        return wrong(
            f"The database does not answer: {_line(error)}",
            "Start it, or correct DATABASE_URL. Votes wait in people's browsers meanwhile.",
        )


def _sqlite(journal: str) -> Diagnosis:
    said = f"SQLite {sqlite3.sqlite_version} with journal {journal.upper()} answers."
    if journal == "wal" and sqlite3.sqlite_version_info < (3, 51, 3):
        return wrong(
            f"{said} This version can corrupt a database in WAL mode.",
            "Stop everything, then: sqlite3 FILE 'PRAGMA journal_mode=DELETE'",
        )
    return ok(said)


def migrations() -> Diagnosis:
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        unknown = executor.loader.applied_migrations.keys() - executor.loader.graph.nodes.keys()
    except DatabaseError as error:
        return _unknown(error)
    if plan:
        names = ", ".join(f"{one.app_label} {one.name}" for one, _ in plan[:5])
        return wrong(
            f"{len(plan)} migration{'s are' if len(plan) > 1 else ' is'} not applied: {names}.",
            "manage.py migrate",
        )
    ours = sorted(f"{app} {name}" for app, name in unknown if _ours(app))
    if ours:
        return look(
            f"The database is of a newer release: {', '.join(ours[:5])}.",
            "This code still works with it; go on to the newer release when you can.",
        )
    return ok("All migrations are applied.")


def _ours(app: str) -> bool:
    return any(name.rpartition(".")[2] == app for name in settings.INSTALLED_APPS)


def clock() -> Diagnosis:
    """Leases go by the database's clock alone; links, keys and pages by this host's."""
    began = time.time()
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                return ok("The database runs on this host's clock.")
            cursor.execute("SELECT clock_timestamp()")
            there: datetime = cursor.fetchone()[0]
    except DatabaseError as error:
        return _unknown(error)
    here = datetime.fromtimestamp((began + time.time()) / 2, UTC)
    apart = abs((there - here).total_seconds())
    if apart > APART:
        return look(
            f"This host's clock and the database's are {apart:.0f} s apart.",
            "Run NTP on both hosts (timedatectl set-ntp true).",
        )
    return ok(f"This host's clock and the database's are {1000 * apart:.0f} ms apart.")


def redis() -> Diagnosis:
    url = settings.REDIS_URL.replace("redis+socket://", "unix://")
    client: Any = Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
    try:
        client.ping()
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "")
    except (RedisError, OSError) as error:
        return wrong(
            f"Redis does not answer: {_line(error)} Nothing is lost: workers find their jobs "
            "within seconds by themselves, and the gateway goes without its keys' limits.",
            "Start it, or correct REDIS_URL.",
        )
    finally:
        client.close()
    if policy != "noeviction":
        return wrong(
            f"Redis forgets keys when its memory is full (maxmemory-policy {policy}): limits of "
            "API keys would begin anew.",
            "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in its configuration.",
        )
    return ok("Redis answers and forgets nothing (noeviction).")


def loop() -> Diagnosis:
    try:
        found = signs.loops()
    except DatabaseError as error:
        return _unknown(error)
    if not found:
        return wrong("No loop runs: no round goes on.", "Start it: manage.py runloop")
    since = (timezone.now() - found[0].seen_at).total_seconds()
    return ok(f"{found[0].name} was seen {since:.0f} s ago.")


def workers() -> Diagnosis:
    try:
        now, seen = timezone.now(), presence.workers()
        waiting = [one for one in presence.queues(seen, now) if one.due and not one.workers]
    except DatabaseError as error:
        return _unknown(error)
    alive = [one for one in seen if presence.alive(one, now)]
    if waiting:
        names = " and ".join(one.name for one in waiting)
        return wrong(
            f"Jobs wait in {names}, and no worker takes them.",
            " ; ".join(f"manage.py worker {one.name}" for one in waiting),
        )
    taken = {name for one in alive for name in one.queues}
    if missing := sorted(set(jobs.QUEUES.values()) - taken):
        return look(
            f"No worker takes from {' and '.join(missing)}.",
            " ; ".join(f"manage.py worker {name}" for name in missing),
        )
    silent = len(seen) - len(alive)
    gone = f"; {silent} fell silent within the hour" if silent else ""
    return ok(f"{len(alive)} worker{'s' * (len(alive) > 1)} at work or ready{gone}.")


def wishes() -> Diagnosis:
    """Whether people who ask to be forgotten wait too long."""
    try:
        waiting = list(farewells.open_wishes())
    except DatabaseError as error:
        return _unknown(error)
    if not waiting:
        return ok("Nobody waits to be forgotten.")
    due = min(one.due for one in waiting)
    many = len(waiting) != 1
    said = f"{len(waiting)} {'people wait' if many else 'person waits'} to be forgotten, "
    remedy = "Members, To be forgotten; or manage.py forget, which lists them."
    if due < timezone.now():
        return wrong(f"{said}since before {due:%d %b %Y}, when it was due.", remedy)
    return look(f"{said}{'the first ' if many else ''}by {due:%d %b %Y} at the latest.", remedy)


def _unknown(error: Exception) -> Diagnosis:
    return wrong(
        f"The database cannot say: {_line(error)}",
        "See what stands by `database` and `migrations`.",
    )


def _line(error: Exception) -> str:
    """The first line of what it says, as a sentence."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0].rstrip(".") + "."
