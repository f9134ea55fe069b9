"""Whoever changes vLLM's weights may be killed at any step; clients wait and get one policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.db import connection

from tests.engine.truth import QUESTIONS, ask, known, until
from tests.gateway.test_client import database_url

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

# Promotes a policy and is killed by the kernel at the step named; what it leaves is soon too old.
CHILD = """
import os, signal, sys, threading, time
import django
django.setup()
from plumbline.policies import engines, seats, serving
from plumbline.policies.models import Flip, Policy

seats.LEASE_SECONDS = seats.PROVING_SECONDS = 1.5

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(where, what):
    plain = getattr(where, what)
    setattr(where, what, lambda *each, **named: (plain(*each, **named), die()))

def die_within():
    plain = engines.call
    def call(url, method, path, *rest):
        if (method, path) != ("POST", engines.WEIGHTS):
            return plain(url, method, path, *rest)
        threading.Thread(target=plain, args=(url, method, path, *rest)).start()
        time.sleep(0.05)
        die()
    engines.call = call

{
    "before the change": lambda: setattr(seats._Change, "take_up", die),
    "within the change": die_within,
    "after the change": lambda: die_after(seats._Change, "take_up"),
    "after the probe": lambda: die_after(serving, "probe"),
    "within the flip": lambda: die_after(Flip.objects, "create"),
    "after the flip": lambda: die_after(serving, "_point"),
}[sys.argv[1]]()
policy = Policy.objects.get(name=sys.argv[2])
serving.promote(policy.project, policy, actor=None, reason="test", evidence={})
"""


def killed(step: str, policy: Any) -> None:
    from plumbline.policies import serving

    connection.close()
    environment = {
        "DATABASE_URL": database_url(),
        "ENGINE": "vllm",
        "ENGINE_URL": serving.settings.ENGINE_URL,
        "BASE_NAME": "demo-base",
        "DJANGO_SETTINGS_MODULE": "plumbline.settings",
    }
    child = [sys.executable, "-c", CHILD, step, policy.name]
    assert subprocess.run(child, env=os.environ | environment).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("before the change", marks=pytest.mark.nightly),
        pytest.param("within the change", marks=pytest.mark.nightly),
        "after the change",
        pytest.param("after the probe", marks=pytest.mark.nightly),
        pytest.param("within the flip", marks=pytest.mark.nightly),
        "after the flip",
    ],
)
def test_a_change_that_is_killed_leaves_one_policy_and_no_error(
    step: str,
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    vllm: Any,
) -> None:
    from plumbline.policies import seats, serving
    from plumbline.policies.models import Deployment

    before, after = make_policy(61), make_policy(62)
    texts = known([before, after])
    promote(before)
    killed(step, after)
    expected = after if step == "after the flip" else before
    reply = ask(client, "current", QUESTIONS[1])  # as soon as that; the gate may be shut
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-policy-version"] == expected.name
    said = reply.json()["choices"][0]["message"]["content"]
    assert said == texts[expected.name][QUESTIONS[1]]
    until(lambda: not seats.changing())
    serving.reconcile()
    assert Deployment.objects.get().policy == expected
    assert vllm.models() == [expected.name]
    promote(after)  # whoever comes next finishes it
    assert ask(client, "current").json()["model"] == after.name
