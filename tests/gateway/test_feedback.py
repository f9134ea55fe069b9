"""Feedback, comparisons and links over HTTP, as client apps send them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey
from plumbline.collect.models import Ballot, Comparison
from plumbline.gateway import links, storing
from plumbline.gateway.models import ClientComparison, Exchange, Feedback, StoredCompletion
from plumbline.policies import serving
from tests.gateway.clients import compared, feedback, named, stored


@pytest.fixture
def url(start_gateway: Callable[[str], Any]) -> str:
    """A gateway whose engine is away: feedback needs none."""
    return str(start_gateway("http://127.0.0.1:9").url)


@pytest.fixture
def api(url: str, project: Any, alice: Any) -> Iterator[httpx.Client]:
    _, secret = keys.create(project, "app", ["feedback"], alice)
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def test_feedback_is_taken_and_found_again(api: httpx.Client, project: Any) -> None:
    about = named(project)
    sent = {"completion_id": about, "key": "thumbs", "score": 1, "comment": "Just right."}
    reply = api.post("/v1/feedback", json=sent)
    assert reply.status_code == 202
    said = reply.json()
    assert said | sent == said
    assert (said["object"], said["in_review"], said["consent_train"]) == ("feedback", False, False)
    assert api.get(f"/v1/feedback/{said['id']}").json() == said


def test_feedback_comes_before_its_answer_is_written_down(api: httpx.Client, project: Any) -> None:
    about = named(project)
    said = api.post("/v1/feedback", json={"completion_id": about, "key": "copied"}).json()
    assert said["model"] is None
    Exchange.objects.create(
        project=project, policy=serving.base_policy(project), completion_id=about,
        status=200, latency_ms=1,
    )  # fmt: skip
    assert api.get(f"/v1/feedback/{said['id']}").json()["model"] == "alpha-base"


def test_the_same_said_twice_is_one_and_other_words_are_refused(
    api: httpx.Client, project: Any
) -> None:
    sent = {"completion_id": named(project), "key": "rating", "score": 4, "feedback_id": "r-1"}
    first, second = (api.post("/v1/feedback", json=sent) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first.json()["id"] == "r-1"
    other = api.post("/v1/feedback", json={**sent, "score": 5})
    assert other.status_code == 409
    error = other.json()["error"]
    assert (error["param"], error["code"]) == ("feedback_id", "idempotency_conflict")
    assert Feedback.objects.get().score == 4


def test_twenty_times_the_same_at_once_is_one_row(api: httpx.Client, project: Any) -> None:
    sent = {"completion_id": named(project), "key": "thumbs", "score": 0, "feedback_id": "x"}
    codes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: codes.append(api.post("/v1/feedback", json=sent).status_code)
        )
        for _ in range(20)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert codes == [202] * 20
    assert Feedback.objects.count() == 1


def test_the_idempotency_key_of_an_sdk_names_what_has_no_name(
    api: httpx.Client, project: Any
) -> None:
    sent = {"completion_id": named(project), "key": "thumbs", "score": 1}
    header = {"idempotency-key": "sdk-retry-7"}
    said = [api.post("/v1/feedback", json=sent, headers=header).json() for _ in range(2)]
    assert said[0] == said[1]
    assert said[0]["id"] == "sdk-retry-7"


def test_an_answer_of_another_project_does_not_exist(
    api: httpx.Client, project: Any, charlie: Any
) -> None:
    other = charlie.projects.get()
    unwritten, written = named(other), stored(other, "Paris.").completion_id
    for about in (unwritten, written, "chatcmpl-nothing", "chatcmpl-é" + "0" * 40):
        reply = api.post("/v1/feedback", json={"completion_id": about, "key": "thumbs"})
        assert reply.status_code == 404
        assert reply.json()["error"]["param"] == "completion_id"
        two = [{"completion_id": about}, "Lyon."]
        sent = {"prompt": "?", "responses": two, "chosen": 0, "consent_train": True}
        assert api.post("/v1/comparisons", json=sent).status_code == 404
        assert api.post("/v1/feedback/links", json={"completion_id": about}).status_code == 404
    feedback(stored(other, "Paris."), name="theirs")
    compared(other, [[0], [1]], "a", "b", name="theirs")
    assert api.get("/v1/feedback/theirs").status_code == 404
    assert api.get("/v1/comparisons/theirs").status_code == 404


def test_a_regenerated_answer_names_one_that_is_there_and_is_another(
    api: httpx.Client, project: Any
) -> None:
    first, second = named(project), named(project)
    sent = {"completion_id": first, "key": "regenerated"}
    assert api.post("/v1/feedback", json={**sent, "value": second}).status_code == 202
    assert api.post("/v1/feedback", json=sent).status_code == 202  # which, it need not say
    assert {one.other for one in Feedback.objects.all()} == {second, ""}
    for value, status in (("chatcmpl-nothing", 404), (first, 400), (7, 400)):
        reply = api.post("/v1/feedback", json={**sent, "value": value})
        assert (reply.status_code, reply.json()["error"]["param"]) == (status, "value")


def test_a_key_without_the_scope_may_not(url: str, project: Any, alice: Any) -> None:
    _, secret = keys.create(project, "reads", ["infer"], alice)
    headers = {"authorization": f"Bearer {secret}"}
    sent = {"completion_id": named(project), "key": "thumbs"}
    reply = httpx.post(url + "/v1/feedback", json=sent, headers=headers, trust_env=False)
    assert reply.status_code == 403
    assert reply.json()["error"]["message"] == "This API key may not send feedback."
    assert httpx.post(url + "/v1/feedback", json=sent, trust_env=False).status_code == 401


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"key": None}, "key"),
        ({"key": "x" * 41}, "key"),
        ({"completion_id": None}, "completion_id"),
        ({"score": "good"}, "score"),
        ({"score": 1e9}, "score"),
        ({"value": ["a"]}, "value"),
        ({"value": 10**400}, "value"),
        ({"score": 10**400}, "score"),
        ({"comment": "x" * 4001}, "comment"),
        ({"comment": "a\0b"}, "comment"),
        ({"choice": -1}, "choice"),
        ({"consent_train": "yes"}, "consent_train"),
        ({"feedback_id": "a b"}, "feedback_id"),
        ({"end_user": 7}, "end_user"),
        ({"correction": "Paris."}, "consent_train"),
        ({"correction": {"words": "x"}, "consent_train": True}, "correction"),
        ({"correction": "", "consent_train": True}, "correction"),
        ({"correction": "a", "text": "b", "consent_train": True}, "text"),
        (
            {"correction": {"messages": [{"role": "user", "content": "x"}]}, "consent_train": True},
            "correction.messages",
        ),
        ({"rating": 3}, "rating"),
    ],
)
def test_what_is_wrong_with_feedback_is_named(
    api: httpx.Client, project: Any, changes: dict[str, Any], param: str
) -> None:
    sent = {"completion_id": named(project), "key": "thumbs", **changes}
    reply = api.post("/v1/feedback", json=sent)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert not Feedback.objects.exists()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"responses": ["a"]}, "responses"),
        ({"responses": ["a"] * 10}, "responses"),
        ({"responses": ["a", {}]}, "responses[1]"),
        ({"responses": ["a", {"text": "b", "x": 1}]}, "responses[1]"),
        ({"chosen": 2}, "chosen"),
        ({"chosen": None}, "ranking"),
        ({"ranking": [0, 1]}, "ranking"),
        ({"chosen": None, "ranking": [0, 0]}, "ranking"),
        ({"chosen": None, "ranking": [0]}, "ranking"),
        ({"chosen": None, "tie_groups": [[0, True]]}, "tie_groups"),
        ({"chosen": None, "tie_groups": [[0, 1], []]}, "tie_groups"),
        ({"prompt": None}, "prompt"),
        ({"messages": [{"role": "user", "content": "?"}]}, "prompt"),
        ({"consent_train": False}, "consent_train"),
        ({"winner": 1}, "winner"),
    ],
)
def test_what_is_wrong_with_a_comparison_is_named(
    api: httpx.Client, changes: dict[str, Any], param: str
) -> None:
    sent = {"prompt": "?", "responses": ["a", "b"], "chosen": 0, "consent_train": True, **changes}
    reply = api.post("/v1/comparisons", json=sent)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert not ClientComparison.objects.exists()


def test_a_comparison_is_kept_in_groups_the_best_first(api: httpx.Client, project: Any) -> None:
    about = named(project)
    sent = {
        "comparison_id": "c-1",
        "messages": [{"role": "user", "content": "Name a city."}],
        "responses": ["Paris.", {"completion_id": about}, {"text": "A city."}],
        "consent_train": True,
    }
    reply = api.post("/v1/comparisons", json={**sent, "ranking": [1, [0, 2]]})
    assert reply.status_code == 202
    said = reply.json()
    assert said["tie_groups"] == [[1], [0, 2]]
    assert said["responses"][1] == {"completion_id": about, "choice": 0}
    assert api.get("/v1/comparisons/c-1").json() == said
    assert api.post("/v1/comparisons", json={**sent, "ranking": [1, [0, 2]]}).json() == said
    assert api.post("/v1/comparisons", json={**sent, "chosen": 0}).status_code == 409


def test_who_an_end_user_is_is_not_kept(api: httpx.Client, project: Any) -> None:
    sent = {"completion_id": named(project), "key": "thumbs", "end_user": "ada@example.org"}
    first = api.post("/v1/feedback", json=sent)
    assert "example.org" not in first.text
    api.post("/v1/feedback", json={**sent, "end_user": "bob@example.org"})
    kept = [one.end_user for one in Feedback.objects.order_by("created_at")]
    assert len(set(kept)) == 2
    assert all(len(one) == 64 and "@" not in one for one in kept)


def use(link: str, said: dict[str, Any]) -> httpx.Response:
    """What a browser on somebody's page does: no key, another origin."""
    headers = {"origin": "https://app.example"}
    return httpx.post(link, json=said, headers=headers, trust_env=False)


