"""The triggers that keep entries as they were written, in the words of each database."""

from __future__ import annotations

from collections.abc import Sequence

ENTRIES, HEAD = "audit_auditentry", "audit_audithead"
REFUSED = "audit entries are never changed or deleted"

_SQLITE = {
    "audit_no_update": f"BEFORE UPDATE ON {ENTRIES}",
    "audit_no_delete": f"BEFORE DELETE ON {ENTRIES}",
    "audit_head_no_delete": f"BEFORE DELETE ON {HEAD}",
    "audit_head_onwards": f"BEFORE UPDATE ON {HEAD} WHEN NEW.number IS NOT OLD.number + 1",
}
_POSTGRESQL = {
    "audit_no_change": (ENTRIES, "BEFORE UPDATE OR DELETE OR TRUNCATE", "FOR EACH STATEMENT"),
    "audit_head_no_delete": (HEAD, "BEFORE DELETE OR TRUNCATE", "FOR EACH STATEMENT"),
    "audit_head_onwards": (
        HEAD,
        "BEFORE UPDATE",
        "FOR EACH ROW WHEN (NEW.number IS DISTINCT FROM OLD.number + 1)",
    ),
}


def install(vendor: str) -> Sequence[str]:
    """Statements that put them up."""
    if vendor == "sqlite":
        return [
            f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            for name, when in _SQLITE.items()
        ]
    function = (
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$"
    )
    triggers = [
        f"CREATE TRIGGER {name} {when} ON {table} {each} EXECUTE FUNCTION audit_refuse()"
        for name, (table, when, each) in _POSTGRESQL.items()
    ]
    return [function, *triggers]


def remove(vendor: str) -> Sequence[str]:
    if vendor == "sqlite":
        return [f"DROP TRIGGER IF EXISTS {name}" for name in _SQLITE]
    return [
        f"DROP TRIGGER IF EXISTS {name} ON {table}" for name, (table, _, _) in _POSTGRESQL.items()
    ]


def missing(names: set[str], vendor: str) -> list[str]:
    """Those of them that are not among `names`."""
    return sorted({*(_SQLITE if vendor == "sqlite" else _POSTGRESQL)} - names)


def standing(vendor: str) -> str:
    """The question which triggers there are, those that were disabled left out."""
    if vendor == "sqlite":
        return "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    return "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')"
