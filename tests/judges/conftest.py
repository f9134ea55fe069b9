"""Judges of a project that ask a scripted endpoint, and a way to run their jobs here and now."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plumbline.accounts.models import Project
from plumbline.fleet import claims
from plumbline.fleet.models import Job
from plumbline.fleet.supervise import supervise
from plumbline.judges import endpoints, judges, watch
from plumbline.judges.models import Endpoint, JudgeVersion
from tests.scripted import Scripted, shown

KEY = "sk-very-secret-0123456789"


def by_number(body: dict[str, Any]) -> str:
    """Prefers the answer with the larger last digit."""
    (one, first), (two, second) = shown(body)
    return f"Counted. [[{one}>>{two}]]" if first[-1] > second[-1] else f"Counted. [[{two}>>{one}]]"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Scripted]:
    with Scripted(by_number) as running:
        settings.PRIVATE_ENDPOINTS = running.place
        monkeypatch.setenv("PLUMBLINE_ENDPOINT_TEST", KEY)
        yield running


@pytest.fixture
def endpoint(project: Project, stub: Scripted, settings: Any, tmp_path: Path) -> Endpoint:
    settings.RUNS_DIR = tmp_path / "runs"
    return endpoints.add(
        project, "Stub", stub.url, "judge", key_variable="PLUMBLINE_ENDPOINT_TEST", price_in=100
    )


@pytest.fixture
def version(project: Project, endpoint: Endpoint) -> JudgeVersion:
    """A pairwise judge that is read by its marker."""
    return judges.make(project, "Judy", "pairwise", {"verdict": "marker"}, endpoint=endpoint)


@pytest.fixture
def work() -> Callable[[], list[Job]]:
    """Do every queued job, as a worker and the loop would."""

    def run() -> list[Job]:
        done = []
        for queue in ("cpu", "gpu"):
            while job := claims.claim(queue, "here"):
                supervise(job, lambda: False)
                job.refresh_from_db()
                done.append(job)
        watch.settle()
        return done

    return run


@pytest.fixture
def bubble():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt: bubblewrap)")
