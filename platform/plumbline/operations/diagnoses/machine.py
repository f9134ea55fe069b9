"""The machine itself: Python, folders, space, the key, the sandbox of reward programs, GPUs."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import stat
import sys
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.db import connection

from align import walls
from plumbline.fleet import devices, host
from plumbline.operations.diagnosis import Diagnosis, look, ok, wrong

LEAST, FEW = 1 << 30, 5 << 30  # bytes free: below, nothing can be saved safely; below, soon


def python() -> Diagnosis:
    said = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sys.version_info[:2] != (3, 11):
        return wrong(f"{said}: Plumbline is tested on Python 3.11 alone.", "Use Python 3.11.")
    return ok(f"{said}.")


def home() -> Diagnosis:
    folder = Path(settings.HOME)
    if not folder.is_dir():
        return wrong(f"PLUMBLINE_HOME, {folder}, is not there.", f"mkdir -m 700 {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return wrong(
            f"PLUMBLINE_HOME, {folder}, cannot be written by this account.",
            f"Give it to the account that runs Plumbline: chown -R USER {folder}",
        )
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return look(
            f"PLUMBLINE_HOME, {folder}, can be entered by other accounts (mode {mode:o}).",
            f"chmod 700 {folder}",
        )
    return ok(f"PLUMBLINE_HOME is {folder}, this account's own.")


def disk() -> Diagnosis:
    folder = Path(settings.HOME)
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    said = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB are free at {folder}"
    remedy = "`manage.py retain` says what may go; or move PLUMBLINE_HOME to a larger disk."
    if usage.free < LEAST:
        return wrong(f"Only {said}: jobs will fail when they save.", remedy)
    if usage.free < FEW:
        return look(f"Only {said}.", remedy)
    return ok(f"{said}.")


def secret_key() -> Diagnosis:
    path = Path(settings.HOME) / "secret_key"
    if not path.exists():
        return ok("SECRET_KEY comes from the environment.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return wrong(
            f"Other accounts can read the secret key, {path} (mode {mode:o}): with it they can "
            "sign in as anybody.",
            f"chmod 600 {path}; if somebody may have read it, delete it: all are signed out, and "
            "all API keys must be made anew.",
        )
    return ok(f"The secret key, {path}, is readable by this account alone.")


def production() -> Diagnosis:
    if not settings.PRODUCTION:
        return ok(
            "Embedded mode: for one machine and people who trust each other. Before others can "
            "reach it, set PLUMBLINE_PRODUCTION=1."
        )
    found = [one for one in checks.run_checks(include_deployment_checks=True) if one.level >= 30]
    if connection.vendor == "sqlite":
        return wrong(
            "Production runs on SQLite, which several hosts cannot share.",
            "Set DATABASE_URL to a PostgreSQL.",
        )
    if found:
        names = "; ".join(f"{one.id}: {one.msg.splitlines()[0]}" for one in found)
        return wrong(f"Settings of production: {names}", "manage.py check --deploy says more.")
    return ok("Production settings pass all of Django's deployment checks.")


def sandbox() -> Diagnosis:
    """Where reward programs run; a host without CPU workers needs none."""
    try:
        with walls.standing() as found:
            if found.warning:
                return look(f"{found.warning}.", "Install bubblewrap and unset PLUMBLINE_SANDBOX.")
    except ValueError as error:
        return look(
            f"Reward programs cannot run on this host: {error}.",
            "Needed where `manage.py worker cpu` runs; other hosts do without.",
        )
    return ok("bubblewrap walls reward programs in.")


def gpus() -> Diagnosis:
    found = host.gpus()
    if (said := devices.none_left()) is not None:
        return wrong(said, "Then start the GPU workers again.")
    if not found:
        return ok("No NVIDIA GPU here: jobs train on the CPU.")
    names = ", ".join(sorted({str(one["name"]) for one in found}))
    free = len(devices.found())
    return ok(f"{len(found)} GPU{'s' * (len(found) > 1)} ({names}), {free} for jobs.")
