"""Writes the answers of live comparisons into their rows, as `row_writer` says."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from plumbline.collect.live.answers import BROKEN, LONG
from plumbline.collect.models import LiveAnswer
from plumbline.gateway import row_writer
from plumbline.gateway.balance import Engines
from plumbline.gateway.engine import Chunks
from plumbline.gateway.gate import Gate
from plumbline.gateway.row_writer import DONE, FIRST_WORD, NEXT_WORD, RowWriter
from plumbline.gateway.wire import ApiError
from plumbline.policies import serving
from plumbline.policies.models import Policy
from plumbline.policies.serving import EngineError, engine_name

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Writing(row_writer.Writing):
    """A side under way."""

    policy: Policy
    body: dict[str, Any]
    tokens: list[int] | None = field(default_factory=list)
    broken = BROKEN

    def take(self, chunk: dict[str, Any]) -> None:
        """Tokens are kept only where every piece tells its own."""
        super().take(chunk)
        for choice in chunk.get("choices") or ():
            more = (choice.get("delta") or {}).get("content") or ""
            tokens = choice.get("token_ids")
            if tokens is None and (more or choice.get("finish_reason")):
                self.tokens = None
            elif self.tokens is not None:
                self.tokens += tokens or []

    def fields(self) -> dict[str, Any]:
        done = self.state == DONE
        return {
            "text": self.text,
            "state": self.state,
            "trouble": self.trouble,
            "finish_reason": self.finish_reason if done else "",
            "token_ids": self.tokens if done else None,
        }


class LiveWriter(RowWriter[Writing]):
    broken = BROKEN

    def __init__(self, engine: Engines, gate: Gate) -> None:
        super().__init__("live")
        self._engine, self._gate = engine, gate

    def rows(self) -> QuerySet[LiveAnswer]:
        return LiveAnswer.objects.select_related("policy", "comparison__prompt")

    def begin(self, row: LiveAnswer) -> Writing:
        return Writing(pk=row.pk, attempt=row.attempt, policy=row.policy, body=_body(row))

    async def write(self, one: Writing) -> None:
        try:
            if await self._gate.shut():
                await self._gate.opened()
            async with asyncio.timeout(FIRST_WORD) as silence:
                chunks = await self._begin(one)
                try:
                    async for chunk in chunks:
                        one.take(chunk)
                        silence.reschedule(asyncio.get_running_loop().time() + NEXT_WORD)
                finally:
                    await chunks.close()
            one.end()
        except EngineError as error:
            log.warning("a live answer broke off: %s", error)
            one.end(BROKEN)
        except ApiError as error:
            log.warning("a live answer broke off: %s", error)
            code = error.body["error"]["code"]
            one.end(LONG if code == "context_length_exceeded" else BROKEN)
        except TimeoutError:
            log.warning("a live answer broke off: the engine fell silent")
            one.end(BROKEN)

    async def _begin(self, one: Writing) -> Chunks:
        """The engine's stream. A policy that no alias points at is loaded when it is asked."""
        try:
            return await self._engine.stream("/v1/chat/completions", one.body)
        except ApiError as error:
            if error.body["error"]["code"] != "model_not_found":
                raise
        await asyncio.to_thread(_load, one.policy)
        return await self._engine.stream("/v1/chat/completions", one.body)


def _load(policy: Policy) -> None:
    """In a thread of its own, whose connection ends with it."""
    try:
        serving.ensure_loaded(policy)
    finally:
        connections.close_all()


def _body(row: LiveAnswer) -> dict[str, Any]:
    return {
        "model": engine_name(row.policy),
        "messages": row.comparison.prompt.messages,
        "stream": True,
        "return_token_ids": True,
        **row.sampling,
    }
