"""The chat page: answers written as any client's, in a member's name; what they say is feedback."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from plumbline.collect.models import Campaign
from plumbline.gateway import ids, review, storing, usage
from plumbline.gateway.models import (
    ChatAnswer,
    ClientComparison,
    Exchange,
    Feedback,
    StoredCompletion,
    Usage,
)
from plumbline.policies import serving
from tests.collect.live_ground import serve_base
from tests.faulty_engine import FaultyEngine
from tests.fleet.house import Redis, redis  # noqa: F401  # a fixture

HELLO = [{"role": "user", "content": "What is the capital of France?"}]


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, list(ChatAnswer.objects.values())
        time.sleep(0.03)
    return found


class Page:
    """What the page's script sends, by a member."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def post(self, where: str, body: object, status: int = 200) -> Any:
        raw = body if isinstance(body, str) else json.dumps(body)
        reply = self.client.post(f"/p/alpha/chat/{where}/", raw, content_type="application/json")
        assert reply.status_code == status, reply.content
        return reply.json()

    def ask(self, *sides: str, status: int = 200, **more: Any) -> Any:
        wish = {"turn": str(uuid.uuid4()), "messages": HELLO, "sides": sides or ["current"]}
        told = self.post("ask", {"keep": True, "max_tokens": 8, **wish, **more}, status)
        return told["answers"] if status == 200 else told["error"]

    def news(self, *answers: Any) -> list[Any]:
        query = {one["id"]: 0 for one in answers}
        return list(self.client.get("/p/alpha/chat/news/", query).json()["answers"])

    def ended(self, *answers: Any) -> list[Any]:
        ends = {"done", "failed", "stopped"}
        until(lambda: {one["state"] for one in self.news(*answers)} <= ends)
        return self.news(*answers)

    def say(self, body: object, status: int = 200) -> Any:
        return self.post("say", body, status)


@pytest.fixture
def page(alice: Any, client_for: Callable[[Any], Any]) -> Page:
    return Page(client_for(alice))


@pytest.fixture
def pair(project: Any, alice: Any) -> list[ChatAnswer]:
    """Two whole answers to one message, compared blind, kept."""
    policy, turn = serve_base(project), uuid.uuid4()
    made = []
    for place, text in enumerate(("Paris.", "Lyon, **I think**.")):
        name = ids.completion("chatcmpl", uuid.uuid4().hex, project.pk)
        common = {"project": project, "policy": policy, "completion_id": name}
        StoredCompletion.objects.create(
            messages=HELLO,
            answers=[{"text": text, "finish_reason": "stop"}],
            expires_at=timezone.now() + timedelta(days=1),
            **common,
        )
        shown = {"turn": turn, "place": place, "blind": True, "keep": True, "asked_for": "current"}
        made.append(
            ChatAnswer.objects.create(user=alice, state="done", text=text, **shown, **common)
        )
    return made


def test_an_answer_is_written_and_counts_as_the_members_own(
    gateway: Any, current: Any, page: Page, alice: Any, project: Any
) -> None:
    (begun,) = page.ask(temperature=0, seed=1)
    (told,) = page.ended(begun)
    assert told["state"] == "done", told
    assert (told["asked_for"], told["policy"]) == ("current", current.name)
    assert told["more"] in told["html"]
    assert 0 < told["tokens"] <= 8
    row = ChatAnswer.objects.get()
    assert row.asked is None, "what was asked is nowhere any more"
    exchange = until(lambda: Exchange.objects.filter(completion_id=row.completion_id).first())
    assert (exchange.user, exchange.api_key, exchange.policy) == (alice, None, current)
    assert (exchange.status, exchange.completion_tokens) == (200, told["tokens"])
    spent = usage.spent_by_member(project.pk, alice.pk, timezone.now().date())
    assert spent == exchange.prompt_tokens + exchange.completion_tokens
    assert Usage.objects.get().user == alice
    stored = until(lambda: StoredCompletion.objects.first())
    assert (stored.answers[0]["text"], stored.messages) == (told["more"], HELLO)
    assert stored.end_user == ids.end_user(project.pk, "member:alice")
    assert b"Chat: alice" in page.client.get("/p/alpha/usage/?key=chat").content
    assert b"Chat: alice" in page.client.get("/p/alpha/usage/usage.csv").content


def test_what_is_not_to_be_kept_is_not_kept(gateway: Any, current: Any, page: Page) -> None:
    (told,) = page.ended(*page.ask(keep=False))
    assert told["state"] == "done"
    until(lambda: Exchange.objects.exists())
    page.say({"answer": told["id"], "score": 1})
    said = page.say({"answer": told["id"], "score": 0, "correction": "Paris."}, 400)
    assert "consent" in said["error"]
    assert not Feedback.objects.get().consent_train
    assert not StoredCompletion.objects.exists()


