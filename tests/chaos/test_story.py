"""The platform at work under fire, for some minutes: what it acknowledged is there, once."""

from __future__ import annotations

import json

import pytest

from tests.chaos import story

FAULTS, KINDS = 60, 15


@pytest.mark.sqlite  # it brings its own PostgreSQL; once is enough
@pytest.mark.timeout(900)
def test_under_fire_nothing_acknowledged_is_lost_doubled_or_mixed(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    outcome = story.tell(story.Plan(seed=20261123), tmp_path)
    print(json.dumps(outcome.line))
    assert outcome.verdict.kept, outcome.verdict.words()
    assert outcome.line["faults"] >= FAULTS, outcome.line
    assert outcome.line["kinds"] >= KINDS, outcome.line
