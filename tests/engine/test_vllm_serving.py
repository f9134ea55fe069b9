"""Policies on real vLLM: loaded, probed, promoted, rolled back, and asked through the gateway."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ASK = {"messages": [{"role": "user", "content": "What does a panda eat?"}], "max_tokens": 12}
ASK_BRIEFLY: dict[str, Any] = {"max_tokens": 12, "temperature": 0}


@pytest.fixture
def make_policy(
    project: Any, commit_weights: Callable[..., Any], vllm: Any, settings: Any
) -> Callable[..., Any]:
    from plumbline.policies.models import Policy
    from plumbline.policies.serving import base_policy

    settings.ENGINE, settings.ENGINE_URL, settings.BASE_NAME = "vllm", vllm.url, "demo-base"

    def make(name: str, seed: int, mode: str = "lora", scale: float = 0.3) -> Any:
        folder = commit_weights(seed, mode, scale)
        return Policy.objects.create(
            project=project,
            name=name,
            weights=mode,
            base_model=base_policy(project).base_model,
            path=str(folder.path),
            sha256=folder.sha256,
        )

    return make


def test_an_adapter_is_promoted_served_and_rolled_back(
    transactional_db: None, project: Any, alice: Any, make_policy: Callable[..., Any], vllm: Any
) -> None:
    from plumbline.accounts import keys
    from plumbline.gateway.app import create_app
    from plumbline.policies import serving

    base, better = serving.base_policy(project), make_policy("vllm-better", 21)
    for policy in (base, better):
        serving.promote(project, policy, actor=alice, reason="better", evidence={})
    serving.ensure_loaded(better)
    assert {"demo-base", "vllm-better"} <= set(vllm.models())
    headers = {"authorization": f"Bearer {keys.create(project, 'app', ['infer'], alice)[1]}"}
    with TestClient(create_app(), headers=headers) as client:
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert sorted(listed) == sorted(["current", base.name, better.name])
        replies = {
            name: client.post("/v1/chat/completions", json={**ASK, "model": name, "seed": 1})
            for name in ("current", base.name)
        }
        for reply, policy in zip(replies.values(), (better, base), strict=True):
            assert reply.status_code == 200, reply.text
            assert reply.json()["model"] == policy.name
            assert reply.headers["x-policy-version"] == policy.name
            assert set(reply.json()["choices"][0]) <= {
                "index",
                "message",
                "logprobs",
                "finish_reason",
            }
        stream = client.post(
            "/v1/chat/completions", json={**ASK, "model": "current", "stream": True}
        )
        *events, done = stream.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        assert {json.loads(event[6:])["model"] for event in events} == {better.name}
        refused = client.post(
            "/v1/chat/completions", json={"model": "current", "messages": ASK["messages"] * 100}
        )
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert serving.roll_back(project, actor=alice, reason="no", alias="current").policy == base
    assert serving.reconcile() == []


def test_what_vllm_cannot_load_is_said_in_a_sentence(make_policy: Callable[..., Any]) -> None:
    from plumbline.policies import serving

    missing = make_policy("vllm-missing", 23)
    missing.path = "/nowhere"
    with pytest.raises(serving.EngineError, match="never committed"):
        serving.ensure_loaded(missing)


def test_a_spare_adapter_is_unloaded(make_policy: Callable[..., Any], vllm: Any) -> None:
    from plumbline.policies import serving

    spare = make_policy("vllm-spare", 24)
    serving.ensure_loaded(spare)
    serving.release(spare)
    assert "vllm-spare" not in vllm.models()


def test_a_job_runs_beside_a_vllm_that_would_keep_its_memory_asleep(
    project: Any, make_policy: Callable[..., Any], vllm: Any, settings: Any
) -> None:
    """The CPU build answers /sleep and frees nothing: the job's events say so, nobody waits."""
    from align import jobs
    from plumbline.fleet import claims, dispatch, lending
    from plumbline.policies import engines
    from plumbline.policies.models import Loan

    settings.ENGINE_SLEEPS = True
    spec = jobs.TrainJob(algorithm="dpo", start=jobs.ModelRef(base="-"))
    dispatch.submit(project, spec, "train", {})
    job = claims.claim("gpu", "worker")
    assert job is not None
    with lending.memory(job):
        assert not engines.asleep()
        assert not Loan.objects.exists()
        assert vllm.say(**ASK_BRIEFLY)
    told = job.events.order_by("id").last()
    assert told is not None
    assert "vLLM keeps its memory while it sleeps" in told.message
    assert "its CPU build has no sleep mode" in told.message


def test_vllm_s_sleep_cuts_nothing_off_and_forgets_no_adapter(
    make_policy: Callable[..., Any], vllm: Any
) -> None:
    """As far as its CPU build can show: who is served is served to the end, who comes waits."""
    from plumbline.policies import engines, serving

    kept = make_policy("vllm-kept", 25)
    serving.ensure_loaded(kept)
    before = vllm.say(model=kept.name, **ASK_BRIEFLY)
    found: dict[str, Any] = {}

    def client(name: str, **asked: Any) -> threading.Thread:
        def run() -> None:
            found[name] = vllm.chat(**asked)["choices"][0]

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    long = client("long", max_tokens=150, ignore_eos=True)
    time.sleep(0.3)
    engines.sleep()
    assert engines.asleep()
    long.join(timeout=5)
    assert found["long"]["finish_reason"] == "length"  # and not "abort"
    late = client("late", model=kept.name, **ASK_BRIEFLY)
    time.sleep(0.5)
    assert "late" not in found
    engines.wake()
    late.join(timeout=60)
    assert found["late"]["message"]["content"] == before
    assert not engines.asleep()


def test_a_vllm_that_is_woken_while_it_falls_asleep_stays_awake(
    make_policy: Callable[..., Any], vllm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken too early it would keep the order to sleep, and obey when it is next idle."""
    from plumbline.policies import engines

    base = vllm.say(**ASK_BRIEFLY)
    done: list[Any] = []
    long = threading.Thread(target=lambda: done.append(vllm.chat(max_tokens=200, ignore_eos=True)))
    long.start()
    time.sleep(0.3)
    with monkeypatch.context() as hurried:
        hurried.setattr(engines, "SLEEP_SECONDS", 0.2)
        with pytest.raises(engines.EngineSlow):
            engines.sleep()
    assert not done
    engines.wake()
    long.join(timeout=60)
    assert done[0]["choices"][0]["finish_reason"] == "length"
    time.sleep(0.3)
    assert not engines.asleep()
    assert vllm.say(**ASK_BRIEFLY) == base
