"""An alias moves among adapters on real vLLM while 32 streams ask: none fails, none is mixed."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.conftest import secret, start_gateway  # noqa: F401
from tests.swapping import Streams, hear, learn

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture
def adapters(
    transactional_db: None,
    project: Any,
    commit_weights: Callable[..., Any],
    vllm: Any,
    settings: Any,
) -> list[Any]:
    """Four policies that say different things."""
    from plumbline.policies.models import Policy
    from plumbline.policies.serving import base_policy

    settings.ENGINE, settings.ENGINE_URL, settings.BASE_NAME = "vllm", vllm.url, "demo-base"
    made = []
    for seed in range(41, 45):
        folder = commit_weights(seed, "lora", 0.1)
        made.append(
            Policy.objects.create(
                project=project,
                name=f"swap-{seed}-{uuid.uuid4().hex[:6]}",
                weights="lora",
                base_model=base_policy(project).base_model,
                path=str(folder.path),
                sha256=folder.sha256,
            )
        )
    return made


def promote_under_streams(
    promotions: int, adapters: list[Any], project: Any, url: str, key: str, engine_url: str
) -> Streams:
    from plumbline.policies import serving

    for policy in adapters:
        serving.ensure_loaded(policy)
    known = learn(engine_url, [policy.name for policy in adapters])
    for policy in adapters:
        serving.release(policy)
    serving.promote(project, adapters[-1], actor=None, reason="test", evidence={})
    streams = Streams(url, key, known)
    question = next(iter(known[adapters[0].name]))
    unloaded = 0
    with streams.client() as client, streams.asking():
        for policy in itertools.islice(itertools.cycle(adapters), promotions):
            serving.promote(project, policy, actor=None, reason="test", evidence={})
            heard = hear(client, "current", question)
            assert heard.policy == policy.name, heard  # the very next request
            streams.judge(heard, question)
            unloaded += len(serving.retire())
        stale = hear(client, adapters[(promotions - 3) % len(adapters)].name, question)
        assert not stale.trouble  # it was unloaded, and is loaded again for who names it
    assert unloaded >= promotions - 2
    return streams


@pytest.mark.nightly
@pytest.mark.parametrize(
    "promotions", [10, pytest.param(100, marks=pytest.mark.timeout(3600))], ids=["few", "many"]
)
def test_streams_through_promotions_each_have_one_policy_and_none_fails(
    promotions: int,
    adapters: list[Any],
    start_gateway: Any,  # noqa: F811
    secret: str,  # noqa: F811
    project: Any,
    vllm: Any,
) -> None:
    url = start_gateway(vllm.url).url
    streams = promote_under_streams(promotions, adapters, project, url, secret, vllm.url)
    assert streams.troubles == []
    assert streams.answered > streams.count
    assert streams.policies == {policy.name for policy in adapters}
