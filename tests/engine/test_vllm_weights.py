"""Full weights on real vLLM: in the base model's place, one policy's at a time, never mixed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from align import demo
from align.demo import prompts
from tests.engine.truth import QUESTIONS, ask, known, until
from tests.swapping import Streams, hear

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ALL = {"max_tokens": 16, "temperature": 0, "logprobs": 1}


def listed(client: httpx.Client) -> set[str]:
    return {card["id"] for card in client.get("/v1/models").json()["data"]}


def test_full_weights_say_what_transformers_says_under_their_name_alone(
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    project: Any,
    vllm: Any,
) -> None:
    """And the base, with its adapters, again when the alias has moved back."""
    from plumbline.policies import serving

    base, first, second = serving.base_policy(project), make_policy(61), make_policy(62)
    adapter = make_policy(63, "lora")
    texts = known([base, first, second])
    promote(base)
    serving.ensure_loaded(adapter)
    for policy in (base, first, second):
        promote(policy)
        for question in QUESTIONS:
            reply = ask(client, "current", question)
            assert reply.status_code == 200, reply.text
            assert reply.headers["x-policy-version"] == reply.json()["model"] == policy.name
            said = reply.json()["choices"][0]["message"]["content"]
            assert said == texts[policy.name][question]
        others = {"demo-base", base.name, first.name, second.name, adapter.name} - {policy.name}
        if policy != base:
            assert vllm.models() == [policy.name]
            assert listed(client) == {"current", policy.name}
            refused = {name: ask(client, name) for name in others}
            assert {one.status_code for one in refused.values()} == {404}
            direct = vllm.post("/v1/completions", model="demo-base", prompt="x")
            assert direct.status_code == 404
    assert serving.reconcile() == []
    serving.roll_back(project, actor=None, reason="test")
    assert ask(client, "current").json()["model"] == first.name
    promote(base)
    again = ask(client, adapter.name)  # it is loaded for who names it
    assert again.status_code == 200, again.text


def long_prompts(vllm: Any) -> list[list[int]]:
    """Of more than one block of the prefix cache."""
    texts = prompts.texts("heldout")
    asked = [vllm.tokens(" ".join(texts[25 * k : 25 * k + 25])) for k in range(4)]
    assert min(map(len, asked)) > 200
    return asked


def test_an_answer_mixes_weights_unless_the_prefix_cache_is_cleared(
    make_policy: Callable[..., Any], promote: Callable[..., Any], project: Any, vllm: Any
) -> None:
    """vLLM's own `reload_weights` clears nothing; a promotion does."""
    from plumbline.policies import serving

    asked, policy = long_prompts(vllm), make_policy(61)

    def answers(name: str) -> list[tuple[str, list[float]]]:
        choices = vllm.complete(asked, model=name, **ALL)["choices"]
        return [(one["text"], one["logprobs"]["token_logprobs"]) for one in choices]

    def reload(folder: str) -> None:
        asked = {"method": "take_up_weights", "args": [folder]}
        assert vllm.post("/collective_rpc", **asked).status_code == 200

    old = answers("demo-base")
    reload(policy.path)
    mixed = answers("demo-base")
    assert vllm.post("/reset_prefix_cache").json()["success"]
    clean = answers("demo-base")
    assert all(a != b and b != c for a, b, c in zip(old, mixed, clean, strict=True))
    assert any(a[0] != b[0] for a, b in zip(mixed, clean, strict=True))  # another text, too
    reload(str(demo.BASE))
    assert vllm.post("/reset_prefix_cache").json()["success"]
    assert answers("demo-base") == old
    promote(policy)
    assert answers(policy.name) == clean
    promote(serving.base_policy(project))
    assert answers("demo-base") == old


def test_requests_under_way_end_on_the_old_weights_and_those_that_come_wait_for_the_new(
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    project: Any,
    vllm: Any,
) -> None:
    from plumbline.policies import serving

    base, policy = serving.base_policy(project), make_policy(62)
    texts = known([base, policy])
    promote(base)
    long = {"max_tokens": 120, "model": "demo-base", "ignore_eos": True}
    alone = vllm.say(QUESTIONS[0], temperature=0, **long)
    found: dict[str, Any] = {}

    def run(name: str, work: Callable[[], Any]) -> threading.Thread:
        def working() -> None:
            found[name] = work()

        thread = threading.Thread(target=working)
        thread.start()
        return thread

    under_way = run("long", lambda: vllm.say(QUESTIONS[0], temperature=0, **long))
    until(lambda: running(vllm))
    promoting = run("promotion", lambda: promote(policy))
    until(lambda: httpx.get(vllm.url + "/v1/weights").json()["changing"] or "promotion" in found)
    late = [run(f"late {k}", lambda k=k: ask(client, "current", QUESTIONS[k])) for k in range(3)]
    for thread in (under_way, promoting, *late):
        thread.join(timeout=120)
    assert found["long"] == alone
    for k, question in enumerate(QUESTIONS):
        reply = found[f"late {k}"]
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-policy-version"] == policy.name
        assert reply.json()["choices"][0]["message"]["content"] == texts[policy.name][question]


