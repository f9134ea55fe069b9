"""The best of several answers, by the reward model that the project's votes have trained.

The engine writes n answers, a scoring service (`align.gpu.scorer`, at settings.SCORER_URL) says how
good each is, and the client gets the best one, whole; a stream of it comes in one piece. All n are
paid for. Where no service is configured, or the project has no reward model, the parameter is
refused by name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from django.conf import settings
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response, StreamingResponse

from plumbline.gateway.balance import Engines
from plumbline.gateway.directory import Directory
from plumbline.gateway.engine import DONE, RETRY_AFTER
from plumbline.gateway.served import UNBUFFERED, Served, event
from plumbline.gateway.wire import ApiError
from plumbline.loop.models import Round
from plumbline.policies.models import RewardModel

SCORE_SECONDS = 60.0
PARAM = "best_of"


@dataclass(frozen=True)
class Judge:
    """The project's current reward model."""

    name: str
    path: str
    sha256: str


class BestOf:
    def __init__(self, engine: Engines, directory: Directory) -> None:
        self._engine, self._directory = engine, directory
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def judge(self, project: int) -> Judge:
        """Who would choose. Raises ApiError where nobody can."""
        if not settings.SCORER_URL:
            raise _unsupported("is not offered here: no scoring service is configured")
        found = await self._directory.ask(("judge", project), lambda: current(project))
        if found is None:
            raise _unsupported("needs a reward model, and this project has none yet")
        return found

    async def answer(
        self, judge: Judge, path: str, body: Mapping[str, Any], id: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The engine's reply with the best answer alone, and what chose it."""
        body = {name: value for name, value in body.items() if name != "stream_options"}
        reply = await self._engine.whole(path, {**body, "stream": False}, id)
        choices = sorted(reply["choices"], key=lambda one: int(one.get("index", 0)))
        scores = await self._scores(judge, body["messages"], choices)
        known = {at: score for at, score in enumerate(scores) if score is not None}
        if not known:
            said = (
                "None of the answers could be scored: they are empty, or longer than the reward "
                "model takes."
            )
            raise ApiError(400, said, param=PARAM, code="not_scored")
        best = max(known, key=lambda at: known[at])  # the first of equals
        told = {"n": len(choices), "reward_model": judge.name, "scores": scores, "chosen": best}
        return {**reply, "choices": [{**choices[best], "index": 0}]}, told

    async def _scores(
        self, judge: Judge, messages: list[dict[str, str]], choices: list[dict[str, Any]]
    ) -> list[float | None]:
        body = {
            "reward_model": {"path": judge.path, "sha256": judge.sha256},
            "messages": messages,
            "responses": [
                {
                    "text": (one.get("message") or {}).get("content") or "",
                    "finish_reason": one.get("finish_reason"),
                }
                for one in choices
            ],
        }
        try:
            reply = await self._client().post("/score", json=body)
        except httpx.TransportError as error:
            raise _away("is not available at the moment") from error
        if not reply.is_success:
            raise _away(f"refused: {_complaint(reply)}")
        try:
            scores = reply.json()["scores"]
            assert len(scores) == len(choices)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise _away("gave no scores") from error
        return list(scores)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:  # made in the event loop that uses it
            self._http = httpx.AsyncClient(
                base_url=settings.SCORER_URL,
                timeout=httpx.Timeout(SCORE_SECONDS, connect=5.0),
                trust_env=False,
            )
        return self._http


def current(project: int) -> Judge | None:
    """The reward model that the project's newest round went on with; the newest of all where it has
    had no such round."""
    rounds = Round.objects.filter(experiment__project=project, reward_model__isnull=False)
    newest = rounds.select_related("reward_model").order_by("-pk").first()
    model = newest.reward_model if newest is not None else None
    model = model or RewardModel.objects.filter(project=project).order_by("-created_at").first()
    return Judge(model.name, model.path, model.sha256) if model is not None else None


def response(
    served: Served,
    reply: dict[str, Any],
    told: Mapping[str, Any],
    headers: dict[str, str],
    after: BackgroundTask,
) -> Response:
    """The dressed reply, whole or as a stream in one piece, and what chose it beside it."""
    headers = {**headers, "x-best-of": str(told["n"]), "x-reward-model": str(told["reward_model"])}
    if not served.asked.stream:
        return JSONResponse({**reply, PARAM: told}, headers=headers, background=after)
    return StreamingResponse(
        _events(served, reply, told),
        media_type="text/event-stream",
        headers={**headers, **UNBUFFERED},
        background=after,
    )


async def _events(
    served: Served, reply: dict[str, Any], told: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    shape = {**reply, "object": "chat.completion.chunk"}
    usage = shape.pop("usage", None)
    (choice,) = reply["choices"]
    said = {name: value for name, value in choice.items() if name != "message"}
    piece = {**said, "delta": choice["message"], "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}
    yield event({**shape, PARAM: told, "choices": [piece]})
    yield event({**shape, "choices": [end]})
    if served.asked.include_usage:
        yield event({**shape, "choices": [], "usage": usage})
    yield b"data: " + DONE + b"\n\n"


def _unsupported(trouble: str) -> ApiError:
    said = f"{PARAM!r} {trouble}."
    return ApiError(400, said, param=PARAM, code="unsupported_parameter")


def _away(trouble: str) -> ApiError:
    return ApiError(
        503, f"The scoring service {trouble}.", code="scorer_away", retry_after=RETRY_AFTER
    )


def _complaint(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code}"
