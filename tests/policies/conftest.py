"""A project, its policies on disk, and settings that point at the engine of the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plumbline.accounts.models import Project
from plumbline.policies.models import Policy


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.create(name="Tides", slug="tides")


@pytest.fixture
def make_policy(project: Project, commit_weights: Callable[..., Any]) -> Callable[..., Policy]:
    def make(name: str, seed: int, mode: str = "lora", scale: float = 0.05) -> Policy:
        from plumbline.policies.serving import base_policy

        folder = commit_weights(seed, mode, scale)
        base = base_policy(project)
        return Policy.objects.create(
            project=project,
            name=name,
            weights=mode,
            base_model=base.base_model,
            path=str(folder.path),
            sha256=folder.sha256,
            parent=base,
        )

    return make
