"""Shadow answers: written behind the client's answer, with consent, for people to compare blind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey
from plumbline.collect.models import Ballot, Comparison, Completion, Prompt
from plumbline.gateway import forgetting, ids, review, shadows, storing
from plumbline.gateway.models import Exchange, ShadowPair, StoredCompletion, Usage
from plumbline.policies import trials
from plumbline.policies.models import Deployment, Loan
from tests.comparisons import open_campaign

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
pytestmark = pytest.mark.sqlite
AGREED = {"consent_train": True}


def until(what: Callable[[], Any]) -> Any:
    """What is true in the end, behind the answers."""
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


def pairs(count: int) -> list[ShadowPair]:
    until(lambda: ShadowPair.objects.count() >= count)
    return list(ShadowPair.objects.order_by("pk"))


def outcomes(url: str, outcome: str) -> float:
    """How many shadow answers ended so, as the gateway counts."""
    lines = httpx.get(url + "/metrics", trust_env=False).text.splitlines()
    found = [line for line in lines if line.startswith("plumbline_shadows_total")]
    return sum(float(line.split()[-1]) for line in found if f'outcome="{outcome}"' in line)


def ask(sdk: Any, **more: Any) -> Any:
    more = {"extra_body": AGREED, "store": True, "temperature": 0, "max_tokens": 12, **more}
    return sdk.chat.completions.create(model="current", messages=ASK, **more)


@pytest.fixture
def key(secret: str) -> ApiKey:
    return ApiKey.objects.get()


@pytest.fixture
def shadow(project: Any, current: Any, key: ApiKey, make_adapter: Any) -> Any:
    """A policy that says something else, shadowing every request that agrees."""
    policy = make_adapter(21, 0.5)
    trials.set_shadow(project, "current", policy, 1.0, [key], actor=None, reason="to see")
    return policy


def test_both_answers_are_kept_as_a_pair(
    sdk: Any, project: Any, current: Any, shadow: Any, key: ApiKey
) -> None:
    reply = ask(sdk, user="user-1")
    (pair,) = pairs(1)
    assert pair.served == reply.id
    assert pair.end_user == ids.end_user(project.pk, "user-1")
    served = StoredCompletion.objects.get(completion_id=pair.served)
    written = StoredCompletion.objects.get(completion_id=pair.shadow)
    assert (served.policy, written.policy) == (current, shadow)
    assert served.messages == written.messages == ASK
    assert served.answers[0]["text"] == reply.choices[0].message.content
    assert written.answers[0]["text"] != served.answers[0]["text"]
    assert written.end_user == served.end_user


def test_it_is_in_the_journal_as_a_shadow_and_nobody_is_billed(
    sdk: Any, project: Any, current: Any, shadow: Any, key: ApiKey
) -> None:
    reply = ask(sdk)
    until(lambda: Exchange.objects.count() >= 2)
    billed, free = Exchange.objects.order_by("shadow")
    assert (billed.shadow, billed.api_key, billed.completion_id) == (False, key, reply.id)
    assert (free.shadow, free.api_key, free.policy) == (True, None, shadow)
    assert free.completion_tokens > 0
    counted = Usage.objects.get()
    assert (counted.requests, counted.policy) == (1, current)
    assert counted.completion_tokens == reply.usage.completion_tokens


def test_a_stream_is_shadowed_after_its_end(sdk: Any, shadow: Any) -> None:
    chunks = list(ask(sdk, stream=True))
    (pair,) = pairs(1)
    assert pair.served == chunks[0].id


@pytest.mark.parametrize(
    "more",
    [
        {"store": False, "extra_body": {}},
        {"extra_body": {}},
        {"extra_body": {"consent_train": False}},
    ],
)
def test_nothing_is_shadowed_without_consent(
    sdk: Any, gateway: Any, shadow: Any, more: dict[str, Any]
) -> None:
    ask(sdk, **more)
    ask(sdk)  # which comes after it in every line
    pairs(1)
    assert outcomes(gateway.url, "answered") == 1
    assert ShadowPair.objects.count() == 1


def test_consent_without_storing_is_refused_by_name(http: httpx.Client, current: Any) -> None:
    body = {"model": "current", "messages": ASK, "consent_train": True}
    reply = http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "consent_train"
    assert "only allowed when store is true" in reply.json()["error"]["message"]


def test_only_the_keys_that_were_chosen_are_shadowed(
    sdk: Any, gateway: Any, project: Any, alice: Any, shadow: Any
) -> None:
    other = keys.create(project, "other app", ["infer"], alice)[1]
    ask(sdk.with_options(api_key=other))
    ask(sdk)
    pairs(1)
    assert outcomes(gateway.url, "answered") == 1
    assert ShadowPair.objects.count() == 1


def test_the_same_answer_twice_is_no_question(
    sdk: Any, gateway: Any, project: Any, current: Any, key: ApiKey, make_adapter: Any
) -> None:
    same = make_adapter(22, 0.0)
    trials.set_shadow(project, "current", same, 1.0, [key], actor=None, reason="x")
    ask(sdk)
    until(lambda: Exchange.objects.filter(shadow=True).exists())
    assert not ShadowPair.objects.exists()
    assert StoredCompletion.objects.count() == 1


def test_the_client_does_not_wait_for_it(
    sdk: Any, shadow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers come while a shadow hangs."""
    import asyncio

    hanging: list[bool] = []

    async def hang(self: Any, one: Any) -> str:
        hanging.append(True)
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(shadows.Shadows, "_shadow", hang)
    for _ in range(4):
        assert ask(sdk).choices
    until(lambda: len(hanging) == shadows.AT_ONCE)


