"""Writes the answers of the chat page into their rows, as any client's: same checks, same routes.

What a member asks for goes the way of a request with a key, from the parameters' check to the
journal, the usage and the stored texts; it counts as the member's own, within limits of their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import QuerySet

from plumbline.gateway import caps, ids, limits, row_writer
from plumbline.gateway.balance import Engines
from plumbline.gateway.caps import Caps
from plumbline.gateway.chat_models import BROKEN
from plumbline.gateway.directory import Caller, Directory, Target
from plumbline.gateway.endpoints import CHAT
from plumbline.gateway.engine import NO_MODEL
from plumbline.gateway.gate import Gate
from plumbline.gateway.limits import Limited, Limiter
from plumbline.gateway.models import ChatAnswer, Exchange
from plumbline.gateway.routing import Way, find_way
from plumbline.gateway.row_writer import DONE, FIRST_WORD, NEXT_WORD, RowWriter
from plumbline.gateway.served import CLIENT_LEFT, Books, Served
from plumbline.gateway.wire import ApiError

log = logging.getLogger(__name__)

AWAY = "The database does not answer at the moment. Try again in a moment."
LONG = "The conversation is too long for this policy. Shorten it, or begin a new chat."
SILENT = "The engine fell silent. Try again in a moment."


@dataclass
class Chatted(Served):
    """An answer for a member, in whose name its exchange is kept."""

    user: int = 0

    def exchange(self) -> Exchange:
        exchange = super().exchange()
        exchange.user_id = self.user
        return exchange


@dataclass(kw_only=True)
class Writing(row_writer.Writing):
    """An answer under way; `served` as soon as it is known who answers."""

    row: ChatAnswer
    served: Chatted | None = None
    broken = BROKEN

    def fields(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "text": self.text,
            "state": self.state,
            "trouble": self.trouble[:500],
            "finish_reason": self.finish_reason[:12] if self.state == DONE else "",
        }
        if self.served is not None:
            first, usage = self.served.first, self.served.usage
            told["policy_id"] = self.served.target.policy
            told["first_ms"] = None if first is None else round(1000 * first)
            told["tokens"] = usage.get("completion_tokens")
            told["latency_ms"] = self.served.exchange().latency_ms
        return told


class ChatWriter(RowWriter[Writing]):
    broken = BROKEN

    def __init__(
        self, engine: Engines, gate: Gate, directory: Directory, limiter: Limiter, books: Books
    ) -> None:
        super().__init__("chat")
        self._engine, self._gate, self._directory = engine, gate, directory
        self._limiter, self._books = limiter, books

    def rows(self) -> QuerySet[ChatAnswer]:
        return ChatAnswer.objects.all()

    def begin(self, row: ChatAnswer) -> Writing:
        """What was asked is in this process from here on, and nowhere else."""
        ChatAnswer.objects.filter(pk=row.pk).update(asked=None)
        return Writing(pk=row.pk, attempt=row.attempt, row=row)

    async def write(self, one: Writing) -> None:
        try:
            await self._answer(one)
            one.end()
        except ApiError as error:
            one.end(_sentence(error, one.served))
        except TimeoutError:
            one.end(SILENT)
        except DatabaseError as error:
            log.warning("an answer on the chat page waits for nobody: %s", error)
            one.end(AWAY)

    async def _answer(self, one: Writing) -> None:
        row = one.row
        served = one.served = await self._admitted(row)
        try:
            if await self._gate.shut():
                await self._gate.opened()
                served.way = await self._way(row.project_id, served)  # of now
                served.target = _target(served, row)
            body = {**served.asked.body, "model": served.target.engine_name}
            async with asyncio.timeout(FIRST_WORD) as silence:
                chunks = await self._engine.stream(CHAT.path, body, ids.request(served.id))
                try:
                    async for chunk in chunks:
                        before = len(one.text)
                        one.take(served.dress(chunk))
                        if len(one.text) > before:
                            served.piece()
                        silence.reschedule(asyncio.get_running_loop().time() + NEXT_WORD)
                finally:
                    await chunks.close()
            served.status = 200
        except ApiError as error:
            served.status = error.status
            raise
        except (TimeoutError, DatabaseError):
            served.status = 503
            raise
        finally:
            self._books.close(served)

    async def _admitted(self, row: ChatAnswer) -> Chatted:
        """The request, understood, routed and within the member's limits. Raises ApiError."""
        asked = CHAT.read(json.dumps(row.asked).encode(), settings.MAX_MODEL_LEN)
        project, user = row.project_id, row.user_id
        key = ("member", project, user)
        limited = await self._directory.ask(key, lambda: limits.of_member(project, user))
        caller = Caller(None, project, frozenset(), "chat", Caps(), limited)
        way = await find_way(self._directory, project, asked.model)
        if way is None:
            raise ApiError(404, f"There is no {asked.model} any more. Choose another policy.")
        target = way.choose(caller, asked, ids.request(row.completion_id))
        served = Chatted(caller, asked, target, row.completion_id, "", way, user=user)
        served.status = CLIENT_LEFT  # unless it comes to its end
        served.prompt_cost, cost = caps.cost(asked, settings.MAX_MODEL_LEN)
        try:
            served.admission = await self._limiter.admit(limited, cost, {})
        except Limited as error:
            self._books.metrics.limited(project, error.limit)
            self._books.metrics.refused(error.status)
            raise
        return served

    async def _way(self, project: int, served: Served) -> Way:
        way = await find_way(self._directory, project, served.asked.model)
        if way is None:
            raise ApiError(404, f"There is no {served.asked.model} any more.")
        return way


def _target(served: Served, row: ChatAnswer) -> Target:
    assert served.way is not None
    return served.way.choose(served.caller, served.asked, ids.request(row.completion_id))


def _sentence(error: ApiError, served: Served | None) -> str:
    """What a person is told, who neither sets parameters nor reads an engine's log."""
    code = error.body["error"]["code"]
    if code == "context_length_exceeded":
        return LONG
    if code == NO_MODEL and served is not None:
        if served.target.deployed:
            return f"{served.target.name} is being loaded. Try again in a moment."
        return f"{served.target.name} cannot be loaded: its weights are gone or were altered."
    return str(error)
