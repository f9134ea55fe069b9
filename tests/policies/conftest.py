"""Policies on disk, of the project every test has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def make_policy(project: Any, commit_weights: Callable[..., Any]) -> Callable[..., Any]:
    """`make_policy(name, seed, mode="lora", scale=0.05)`: a row and its committed folder."""
    from plumbline.policies.models import Policy
    from plumbline.policies.serving import base_policy

    def make(name: str, seed: int, mode: str = "lora", scale: float = 0.05) -> Policy:
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
