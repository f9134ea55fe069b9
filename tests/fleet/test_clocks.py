"""A process whose clock is two hours off takes no job early, loses none and changes no order:
leases are set and compared by the database's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from plumbline.fleet import claims
from plumbline.fleet.models import Job


@pytest.mark.parametrize("hours", [2, -2])
def test_leases_go_by_the_clock_of_the_database(fleet, monkeypatch, hours) -> None:
    first, second = fleet.submit(), fleet.submit()
    true = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: true() + timedelta(hours=hours))
    held = claims.claim("cpu", "of another time")
    assert held == first
    assert timedelta(0) < held.lease_until - true() < timedelta(minutes=1)
    assert claims.sweep() == 0, "nobody's lease is over"
    assert claims.heartbeat(held, {})
    monkeypatch.undo()
    assert claims.sweep() == 0, "nor for anybody else"
    assert claims.claim("cpu", "on time") == second
    Job.objects.filter(pk=held.pk).update(lease_until=F("created_at"))
    monkeypatch.setattr(timezone, "now", lambda: true() + timedelta(hours=hours))
    assert claims.sweep() == 1, "and a lease that is over is over for all"
    assert not claims.heartbeat(held, {})