def test_one_sides_trouble_leaves_the_other_alone_and_is_tried_again(
    engine: Any, start_gateway: Any, page: Page, promote: Any, project: Any, settings: Any
) -> None:
    relay = FaultyEngine(engine.port)
    start_gateway(relay.url)
    promote(serving.base_policy(project))
    relay.break_off, relay.pieces = 1, 1
    turn = str(uuid.uuid4())
    answers = page.ended(*page.ask("current", "current", turn=turn))
    assert sorted(one["state"] for one in answers) == ["done", "failed"]
    (failed,) = (one for one in answers if one["state"] == "failed")
    assert failed["trouble"] == "The engine stopped in the middle of its answer."
    said = page.say({"turn": turn, "verdict": "first"}, 409)
    assert "come to their ends" in said["error"]
    page.ask("current", "current", turn=turn, again=failed["id"])
    both = page.ended(*answers)
    assert [one["state"] for one in both] == ["done", "done"]
    relay.close()


def test_stopping_lets_go_of_the_engine_and_keeps_what_was_seen(
    engine: Any, start_gateway: Any, page: Page, promote: Any, make_adapter: Any, settings: Any
) -> None:
    settings.ENGINE_URL = engine.url
    promote(make_adapter(3, scale=0.5))
    relay = FaultyEngine(engine.port)
    start_gateway(relay.url)
    relay.pause = 0.05
    (begun,) = page.ask(max_tokens=200)
    until(lambda: len(page.news(begun)[0]["more"]) > 4)
    (told,) = page.post("stop", {"answers": [begun["id"]]})["answers"]
    assert told["state"] == "stopped"
    assert told["more"]
    until(lambda: relay.left == [True])
    assert Feedback.objects.get().key == "stopped"
    assert until(lambda: Exchange.objects.first()).status == 499
    relay.close()


def test_trouble_is_told_in_words(start_gateway: Any, page: Page, project: Any) -> None:
    serve_base(project)
    start_gateway("http://127.0.0.1:9")
    (told,) = page.ended(*page.ask())
    assert (told["state"], told["trouble"]) == (
        "failed",
        "The engine is not available at the moment.",
    )


def test_a_members_requests_a_minute_hold(
    gateway: Any,
    current: Any,
    page: Page,
    redis: Redis,  # noqa: F811
    settings: Any,
) -> None:
    redis.client().flushall()
    settings.CHAT_REQUESTS_PER_MINUTE = 1
    assert page.ended(*page.ask())[0]["state"] == "done"
    (told,) = page.ended(*page.ask())
    assert told["trouble"] == "You may ask for 1 answers a minute here."


def test_asking_twice_begins_once_and_only_so_many_at_once(page: Page, project: Any) -> None:
    serve_base(project)
    turn = str(uuid.uuid4())
    first, again = page.ask(turn=turn), page.ask(turn=turn)
    assert [one["id"] for one in first] == [one["id"] for one in again]
    for _ in range(3):
        page.ask()
    assert "4 of your answers are being written" in page.ask(status=429)
    assert ChatAnswer.objects.count() == 4


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"sides": ["nobody"]}, 404, "nobody cannot be asked"),
        ({"sides": []}, 400, "one policy or two"),
        ({"sides": [["current"]]}, 400, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0]"),
        ({"temperature": 9}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"turn": "mine"}, 400, "turn"),
        ({"again": str(uuid.uuid4())}, 404, "no longer here"),
        ({"tools": []}, 400, "tools"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    page: Page, project: Any, change: dict[str, Any], status: int, words: str
) -> None:
    serve_base(project)
    assert words in page.ask(status=status, **change)
    assert not ChatAnswer.objects.exists()


def test_a_blind_pairs_names_come_with_the_verdict(page: Page, pair: list[ChatAnswer]) -> None:
    before = json.dumps(page.news(*({"id": str(one.pk)} for one in pair)))
    assert pair[0].policy is not None
    assert pair[0].policy.name not in before
    assert "current" not in before
    told = page.say({"turn": str(pair[0].turn), "verdict": "second"})["answers"]
    assert [one["policy"] for one in told] == [pair[0].policy.name] * 2


