"""Everything that a deployment knows, so that two moments can be compared: all rows, all runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import connection

State = Mapping[str, list[str]]


def state() -> State:
    """Rows by table, and the run directories that are complete."""
    found = {table: _rows(table) for table in _tables()}
    runs = Path(settings.RUNS_DIR)
    names = sorted(path.name for path in runs.iterdir()) if runs.is_dir() else []
    return {**found, "runs": [name for name in names if not name.startswith(".")]}


def changes(before: State, after: State) -> list[str]:
    """What one state has and the other has not, in words."""
    said = []
    for table in before:
        gone, come = set(before[table]) - set(after[table]), set(after[table]) - set(before[table])
        said += [f"{table}: gone {row}" for row in sorted(gone)]
        said += [f"{table}: come {row}" for row in sorted(come)]
        if not gone and not come and len(before[table]) != len(after[table]):
            said.append(f"{table}: {len(before[table])} rows, then {len(after[table])}")
    return said


def _tables() -> list[str]:
    models = apps.get_models(include_auto_created=True)
    return sorted({model._meta.db_table for model in models if model._meta.managed})


def _rows(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT * FROM "{table}"')
        return sorted(map(repr, cursor.fetchall()))
