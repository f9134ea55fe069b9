"""Full weights pushed under clients: every answer is one policy's, and none comes too late."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from plumbline.policies.models import Policy

openai = pytest.importorskip("openai")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def make_full(project: Any, commit_weights: Callable[..., Any]) -> Callable[[int], Policy]:
    """`make_full(seed)`: a policy of full weights under a fresh name, which no engine has seen."""

    def make(seed: int) -> Policy:
        folder = commit_weights(seed, "full", 0.01)
        return Policy.objects.create(
            project=project,
            name=f"alpha-{uuid.uuid4().hex[:8]}",
            weights="full",
            path=str(folder.path),
            sha256=folder.sha256,
        )

    return make


def test_streams_through_pushes_of_full_weights_each_have_one_policy_and_none_is_late(
    sdk: Any, current: Policy, promote: Callable[..., Any], make_full: Callable[[int], Policy]
) -> None:
    policies = [make_full(seed) for seed in (21, 22, 23)]
    troubles: list[str] = []
    answered: list[tuple[float, str]] = []
    over = threading.Event()

    def ask(stream: bool) -> None:
        asked = {"model": "current", "messages": ASK, "max_tokens": 16}
        while not over.is_set():
            sent = time.monotonic()
            try:
                reply = sdk.chat.completions.create(**asked, stream=stream)
                chunks = list(reply) if stream else [reply]
            except openai.OpenAIError as error:
                troubles.append(repr(error))
                continue
            models = {chunk.model for chunk in chunks}
            if len(models) != 1 or chunks[-1].choices[0].finish_reason is None:
                troubles.append(f"{models} {chunks[-1]}")
            answered.append((sent, models.pop()))

    threads = [threading.Thread(target=ask, args=[stream]) for stream in (True, True, True, False)]
    for thread in threads:
        thread.start()
    live = []
    for policy in policies:
        promote(policy)
        live.append(time.monotonic())
        while not any(sent > live[-1] for sent, _ in answered):
            time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join()
    assert not troubles
    for policy, since, until in zip(policies, live, [*live[1:], time.monotonic()], strict=True):
        # In between, clients already meet the next policy while its promotion is not yet back.
        later = {one.name for one in policies[policies.index(policy) :][:2]}
        named = {name for sent, name in answered if since < sent < until}
        assert named
        assert named <= later


def test_the_very_next_request_after_a_promotion_is_the_new_policy_s(
    sdk: Any, current: Policy, promote: Callable[..., Any], make_full: Callable[[int], Policy]
) -> None:
    policies = [make_full(24), make_full(25)]
    for turn in range(8):
        policy = policies[turn % 2]
        asked = {"model": "current", "messages": ASK, "max_tokens": 1}
        sdk.chat.completions.create(**asked)  # the gateway now remembers what the alias means
        promote(policy)
        assert sdk.chat.completions.create(**asked).model == policy.name
