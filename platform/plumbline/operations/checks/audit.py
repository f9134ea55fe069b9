"""The audit's chain: every entry is the one that was written, and none is missing."""

from __future__ import annotations

from collections.abc import Iterator

from plumbline.audit import checking
from plumbline.audit.models import AuditEntry
from plumbline.operations.check import Check, Finding


class AuditCheck(Check):
    title = "The audit is whole."

    def look(self) -> Iterator[Finding]:
        self.seen = AuditEntry.objects.count()
        for fault in checking.faults():
            about = "audit" if fault.number is None else f"entry {fault.number}"
            said = fault.sentence.rstrip(".")
            yield self.found(
                about,
                f"{said[:1].upper()}{said[1:]}.",
                "`manage.py audit` says more; compare with the copy that is kept elsewhere.",
            )