def running(vllm: Any) -> bool:
    lines = httpx.get(vllm.url + "/metrics").text.splitlines()
    return any(
        float(line.split()[-1]) > 0
        for line in lines
        if line.startswith("vllm:num_requests_running{")
    )


@pytest.mark.parametrize(
    ("streams", "promotions"),
    [(8, 4), pytest.param(32, 100, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])],
    ids=["few", "many"],
)
def test_streams_through_changes_of_weights_each_have_one_policy_and_none_fails(
    streams: int,
    promotions: int,
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    secret: str,
    project: Any,
) -> None:
    from plumbline.policies import serving

    policies = [make_policy(61), serving.base_policy(project), make_policy(62)]
    texts = known(policies)
    promote(policies[-1])
    asking = Streams(str(client.base_url), secret, texts, count=streams)
    with asking.asking():
        for k in range(promotions):
            policy = policies[k % len(policies)]
            promote(policy)
            heard = hear(client, "current", QUESTIONS[k % len(QUESTIONS)])
            assert heard.policy == policy.name, heard  # the very next request
            asking.judge(heard, QUESTIONS[k % len(QUESTIONS)])
    assert asking.troubles == []
    assert asking.policies == {policy.name for policy in policies}


def test_an_engine_that_came_back_with_the_base_s_weights_gets_the_alias_s_again(
    make_policy: Callable[..., Any], promote: Callable[..., Any], client: httpx.Client, vllm: Any
) -> None:
    from plumbline.policies import serving

    policy = make_policy(61)
    promote(policy)
    vllm.post("/v1/weights", name="demo-base")  # as after a start
    assert vllm.models() == ["demo-base"]
    assert serving.reconcile() == [policy.name]
    assert vllm.models() == [policy.name]
    vllm.post("/v1/weights", name="demo-base")
    reply = ask(client, "current")  # before anybody has looked
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == policy.name


def test_what_does_not_fit_or_is_in_the_way_is_said_and_changes_nothing(
    make_policy: Callable[..., Any],
    promote: Callable[..., Any],
    client: httpx.Client,
    project: Any,
    vllm: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from align.gpu import checkpoint
    from plumbline.policies import serving, trials
    from plumbline.policies.models import Deployment, Reload

    full, other, adapter = make_policy(61), make_policy(62), make_policy(63, "lora")
    base = serving.base_policy(project)
    promote(base)
    promote(adapter, "beta")
    with pytest.raises(serving.EngineError, match=f"beta needs {adapter.name}, which runs on oth"):
        promote(full)
    with pytest.raises(serving.EngineError, match="the base model\u2019s, which an alias needs"):
        serving.ensure_loaded(full)
    Deployment.objects.filter(alias="beta").delete()
    with monkeypatch.context() as mute:
        mute.setattr(serving, "PROBE_TOKENS", 5000)  # more than the context holds
        with pytest.raises(serving.EngineError, match="max_model_len"):
            promote(full)
    assert vllm.models()[0] == "demo-base"  # put back
    assert ask(client, "current").json()["model"] == base.name
    lacking = without_a_tensor(checkpoint, full, tmp_path / "lacking")
    full.path, full.sha256 = str(lacking.path), lacking.sha256
    with pytest.raises(serving.EngineError, match=r"weight is missing, where the base model"):
        promote(full)
    promote(other)
    with pytest.raises(serving.EngineError, match=f"those are {other.name}"):
        trials.set_canary(project, "current", adapter, 0.1, actor=None, reason="test")
    with pytest.raises(serving.EngineError, match=f"those are {other.name}"):
        serving.ensure_loaded(base)
    assert Deployment.objects.get().policy == other
    assert not Reload.objects.exists()
    assert ask(client, "current").json()["model"] == other.name


def without_a_tensor(checkpoint: Any, policy: Any, folder: Path) -> Any:
    """The policy's weights, committed again without one of them."""
    from safetensors.torch import load_file, save_file

    def write(stray: Path) -> None:
        tensors = load_file(Path(policy.path) / "model.safetensors")
        del tensors[next(name for name in sorted(tensors) if "layers" in name)]
        save_file(tensors, stray / "model.safetensors", {"format": "pt"})

    sha256 = checkpoint.commit(folder, write).sha256
    return type("Committed", (), {"path": folder, "sha256": sha256})