def test_a_preference_is_a_clients_comparison_in_the_members_name(
    page: Page, pair: list[ChatAnswer], alice: Any
) -> None:
    turn = str(pair[0].turn)
    for _ in range(2):  # a lost reply is asked for again
        page.say({"turn": turn, "verdict": "second"})
    row = ClientComparison.objects.get()
    assert (row.user, row.api_key, row.consent_train) == (alice, None, True)
    assert row.ranking == [[1], [0]]
    assert [one["completion_id"] for one in row.responses] == [one.completion_id for one in pair]
    page.say({"turn": turn, "verdict": "tie"})
    assert ClientComparison.objects.get().ranking == [[0, 1]]
    page.say({"turn": turn, "verdict": "bad"})
    assert not ClientComparison.objects.exists()
    assert {(one.key, one.score) for one in Feedback.objects.all()} == {("both_bad", 0.0)}
    page.say({"turn": turn, "verdict": None})
    assert not Feedback.objects.exists()


def test_people_are_asked_about_it_and_then_it_stays(
    page: Page, pair: list[ChatAnswer], project: Any
) -> None:
    turn = str(pair[0].turn)
    page.say({"turn": turn, "verdict": "first"})
    campaign = Campaign.objects.create(project=project, name="From here")
    assert review.fill(campaign, 10, random.Random(1)).made == 1
    why = campaign.comparisons.get().why
    assert why["said by"] == "alice, on the chat page"
    assert "already being asked" in page.say({"turn": turn, "verdict": None}, 409)["error"]
    assert ClientComparison.objects.get().comparison is not None


def test_a_thumb_may_be_explained_changed_and_taken_back(
    page: Page, pair: list[ChatAnswer], alice: Any
) -> None:
    answer = str(pair[1].pk)
    page.say({"answer": answer, "score": 1})
    page.say({"answer": answer, "score": 0, "comment": "Wrong.", "correction": "Paris."})
    row = Feedback.objects.get()
    assert (row.user, row.key, row.score, row.comment) == (alice, "thumbs", 0.0, "Wrong.")
    assert (row.correction, row.completion_id) == ("Paris.", pair[1].completion_id)
    page.say({"answer": answer, "score": None})
    assert not Feedback.objects.exists()
    for score in (7, True, "good", [1]):
        page.say({"answer": answer, "score": score}, 400)


def test_copying_and_writing_again_are_weak_evidence(page: Page, pair: list[ChatAnswer]) -> None:
    answer = str(pair[0].pk)
    for _ in range(2):
        page.say({"answer": answer, "did": "copied"})
    (after,) = page.ask(instead_of=answer)
    follower = ChatAnswer.objects.get(pk=after["id"]).completion_id
    said = {one.key: one.other for one in Feedback.objects.all()}
    assert said == {"copied": "", "regenerated": follower}


def test_nobody_reads_stops_or_judges_anothers_answers(
    pair: list[ChatAnswer], dana: Any, client_for: Callable[[Any], Any]
) -> None:
    other = Page(client_for(dana))
    assert other.news(*({"id": str(one.pk)} for one in pair)) == []
    assert other.post("stop", {"answers": [str(pair[0].pk)]})["answers"] == []
    other.say({"answer": str(pair[0].pk), "score": 1}, 404)
    other.say({"turn": str(pair[0].turn), "verdict": "first"}, 404)
    assert not Feedback.objects.exists()


def test_the_page_offers_what_can_be_asked(
    page: Page, project: Any, bob: Any, client_for: Callable[[Any], Any]
) -> None:
    assert b"Nothing is served yet" in page.client.get("/p/alpha/chat/").content
    policy = serve_base(project)
    shown = page.client.get("/p/alpha/chat/").content.decode()
    assert f"current (now {policy.name})" in shown
    assert 'data-first="current"' in shown
    assert "plk_" not in shown
    assert client_for(bob).get("/p/alpha/chat/").status_code == 403
    assert b"/chat/" not in client_for(bob).get("/p/alpha/").content


def test_a_dead_writers_answer_has_broken_off_though_no_gateway_runs(
    page: Page, pair: list[ChatAnswer]
) -> None:
    late = timezone.now() - timedelta(minutes=1)
    ChatAnswer.objects.update(state="writing", text="Half an", writer=uuid.uuid4(), beat_at=late)
    (told,) = page.news({"id": str(pair[0].pk)})
    assert (told["state"], told["more"]) == ("failed", "Half an")


def test_texts_leave_the_page_within_an_hour(pair: list[ChatAnswer]) -> None:
    ChatAnswer.objects.update(created_at=timezone.now() - timedelta(hours=2))
    storing.purge()
    assert set(ChatAnswer.objects.values_list("text", flat=True)) == {""}
    ChatAnswer.objects.update(created_at=timezone.now() - timedelta(days=2))
    storing.purge()
    assert not ChatAnswer.objects.exists()
