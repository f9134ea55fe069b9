"""What was done, by whom: rows that are added and never changed, each bound to the one before.

A row names people, projects and things by their ids only and holds no foreign key, so it outlives
what it tells of and keeps no name of anybody whose account is deleted. The database refuses to
change or delete one (triggers, in the first migration); what somebody does who can drop those is
found by `manage.py audit` (`plumbline.audit.checking`).
"""

from __future__ import annotations

import json
from typing import Any

from django.db import models


class AuditEntry(models.Model):
    number = models.BigIntegerField(primary_key=True)  # 1, 2, 3 ... without gaps
    at = models.DateTimeField(db_index=True)  # by the database's clock
    who = models.CharField(max_length=40, db_index=True)  # "user:5", "key:3", "system", "nobody"
    what = models.CharField(max_length=40, db_index=True)
    project = models.BigIntegerField(null=True)
    object = models.CharField(max_length=80)  # "policy:<id>", "" where there is none
    details = models.TextField()  # JSON as it was hashed: no database may write it another way
    key = models.CharField(max_length=8)  # which key sealed it
    previous = models.CharField(max_length=64, unique=True)  # so the chain never forks
    seal = models.CharField(max_length=64, unique=True)

    class Meta:
        indexes = [models.Index(fields=["project", "number"], name="audit_of_project")]

    def __str__(self) -> str:
        return f"{self.number}: {self.who} {self.what} {self.object}".rstrip()

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.details)
        return found


class AuditHead(models.Model):
    """The last entry, in one row, which writers lock: they come one after another, and an entry
    that is missing at the end is missed."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.BigIntegerField()
    seal = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"the last entry is {self.number}"
