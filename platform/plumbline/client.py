"""A small client for what OpenAI's SDK has no words for: feedback, comparisons, links.

    from plumbline.client import Plumbline

    with Plumbline("https://gateway.example", "plk_...") as client:
        client.feedback(reply.id, "thumbs", score=0, comment="Too long.")

It needs httpx and nothing else of Plumbline. Everything that is sent has a name of its own, so that
it is tried again after a lost connection or a busy gateway without being taken twice.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict
from urllib.parse import quote

import httpx

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE = 30.0  # seconds


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class Feedback(TypedDict):
    id: str
    object: Literal["feedback"]
    created: int
    completion_id: str
    choice: int
    model: str | None
    key: str
    score: float | None
    value: str | float | bool | None
    comment: str | None
    correction: str | None
    consent_train: bool
    in_review: bool


class Comparison(TypedDict):
    id: str
    object: Literal["comparison"]
    created: int
    messages: list[Message] | None
    responses: list[dict[str, Any]]
    tie_groups: list[list[int]]
    comment: str | None
    consent_train: bool
    in_review: bool


class Link(TypedDict):
    object: Literal["feedback.link"]
    id: str
    url: str
    completion_id: str
    expires_at: int


class Forgotten(TypedDict):
    object: Literal["end_user.forgotten"]
    stored_completions: int
    feedback: int
    comparisons: int
    put_before_people: int
    kept_with_votes: int
    kept_prompts: int


class PlumblineError(Exception):
    """The gateway said no, or could not be reached (`status` 0). `param` names what was wrong."""

    def __init__(
        self, message: str, status: int, param: str | None, code: str | None, request_id: str
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.request_id = status, param, code, request_id


class Plumbline:
    """`url`: the gateway's, with or without /v1. `key`: one that may send feedback."""

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, retries: int = 4) -> None:
        self._retries = retries
        self._http = httpx.Client(
            base_url=url.rstrip("/").removesuffix("/v1") + "/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=timeout,
        )

    def __enter__(self) -> Plumbline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def feedback(
        self,
        completion_id: str,
        key: str,
        *,
        score: float | bool | None = None,
        value: str | float | bool | None = None,
        comment: str | None = None,
        correction: str | None = None,
        choice: int = 0,
        end_user: str | None = None,
        consent_train: bool = False,
        feedback_id: str | None = None,
    ) -> Feedback:
        """Say something of an answer. A `correction` needs `consent_train`. The same `feedback_id`
        gives the same feedback; without one, each call says something new."""
        sent = {
            "completion_id": completion_id,
            "key": key,
            "score": score,
            "value": value,
            "comment": comment,
            "correction": correction,
            "choice": choice,
            "end_user": end_user,
            "consent_train": consent_train,
            "feedback_id": feedback_id or str(uuid.uuid4()),
        }
        found: Feedback = self._ask("POST", "/feedback", sent)
        return found

    def get_feedback(self, feedback_id: str) -> Feedback:
        found: Feedback = self._ask("GET", f"/feedback/{quote(feedback_id, safe='')}")
        return found

    def compare(
        self,
        responses: Sequence[str | Mapping[str, Any]],
        *,
        chosen: int | None = None,
        ranking: Sequence[int | Sequence[int]] | None = None,
        prompt: str | None = None,
        messages: Sequence[Message] | None = None,
        comment: str | None = None,
        end_user: str | None = None,
        consent_train: bool = False,
        comparison_id: str | None = None,
    ) -> Comparison:
        """Say which of two to nine answers is best (`chosen`), or all of their order (`ranking`,
        the best first; answers in one list tie). An answer is a text, or `{"completion_id": ...}`.
        """
        sent = {
            "responses": list(responses),
            "chosen": chosen,
            "ranking": None if ranking is None else list(ranking),
            "prompt": prompt,
            "messages": None if messages is None else list(messages),
            "comment": comment,
            "end_user": end_user,
            "consent_train": consent_train,
            "comparison_id": comparison_id or str(uuid.uuid4()),
        }
        found: Comparison = self._ask("POST", "/comparisons", sent)
        return found

    def get_comparison(self, comparison_id: str) -> Comparison:
        found: Comparison = self._ask("GET", f"/comparisons/{quote(comparison_id, safe='')}")
        return found

    def link(
        self,
        completion_id: str,
        *,
        choice: int = 0,
        end_user: str | None = None,
        expires_in: int | None = None,
    ) -> Link:
        """A link that a browser may POST feedback to, once and without a key."""
        sent = {
            "completion_id": completion_id,
            "choice": choice,
            "end_user": end_user,
            "expires_in": expires_in,
        }
        found: Link = self._ask("POST", "/feedback/links", sent)
        return found

    def forget(self, end_user: str) -> Forgotten:
        """Delete what is kept of one of your users; the reply counts what goes and what stays."""
        found: Forgotten = self._ask("POST", "/end_users/forget", {"end_user": end_user})
        return found

    def _ask(self, method: str, path: str, sent: Mapping[str, Any] | None = None) -> Any:
        """The reply's JSON; asked again, at growing intervals, where that may help."""
        body = None if sent is None else {k: v for k, v in sent.items() if v is not None}
        for left in range(self._retries, -1, -1):
            try:
                reply = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                if not left:
                    said = f"The gateway cannot be reached: {error}"
                    raise PlumblineError(said, 0, None, None, "") from error
                time.sleep(self._pause(left, None))
                continue
            if reply.is_success:
                return reply.json()
            if not left or reply.status_code not in AGAIN:
                raise _refusal(reply)
            time.sleep(self._pause(left, reply.headers.get("retry-after")))
        raise AssertionError("the last try returns or raises")

    def _pause(self, left: int, wanted: str | None) -> float:
        """Seconds: what the gateway asks for, else half a second, doubled each time; never in step
        with other clients."""
        if wanted is not None and wanted.isdecimal():
            return min(LONGEST_PAUSE, float(wanted))
        doubled: float = 0.5 * 2 ** (self._retries - left)
        return min(LONGEST_PAUSE, doubled * random.uniform(0.75, 1.25))


def _refusal(reply: httpx.Response) -> PlumblineError:
    try:
        said = reply.json()["error"]
        message, param, code = said["message"], said["param"], said["code"]
    except (ValueError, KeyError, TypeError):
        message, param, code = f"The gateway answered {reply.status_code}.", None, None
    name = reply.headers.get("x-request-id", "")
    return PlumblineError(message, reply.status_code, param, code, name)
