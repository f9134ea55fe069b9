"""A patient client of an engine: vLLM's HTTP API, or `align.gpu.serve`, which answers the same.

Engines restart, and adapters arrive late; such errors are retried for a bounded time, and an engine
that sleeps, having lent its memory, is waited for as long as it does. What retrying cannot help is
raised at once as a ValueError, for the job that asked to report.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from align.jobs import Message

PATIENCE = 120.0  # seconds an engine may be away, unless it sleeps
LOOK_TIME = 10.0  # seconds until it says whether it does
LONGEST_PAUSE = 5.0
ANSWER_TIME = 900.0  # seconds one request may take


class EngineAway(Exception):
    """The engine did not come back in time, or does not serve the model; try the job again."""


class EngineApi:
    """One model of one engine, or of several that serve the same, whose addresses have commas
    between and which are asked in turn; an async context manager around its connections."""

    def __init__(self, url: str, model: str, patience: float = PATIENCE) -> None:
        self.model = model
        self._urls = itertools.cycle([one.strip().rstrip("/") for one in url.split(",")])
        self._patience = patience
        # Engines are on a private network: no proxy from the environment may stand between.
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_TIME, connect=10.0), trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], int]:
        """Token ids of the conversation, the answer's turn opened; and the context length."""
        body = {"messages": list(messages), "add_generation_prompt": True}
        reply = await self.post("/tokenize", body)
        return reply["tokens"], reply["max_model_len"]

    async def complete(
        self, prompts: Sequence[Sequence[int]], sampling: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The choices of one request with token-id prompts, in the order asked: prompt by prompt,
        draw by draw, each with its own `token_ids`."""
        body = {"prompt": list(prompts), "return_token_ids": True, **sampling}
        reply = await self.post("/v1/completions", body)
        return sorted(reply["choices"], key=lambda choice: int(choice["index"]))

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ValueError for a request the engine refuses, EngineAway when patience ends."""
        deadline = None
        pause = 0.1
        while True:
            url = next(self._urls)
            try:
                reply = await self._http.post(url + path, json={"model": self.model, **body})
                if reply.is_success:
                    answer: dict[str, Any] = reply.json()
                    return answer
                trouble = _trouble(reply)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__} {error}".strip()
            # From the first trouble on: a request may have waited in a sleeping engine for long.
            if deadline is None or await self._sleeps(url):
                deadline = time.monotonic() + self._patience
            if time.monotonic() + pause > deadline:
                raise EngineAway(f"{url} gave no answer from {self.model!r}: {trouble}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _sleeps(self, url: str) -> bool:
        try:
            reply = await self._http.get(url + "/is_sleeping", timeout=LOOK_TIME)
            return bool(reply.is_success and reply.json()["is_sleeping"])
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return False


def _trouble(reply: httpx.Response) -> str:
    """What went wrong, if it may pass: not loaded yet, too busy, a fault inside the engine."""
    try:
        message = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = reply.text[:500]
    if reply.status_code in (404, 408, 409, 425, 429) or reply.status_code >= 500:
        return f"status {reply.status_code}, {message}"
    raise ValueError(f"the engine refused the request: {message}")