def test_a_browser_gives_feedback_through_a_link_without_a_key(
    api: httpx.Client, project: Any
) -> None:
    about = named(project)
    made = api.post("/v1/feedback/links", json={"completion_id": about, "end_user": "ada"})
    assert made.status_code == 201
    link = made.json()["url"]
    asked = httpx.options(
        link,
        headers={"origin": "https://app.example", "access-control-request-method": "POST"},
        trust_env=False,
    )
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
    assert asked.headers["access-control-allow-headers"] == "content-type"
    reply = use(link, {"key": "thumbs", "score": 0})
    assert reply.status_code == 202
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers
    row = Feedback.objects.get()
    assert (row.completion_id, row.score, row.by_link) == (about, 0, True)
    assert row.end_user
    assert api.get(f"/v1/feedback/{made.json()['id']}").json()["key"] == "thumbs"


def test_a_link_takes_one_word_and_the_same_again_after_a_lost_reply(
    api: httpx.Client, project: Any
) -> None:
    link = api.post("/v1/feedback/links", json={"completion_id": named(project)}).json()["url"]
    assert use(link, {"key": "thumbs", "score": 1}).status_code == 202
    assert use(link, {"key": "thumbs", "score": 1}).status_code == 202
    again = use(link, {"key": "thumbs", "score": 0})
    assert again.status_code == 409
    assert again.headers["access-control-allow-origin"] == "*"
    assert Feedback.objects.get().score == 1


