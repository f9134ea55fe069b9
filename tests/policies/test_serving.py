"""Policies reach a real engine verified, under their own names, and aliases move in one step."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline.accounts.models import Project, User
from plumbline.audit.models import AuditEntry
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Policy, Reload

MakePolicy = Callable[..., Policy]


@pytest.fixture(autouse=True)
def _this_engine(settings: Any, engine: Any) -> None:
    settings.ENGINE_URL = engine.url
    settings.ENGINE = "transformers"


def fresh(stem: str) -> str:
    """The engine outlives a test, and names are never reused."""
    return f"{stem}-{uuid.uuid4().hex[:6]}"


def promote(project: Project, policy: Policy) -> Deployment:
    return serving.promote(project, policy, actor=None, reason="better", evidence={"rate": 0.7})


def answer(url: str, name: str) -> str:
    body = {
        "model": name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    reply = httpx.post(url + "/v1/chat/completions", json=body, trust_env=False, timeout=60)
    return str(reply.raise_for_status().json()["choices"][0]["message"]["content"])


def test_the_base_policy_is_made_once_and_answers(project: Project) -> None:
    base = serving.base_policy(project)
    assert base.name == "alpha-base"
    assert serving.base_policy(project) == base
    assert serving.engine_name(base) == "base"
    serving.ensure_loaded(base)
    assert serving.probe(base).strip()


def test_another_base_model_gets_another_name(project: Project, settings: Any) -> None:
    first = serving.base_policy(project)
    settings.BASE_MODEL = "/models/other"
    second = serving.base_policy(project)
    assert (first.name, second.name) == ("alpha-base", "alpha-base-2")
    with pytest.raises(serving.EngineError, match="belongs to the base model"):
        serving.ensure_loaded(first)


def test_an_adapter_is_served_under_its_own_name(make_policy: MakePolicy, engine: Any) -> None:
    policy = make_policy(fresh("changed"), seed=1, scale=0.5)
    serving.ensure_loaded(policy)
    serving.ensure_loaded(policy)  # a second call finds it there
    assert answer(engine.url, policy.name) != answer(engine.url, "base")


def test_full_weights_are_served_by_the_embedded_engine(make_policy: MakePolicy) -> None:
    policy = make_policy(fresh("full"), seed=2, mode="full", scale=0.01)
    serving.ensure_loaded(policy)
    assert serving.probe(policy).strip()


def test_a_vllm_that_cannot_change_its_weights_is_told_how_to_be_started(
    project: Project, make_policy: MakePolicy, settings: Any
) -> None:
    """The embedded engine stands in for one that was started without what that needs."""
    base = serving.base_policy(project)
    promote(project, base)
    settings.ENGINE = "vllm"
    policy = make_policy(fresh("full"), seed=2, mode="full", scale=0.01)
    with pytest.raises(serving.EngineError, match="start vLLM as `align.reloading` says"):
        promote(project, policy)
    assert Deployment.objects.get().policy == base
    assert not Reload.objects.exists()


def test_altered_weights_are_never_loaded(make_policy: MakePolicy) -> None:
    policy = make_policy(fresh("altered"), seed=3)
    file = next(Path(policy.path).glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(serving.EngineError, match="altered after it was committed"):
        serving.ensure_loaded(policy)
    assert policy.name not in serving.served()


@pytest.mark.parametrize("harm", [lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: d[:-1]])
def test_harmed_full_weights_are_refused_and_the_alias_stays(
    project: Project, make_policy: MakePolicy, harm: Callable[[bytes], bytes]
) -> None:
    base = serving.base_policy(project)
    promote(project, base)
    policy = make_policy(fresh("harmed"), seed=14, mode="full", scale=0.01)
    file = Path(policy.path) / "model.safetensors"
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(serving.EngineError, match="altered"):
        promote(project, policy)
    assert policy.name not in serving.served()
    assert Deployment.objects.get().policy == base


def test_full_weights_of_another_policy_are_refused(make_policy: MakePolicy) -> None:
    policy = make_policy(fresh("mine"), seed=15, mode="full", scale=0.01)
    policy.path = make_policy(fresh("yours"), seed=16, mode="full", scale=0.01).path
    with pytest.raises(serving.EngineError, match="other weights than"):
        serving.ensure_loaded(policy)
    assert policy.name not in serving.served()


def test_a_name_never_stands_for_other_weights(make_policy: MakePolicy) -> None:
    policy = make_policy(fresh("one"), seed=4)
    serving.ensure_loaded(policy)
    policy.path = make_policy(fresh("two"), seed=5).path
    with pytest.raises(serving.EngineError, match="under the name"):
        serving.ensure_loaded(policy)


def test_promotion_moves_the_alias_and_keeps_the_audit(
    project: Project, make_policy: MakePolicy
) -> None:
    actor = User.objects.create(username="ada")
    base, better = serving.base_policy(project), make_policy(fresh("better"), seed=6)
    promote(project, base)
    deployment = serving.promote(
        project, better, actor=actor, reason="won 70%", evidence={"low": 0.61}
    )
    assert (deployment.policy, deployment.previous) == (better, base)
    better.refresh_from_db()
    assert better.state == Policy.State.PROMOTED
    flip = Flip.objects.first()
    assert flip is not None
    assert (flip.before, flip.after, flip.actor) == (base, better, actor)
    assert (flip.reason, flip.evidence) == ("won 70%", {"low": 0.61})


def test_promoting_twice_is_promoting_once(project: Project, make_policy: MakePolicy) -> None:
    base, better = serving.base_policy(project), make_policy(fresh("better"), seed=6)
    for policy in (base, better, better):
        promote(project, policy)
    deployment = Deployment.objects.get()
    assert (deployment.policy, deployment.previous) == (better, base)
    assert Flip.objects.count() == 2


def test_roll_back_and_roll_forward(project: Project, make_policy: MakePolicy) -> None:
    base, better = serving.base_policy(project), make_policy(fresh("better"), seed=6)
    promote(project, base)
    with pytest.raises(ValueError, match="no previous policy"):
        serving.roll_back(project, actor=None, reason="oops")
    promote(project, better)
    assert serving.roll_back(project, actor=None, reason="worse").policy == base
    assert serving.roll_back(project, actor=None, reason="no, better").policy == better
    assert Flip.objects.count() == 4
    told = AuditEntry.objects.filter(project=project.pk).order_by("number")
    assert list(told.values_list("what", "object")) == [
        ("policy.promoted", f"policy:{base.pk}"),
        ("policy.promoted", f"policy:{better.pk}"),
        ("policy.rolled_back", f"policy:{base.pk}"),
        ("policy.rolled_back", f"policy:{better.pk}"),
    ]


def test_a_policy_that_fails_its_probe_is_not_promoted(
    project: Project, make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, mute = serving.base_policy(project), make_policy(fresh("mute"), seed=7)
    promote(project, base)
    monkeypatch.setattr(serving, "PROBE_TOKENS", 5000)  # more than the context holds
    with pytest.raises(serving.EngineError, match="context length"):
        promote(project, mute)
    assert Deployment.objects.get().policy == base


def test_a_foreign_policy_is_refused(project: Project) -> None:
    other = Project.objects.create(name="Other", slug="other")
    with pytest.raises(ValueError, match="is not a policy of"):
        promote(project, serving.base_policy(other))


def test_an_engine_that_is_down_changes_nothing(project: Project, settings: Any) -> None:
    settings.ENGINE_URL = "http://127.0.0.1:9"
    with pytest.raises(serving.EngineError, match="does not answer"):
        promote(project, serving.base_policy(project))
    assert not Deployment.objects.exists()


def test_release_frees_only_what_no_alias_needs(project: Project, make_policy: MakePolicy) -> None:
    base, kept, spare = (
        serving.base_policy(project),
        make_policy(fresh("kept"), seed=8),
        make_policy(fresh("spare"), seed=9),
    )
    promote(project, base)
    promote(project, kept)
    serving.ensure_loaded(spare)
    serving.release(spare)
    serving.release(spare)
    assert spare.name not in serving.served()
    for policy, sentence in ((kept, "is needed by"), (base, "stays loaded")):
        with pytest.raises(ValueError, match=sentence):
            serving.release(policy)


@pytest.mark.postgres
def test_after_an_engine_restart_the_aliases_are_served_again(
    project: Project, make_policy: MakePolicy, own_engine: Any, settings: Any
) -> None:
    settings.ENGINE_URL = own_engine.url
    older, newer = make_policy("older", seed=10), make_policy("newer", seed=11)
    promote(project, older)
    promote(project, newer)
    before = answer(own_engine.url, "newer")
    own_engine.kill()
    with pytest.raises(serving.EngineError, match="does not answer"):
        serving.reconcile()
    own_engine.start()
    assert sorted(serving.reconcile()) == ["newer", "older"]
    assert serving.reconcile() == []
    assert answer(own_engine.url, "newer") == before


def test_one_broken_policy_does_not_keep_others_from_being_served(
    project: Project, make_policy: MakePolicy
) -> None:
    good, bad = make_policy(fresh("good"), seed=12), make_policy(fresh("bad"), seed=13)
    promote(project, bad)
    promote(project, good)
    for policy in (good, bad):
        httpx.post(
            serving.settings.ENGINE_URL + "/v1/unload_lora_adapter",
            json={"lora_name": policy.name},
            trust_env=False,
        ).raise_for_status()
    (Path(bad.path) / "extra").write_text("x")
    with pytest.raises(serving.EngineError, match="is not in manifest"):
        serving.reconcile()
    assert good.name in serving.served()
