"""Whoever promotes or unloads may be killed at any step: one consistent version is served after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Policy
from tests.gateway.test_client import database_url

pytestmark = pytest.mark.postgres

# Promotes a policy, or unloads what nobody needs, and is killed by the kernel at the step named.
CHILD = """
import os, signal, sys
import django
django.setup()
from plumbline.policies import serving
from plumbline.policies.models import Flip, Policy

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(where, what):
    plain = getattr(where, what)
    setattr(where, what, lambda *each, **named: (plain(*each, **named), die()))

{
    "before the load": lambda: setattr(serving, "_load", die),
    "after the load": lambda: die_after(serving, "_load"),
    "after the probe": lambda: die_after(serving, "probe"),
    "within the flip": lambda: die_after(Flip.objects, "create"),
    "after the flip": lambda: die_after(serving, "_point"),
    "before the unloading": lambda: setattr(serving, "_unload", die),
    "after the unloading": lambda: die_after(serving, "_unload"),
}[sys.argv[1]]()
if "unloading" in sys.argv[1]:
    serving.retire()
policy = Policy.objects.get(name=sys.argv[2])
serving.promote(policy.project, policy, actor=None, reason="test", evidence={})
"""


@pytest.fixture(autouse=True)
def _this_engine(transactional_db: None, settings: Any, engine: Any) -> None:
    settings.ENGINE, settings.ENGINE_URL = "transformers", engine.url


def killed(step: str, policy: Policy) -> None:
    connection.close()
    environment = {
        "DATABASE_URL": database_url(),
        "ENGINE_URL": serving.settings.ENGINE_URL,
        "DJANGO_SETTINGS_MODULE": "plumbline.settings",
    }
    child = [sys.executable, "-c", CHILD, step, policy.name]
    assert subprocess.run(child, env=os.environ | environment).returncode == -signal.SIGKILL


def promote(policy: Policy) -> Deployment:
    return serving.promote(policy.project, policy, actor=None, reason="test", evidence={})


@pytest.fixture
def policies(make_policy: Callable[..., Policy]) -> list[Policy]:
    """Three, of which the first two are promoted, one after the other."""
    made = [make_policy(f"crash-{seed}-{uuid.uuid4().hex[:6]}", seed) for seed in (71, 72, 73)]
    for policy in made[:2]:
        promote(policy)
    return made


def consistent(current: Policy, previous: Policy) -> None:
    """The alias, its audit and what the engine answers agree; nothing else stays loaded."""
    serving.reconcile()
    serving.retire()
    deployment = Deployment.objects.get()
    assert (deployment.policy, deployment.previous) == (current, previous)
    flip = Flip.objects.first()
    assert flip is not None
    assert (flip.before, flip.after) == (previous, current)
    held = {name for name in serving.served() if name.startswith("crash-")}
    assert {current.name, previous.name} <= held
    assert serving.probe(current)


@pytest.mark.parametrize(
    "step", ["before the load", "after the load", "after the probe", "within the flip"]
)
def test_a_promotion_that_is_killed_before_its_flip_has_not_happened(
    policies: list[Policy], step: str
) -> None:
    first, second, third = policies
    killed(step, third)
    consistent(second, first)
    promote(third)  # whoever comes next finishes it
    consistent(third, second)
    assert first.name not in serving.served()


def test_a_promotion_that_is_killed_after_its_flip_has_happened(policies: list[Policy]) -> None:
    first, second, third = policies
    killed("after the flip", third)
    assert first.name in serving.served()  # nobody has come to unload it
    consistent(third, second)
    assert first.name not in serving.served()


@pytest.mark.parametrize("step", ["before the unloading", "after the unloading"])
def test_unloading_that_is_killed_is_done_by_the_next_look(
    policies: list[Policy], step: str
) -> None:
    first, second, third = policies
    promote(third)
    killed(step, third)
    consistent(third, second)
    assert first.name not in serving.served()