def test_what_does_not_fit_the_line_is_dropped(
    sdk: Any, gateway: Any, shadow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    async def hang(self: Any, one: Any) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(shadows.Shadows, "_shadow", hang)
    for _ in range(shadows.AT_ONCE + shadows.MOST_WAITING + 3):
        ask(sdk, max_tokens=1)
    until(lambda: outcomes(gateway.url, "dropped") >= 3)


def test_under_load_it_is_dropped(
    sdk: Any, gateway: Any, shadow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows, "MOST_BUSY", -1)
    ask(sdk)
    until(lambda: outcomes(gateway.url, "dropped") == 1)
    assert not ShadowPair.objects.exists()


def test_while_the_engine_is_lent_it_is_dropped(
    sdk: Any, gateway: Any, shadow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    real, go = shadows.Shadows._shadow, asyncio.Event()
    loops: list[Any] = []

    async def later(self: Any, one: Any) -> str:
        loops.append(asyncio.get_running_loop())
        await go.wait()
        return await real(self, one)

    monkeypatch.setattr(shadows.Shadows, "_shadow", later)
    ask(sdk)
    until(lambda: loops)
    Loan.objects.create(job="00000000-0000-0000-0000-000000000001", epoch=1)
    time.sleep(0.2)  # longer than the gateway remembers that there was none
    loops[0].call_soon_threadsafe(go.set)
    until(lambda: outcomes(gateway.url, "dropped") == 1)
    Loan.objects.all().delete()


def test_pairs_become_comparisons_that_people_answer_blind(
    sdk: Any, project: Any, current: Any, shadow: Any
) -> None:
    reply = ask(sdk)
    (pair,) = pairs(1)
    campaign = open_campaign(project, comparisons=0)
    assert ("Shadow answers", 1) in review.waiting(project)
    assert review.fill(campaign, 10, random.Random(1)) == review.Done(made=1)
    comparison = Comparison.objects.get()
    slots = [slot.completion for slot in comparison.slots.select_related("completion")]
    assert {one.policy for one in slots} == {current, shadow}
    assert comparison.prompt.messages == ASK
    assert comparison.why["signal"] == "shadow"
    assert comparison.why["served as"] == reply.id
    pair.refresh_from_db()
    assert pair.comparison == comparison
    assert not Ballot.objects.exists()
    with pytest.raises(ValueError, match="Nothing that clients said"):
        review.fill(campaign, 10, random.Random(1))


def test_forgetting_a_user_deletes_what_was_shadowed(sdk: Any, project: Any, shadow: Any) -> None:
    ask(sdk, user="user-1")
    pairs(1)
    ask(sdk, user="user-2")
    first, second = pairs(2)
    review.fill(open_campaign(project, comparisons=0), 1, random.Random(1))
    gone = forgetting.forget(project.pk, ids.end_user(project.pk, "user-1"))
    assert gone["stored_completions"] == 2
    assert gone["shadow_answers"] == 1
    assert gone["put_before_people"] == 1
    assert list(ShadowPair.objects.all()) == [second]
    assert not Completion.objects.exists()
    assert not Prompt.objects.exists()
    assert StoredCompletion.objects.filter(completion_id=first.shadow).count() == 0


def test_a_user_who_is_forgotten_meanwhile_leaves_no_shadow(
    sdk: Any, gateway: Any, project: Any, shadow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storing.Store.add_shadow
    added: list[bool] = []

    def forgotten_first(self: Any, served: Any, *rest: Any) -> None:
        def forget() -> None:
            forgetting.forget(project.pk, ids.end_user(project.pk, "user-1"))

        self._write("forgetting", forget)  # it comes before, in the thread that writes
        real(self, served, *rest)
        added.append(True)

    monkeypatch.setattr(storing.Store, "add_shadow", forgotten_first)
    ask(sdk, user="user-1")
    until(lambda: added)
    ask(sdk, user="user-2")
    monkeypatch.setattr(storing.Store, "add_shadow", real)
    until(lambda: len(added) == 2 or ShadowPair.objects.exists())
    hers = ids.end_user(project.pk, "user-1")
    assert not ShadowPair.objects.filter(end_user=hers).exists()
    assert not StoredCompletion.objects.filter(end_user=hers).exists()


def test_texts_past_their_day_take_the_pair_along(sdk: Any, shadow: Any, settings: Any) -> None:
    ask(sdk)
    pairs(1)
    old = timezone.now() - timedelta(days=settings.KEEP_TEXTS_DAYS + 1)
    ShadowPair.objects.update(created_at=old)
    StoredCompletion.objects.update(expires_at=old)
    assert storing.purge() == 2
    assert not ShadowPair.objects.exists()


def test_a_researcher_starts_and_ends_a_shadow_on_the_page(
    project: Any, current: Any, key: ApiKey, make_adapter: Any, alice: Any, client_for: Any
) -> None:
    policy, browser = make_adapter(23), client_for(alice)
    page = "/p/alpha/routing/current/shadow/"
    form = {"policy": str(policy.pk), "percent": "25", "reason": "Compare"}
    refused = browser.post(page, form)
    assert refused.status_code == 422
    assert "Choose at least one key whose requests may be shadowed." in _text(refused)
    done = browser.post(page, {**form, "keys": [str(key.pk)]}, follow=True)
    assert f"{policy.name} shadows 25.0% of the requests to current that agree." in _text(done)
    deployment = Deployment.objects.get()
    assert (deployment.shadow, deployment.shadow_share) == (policy, 0.25)
    assert list(deployment.shadow_keys.all()) == [key]
    ended = browser.post(f"{page}end/", {"reason": "Enough"}, follow=True)
    assert "current is shadowed no more" in _text(ended)
    deployment.refresh_from_db()
    assert (deployment.shadow, deployment.shadow_keys.count()) == (None, 0)


def _text(response: Any) -> str:
    return unescape(response.content.decode())
