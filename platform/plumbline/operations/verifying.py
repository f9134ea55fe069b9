"""Runs the checks of `checks/`, all or some, and keeps what they found in a row."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.utils import timezone

from plumbline.operations import checks
from plumbline.operations.check import MOST, Finding
from plumbline.operations.models import Verification

KEPT = 200  # verifications


@dataclass
class Report:
    """What was looked at and what was found; `titles` by check, in the order they ran."""

    quick: bool
    titles: dict[str, str] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, check: str) -> list[Finding]:
        return [one for one in self.findings if one.check == check]

    def json(self) -> dict[str, Any]:
        return {
            "ok": not self.findings,
            "quick": self.quick,
            "seconds": round(self.seconds, 3),
            "checked": self.checked,
            "findings": [one.json() for one in self.findings],
        }


def verify(
    *,
    quick: bool = False,
    only: Collection[str] = (),
    but: Collection[str] = (),
    engines: bool = True,
) -> Report:
    """Look at everything, or at what `only` names, less what `but` names. Raises ValueError for a
    check there is not."""
    every = checks.discover()
    if unknown := sorted(set(only) - every.keys()):
        raise ValueError(f"There is no check {unknown[0]!r}; there are {', '.join(every)}.")
    report, started_at, began = Report(quick), timezone.now(), time.monotonic()
    for name, kind in every.items():
        if (only and name not in only) or name in but or (kind.needs_engines and not engines):
            continue
        check = kind(quick=quick)
        look = check.look()
        told = list(islice(look, MOST))
        if more := sum(1 for _ in look):
            told.append(check.found(name, f"{more} more of the same kind were found."))
        report.titles[name], report.checked[name] = kind.title, check.seen
        report.findings += told
    report.seconds = time.monotonic() - began
    _keep(report, started_at)
    return report


def _keep(report: Report, started_at: Any) -> None:
    Verification.objects.create(
        started_at=started_at,
        seconds=report.seconds,
        quick=report.quick,
        checked=report.checked,
        findings=[one.json() for one in report.findings],
    )
    old = list(Verification.objects.values_list("pk", flat=True)[KEPT:])
    Verification.objects.filter(pk__in=old).delete()