def test_a_link_says_only_what_was_signed(api: httpx.Client, project: Any) -> None:
    link = api.post("/v1/feedback/links", json={"completion_id": named(project)}).json()["url"]
    base, token = link.rsplit("/", 1)
    payload, signature = token.split(".")
    for forged in (payload, f"{payload}.", f"A{payload[1:]}.{signature}", f"{payload}.{'0' * 64}"):
        assert use(f"{base}/{forged}", {"key": "thumbs"}).status_code == 404
    for name in ("completion_id", "end_user", "feedback_id"):
        reply = use(link, {"key": "thumbs", name: "x"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
    assert not Feedback.objects.exists()


def test_a_link_ends_with_its_time_and_with_its_key(api: httpx.Client, project: Any) -> None:
    key = ApiKey.objects.get()
    token, _ = links.make(project.pk, key.pk, named(project), 0, "", 0)
    late = use(str(api.base_url).rstrip("/") + f"/v1/feedback/links/{token}", {"key": "thumbs"})
    assert (late.status_code, late.json()["error"]["code"]) == (410, "link_expired")
    link = api.post("/v1/feedback/links", json={"completion_id": named(project)}).json()["url"]
    ApiKey.objects.update(revoked_at=timezone.now())
    assert use(link, {"key": "thumbs"}).status_code == 410
    assert not Feedback.objects.exists()


def test_a_browser_with_a_key_gets_no_permission_from_other_addresses(api: httpx.Client) -> None:
    reply = api.options("/v1/feedback", headers={"origin": "https://app.example"})
    assert "access-control-allow-origin" not in reply.headers


def test_texts_go_when_their_day_has_come(transactional_db: None, project: Any) -> None:
    old, young = stored(project, "Paris."), stored(project, "Lyon.")
    said = [feedback(old, correction="Paris!", comment="hm"), feedback(young, correction="Lyon!")]
    both = [compared(project, [[0], [1]], "a", "b") for _ in range(2)]
    ago = timezone.now() - timedelta(days=31)
    StoredCompletion.objects.filter(pk=old.pk).update(expires_at=ago)
    Feedback.objects.filter(pk=said[0].pk).update(created_at=ago)
    ClientComparison.objects.filter(pk=both[0].pk).update(created_at=ago)
    storing.purge()
    assert StoredCompletion.objects.get() == young
    assert {one.correction for one in Feedback.objects.all()} == {"", "Lyon!"}
    assert {len(one.responses) for one in ClientComparison.objects.all()} == {0, 2}


def test_an_end_user_is_forgotten_but_for_what_has_votes(
    api: httpx.Client, project: Any, bob: Any
) -> None:
    import random
    from uuid import uuid4

    from plumbline.collect import queue
    from plumbline.collect.models import Completion, Prompt
    from plumbline.gateway import review
    from tests.comparisons import open_campaign

    campaign = open_campaign(project, comparisons=0)
    voted = stored(project, "Paris.", user="ada")
    feedback(voted, correction="It is Paris.")
    review.fill(campaign, 10, random.Random(1))
    ballot = queue.claim_next(bob, campaign)
    assert ballot is not None
    queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]], strength=1), uuid4())
    feedback(stored(project, "Lyon.", question="And the second?", user="ada"), correction="Nice.")
    review.fill(campaign, 10, random.Random(1))
    other = stored(project, "Rome.", question="Italy?", user="eve")
    reply = api.post("/v1/end_users/forget", json={"end_user": "ada"}).json()
    assert (reply["stored_completions"], reply["put_before_people"]) == (2, 1)
    assert (reply["kept_with_votes"], reply["kept_prompts"]) == (1, 1)
    (kept,) = Comparison.objects.all()
    assert kept.retired_at is not None
    assert Ballot.objects.filter(comparison=kept).exists()
    assert Completion.objects.count() == 2
    assert Prompt.objects.count() == 1
    assert StoredCompletion.objects.get() == other
