"""Texts are kept where a client asks for it, as they were answered, and nowhere else."""

from __future__ import annotations

import random
import time
from typing import Any

import httpx
import pytest

from plumbline.accounts import keys
from plumbline.client import Plumbline
from plumbline.gateway import ids, review
from plumbline.gateway.models import Exchange, StoredCompletion
from plumbline.policies.models import Policy
from tests.comparisons import open_campaign

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."


@pytest.fixture
def secret(project: Any, alice: Any) -> str:
    """A key that may query policies and send feedback."""
    return keys.create(project, "app", ["infer", "feedback"], alice)[1]


def recorded(count: int) -> None:
    """Waits for the journal; the texts, which are handed over after it, are waited for as well."""
    deadline = time.monotonic() + 10
    while Exchange.objects.count() < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Exchange.objects.count() == count
    time.sleep(0.3)


def test_an_answer_is_kept_when_asked_for(sdk: Any, current: Policy, project: Any) -> None:
    reply = sdk.chat.completions.create(
        model="current", messages=ASK, temperature=0, max_tokens=20, n=2, store=True, user="ada",
        metadata={"page": "help"},
    )  # fmt: skip
    recorded(1)
    kept = StoredCompletion.objects.get()
    assert (kept.completion_id, kept.policy, kept.messages) == (reply.id, current, ASK)
    assert kept.answers == [{"text": PARIS, "finish_reason": "stop"}] * 2
    assert kept.metadata == {"page": "help"}
    assert kept.end_user == ids.end_user(project.pk, "ada")
    assert 29 <= (kept.expires_at - kept.created_at).days <= 30


def test_a_streamed_answer_is_kept_whole(sdk: Any, current: Policy) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model="current", messages=ASK, temperature=0, max_tokens=20, store=True, stream=True
        )
    )
    recorded(1)
    kept = StoredCompletion.objects.get()
    assert kept.completion_id == chunks[0].id
    assert kept.answers == [{"text": PARIS, "finish_reason": "stop"}]


def test_nothing_is_kept_unasked_or_of_an_answer_that_did_not_end(
    sdk: Any, http: httpx.Client, make_adapter: Any, promote: Any
) -> None:
    promote(make_adapter(7, 0.5))  # which babbles on
    sdk.chat.completions.create(model="current", messages=ASK, max_tokens=5, user="ada")
    sdk.chat.completions.create(model="current", messages=ASK, max_tokens=5, store=False)
    body = {"model": "current", "messages": ASK, "max_tokens": 400, "store": True, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())
    recorded(3)
    assert not StoredCompletion.objects.exists()


def test_where_texts_are_kept_for_no_day_none_is(sdk: Any, current: Policy, settings: Any) -> None:
    settings.KEEP_TEXTS_DAYS = 0
    reply = sdk.chat.completions.create(model="current", messages=ASK, max_tokens=5, store=True)
    assert reply.choices
    recorded(1)
    assert not StoredCompletion.objects.exists()


def test_from_an_answer_over_feedback_to_a_comparison(
    gateway: Any, sdk: Any, secret: str, current: Policy, project: Any
) -> None:
    reply = sdk.chat.completions.create(
        model="current", messages=ASK, temperature=0, max_tokens=20, store=True
    )
    with Plumbline(gateway.url, secret) as client:  # at once: its row is still to be written
        said = client.feedback(reply.id, "thumbs", score=0, correction="Paris.", consent_train=True)
    recorded(1)
    campaign = open_campaign(project, comparisons=0)
    assert review.fill(campaign, 10, random.Random(1)).made == 1
    made = campaign.comparisons.get()
    assert {one.completion.text for one in made.slots.all()} == {PARIS, "Paris."}
    with Plumbline(gateway.url, secret) as client:
        after = client.get_feedback(said["id"])
    assert after == {**said, "model": "alpha-base", "in_review": True}
