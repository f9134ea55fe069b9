"""What the gateway makes of several answers or policies, on real vLLM: the best, the average."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.truth import ask
from tests.gateway.test_best_of import judge, scorer  # noqa: F401  # fixtures
from tests.loop.conftest import run_jobs

pytestmark = [pytest.mark.vllm, pytest.mark.nightly, pytest.mark.timeout(900)]
N = 4


def test_the_best_of_vllm_s_answers_is_given(
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    judge: Any,  # noqa: F811
) -> None:
    policy = make_policy(34, "lora", 0.1)
    promote(policy)
    how = {"temperature": 1.5, "seed": 7}
    every = ask(client, "current", n=N, **how).json()
    reply = ask(client, "current", best_of=N, **how)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-policy-version"] == policy.name
    told = reply.json()["best_of"]
    assert (told["n"], told["reward_model"]) == (N, judge.name)
    assert told["chosen"] == max(range(N), key=lambda at: told["scores"][at])
    (choice,) = reply.json()["choices"]
    wanted = next(one for one in every["choices"] if one["index"] == told["chosen"])
    assert choice["message"]["content"] == wanted["message"]["content"]
    assert reply.json()["usage"]["completion_tokens"] == every["usage"]["completion_tokens"]


def test_objectives_by_weights_are_averaged_and_served_by_vllm(
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    project: Any,
    vllm: Any,
    settings: Any,
    tmp_path: Path,
) -> None:
    from plumbline.loop import mixtures
    from plumbline.policies import objectives, serving

    settings.RUNS_DIR = tmp_path / "runs"
    promote(serving.base_policy(project))
    for name, seed in (("helpful", 31), ("brief", 32)):
        policy = make_policy(seed, "lora", 0.1)
        objectives.put(project, name, policy, actor=None, reason="best at it")
        assert ask(client, f"plumbline:{name}").json()["model"] == policy.name
    weighed = "plumbline:helpful=0.7,brief=0.3"
    first = ask(client, weighed)
    assert (first.status_code, first.json()["error"]["code"]) == (503, "model_loading")
    run_jobs()
    mixtures.advance()
    reply = ask(client, weighed)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-objectives"] == "brief=0.3,helpful=0.7"
    assert reply.headers["x-policy-version"] == reply.json()["model"]
    assert reply.json()["model"] in vllm.models()
