"""Writes the answers of live comparisons: takes those that wait, streams them into their rows.

The rows are the truth and are looked at several times a second, so no message can be lost: what a
person has stopped is let go of by the next look, and an answer whose writer died is marked as
broken off, by whoever looks. All that has come since the last look is written in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections, transaction
from django.db.models import Q
from django.utils import timezone

from plumbline.collect.live.answers import BROKEN, LONG
from plumbline.collect.models import LiveAnswer
from plumbline.gateway.balance import Engines
from plumbline.gateway.engine import Chunks
from plumbline.gateway.gate import Gate
from plumbline.gateway.wire import ApiError
from plumbline.policies import serving
from plumbline.policies.models import Policy
from plumbline.policies.serving import EngineError, engine_name

log = logging.getLogger(__name__)

BUSY, IDLE = 0.12, 0.3  # seconds between looks, while something is written and while nothing is
AWAY = 1.0  # after a look that failed
MOST = 128  # answers at once
BEAT = timedelta(seconds=2)  # a quiet writer says that it lives
GONE = timedelta(seconds=12)  # a writer that has not said so for this long is dead
FIRST_WORD, NEXT_WORD = 90.0, 30.0  # seconds of an engine's silence
ENDS = ("stop", "length")
NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"  # PostgreSQL has no text with the first
State = LiveAnswer.State


@dataclass
class Writing:
    """An answer under way. `changed` since it was last stored."""

    pk: int
    attempt: int
    policy: Policy
    body: dict[str, Any]
    text: str = ""
    tokens: list[int] | None = field(default_factory=list)
    state: str = State.WRITING
    finish_reason: str = ""
    trouble: str = ""
    changed: bool = False
    task: asyncio.Task[None] | None = None

    def take(self, chunk: dict[str, Any]) -> None:
        """One piece of the stream. Tokens are kept only where every piece tells its own."""
        for choice in chunk.get("choices") or ():
            more = (choice.get("delta") or {}).get("content") or ""
            self.text += more.replace(NUL, REPLACEMENT)
            tokens = choice.get("token_ids")
            if tokens is None and (more or choice.get("finish_reason")):
                self.tokens = None
            elif self.tokens is not None:
                self.tokens += tokens or []
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.changed = True

    def end(self, trouble: str = "") -> None:
        self.changed = True
        self.trouble = trouble or (BROKEN if self.finish_reason not in ENDS else "")
        self.state = State.FAILED if self.trouble else State.DONE

    def fields(self) -> dict[str, Any]:
        done = self.state == State.DONE
        return {
            "text": self.text,
            "state": self.state,
            "trouble": self.trouble,
            "finish_reason": self.finish_reason if done else "",
            "token_ids": self.tokens if done else None,
        }


class LiveWriter:
    """One per process; several processes share the work by claiming rows."""

    def __init__(self, engine: Engines, gate: Gate) -> None:
        self._engine, self._gate = engine, gate
        self._me = uuid.uuid4()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
        self._under_way: dict[int, Writing] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_forever())

    async def close(self) -> None:
        """Stop, and say of what is under way that it broke off."""
        assert self._task is not None
        self._task.cancel()
        tasks = [one.task for one in self._under_way.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(self._task, *tasks, return_exceptions=True)
        for one in self._under_way.values():
            if one.state == State.WRITING:
                one.end(BROKEN)
        try:
            await self._ask(list(self._under_way.values()), 0)
        except DatabaseError as error:
            log.error("%d live answers broke off unrecorded: %s", len(self._under_way), error)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(BUSY if self._under_way else IDLE)
            try:
                await self._look()
            except DatabaseError as error:
                log.warning("live answers wait until the database answers: %s", error)
                await asyncio.sleep(AWAY)
            except Exception:
                log.exception("looking for live answers failed")
                await asyncio.sleep(AWAY)

    async def _look(self) -> None:
        """Store what has come, begin what waits, let go of what nobody wants any more."""
        here = list(self._under_way.values())
        ended = [one for one in here if one.state != State.WRITING]
        lost, begun = await self._ask(here, MOST - len(here))
        for one in ended:
            self._under_way.pop(one.pk, None)
        for pk in lost:
            gone = self._under_way.pop(pk, None)
            if gone is not None and gone.task is not None:
                gone.task.cancel()
        for one in begun:
            self._under_way[one.pk] = one
            one.task = asyncio.create_task(self._write(one))

    async def _ask(self, here: Sequence[Writing], room: int) -> tuple[set[int], list[Writing]]:
        # In one order everywhere, so that nobody waits for a row while holding another's.
        here = sorted(here, key=lambda one: one.pk)
        told = [(one.pk, one.attempt, one.fields() if one.changed else None) for one in here]
        for one in here:
            one.changed = False
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._exchange, told, room)
        except DatabaseError:
            for one in here:  # it is told again, whole
                one.changed = True
            raise

    async def _write(self, one: Writing) -> None:
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
        except Exception:  # the row must not say for ever that it is being written
            log.exception("a live answer broke off")
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

    def _exchange(
        self, told: list[tuple[int, int, dict[str, Any] | None]], room: int
    ) -> tuple[set[int], list[Writing]]:
        """In its own thread: what of ours is no longer wanted, and what we have taken on."""
        close_old_connections()
        try:
            lost = self._store(told)
            return lost, self._take(room) if room > 0 else []
        finally:
            close_old_connections()

    def _store(self, told: list[tuple[int, int, dict[str, Any] | None]]) -> set[int]:
        if not told:
            return set()
        now = timezone.now()
        mine = LiveAnswer.objects.filter(writer=self._me, state=State.WRITING)
        kept = {
            pk: now - beat_at > BEAT for pk, beat_at in mine.values_list("pk", "beat_at") if beat_at
        }
        due = [one for one in told if one[0] in kept and (one[2] is not None or kept[one[0]])]
        if due:
            with transaction.atomic():
                for pk, attempt, fields in due:
                    news = {} if fields is None else {**fields, "grown_at": now}
                    if not mine.filter(pk=pk, attempt=attempt).update(**news, beat_at=now):
                        del kept[pk]
        return {pk for pk, _, _ in told if pk not in kept}

    def _take(self, room: int) -> list[Writing]:
        """Rows that wait are ours when our claim of them reaches the database first."""
        if not LiveAnswer.objects.filter(state__in=(State.WAITING, State.WRITING)).exists():
            return []  # what follows costs several times as much, and most looks end here
        now = timezone.now()
        dead = Q(state=State.WRITING, beat_at__lt=now - GONE)
        found = LiveAnswer.objects.filter(Q(state=State.WAITING) | dead)
        wanted = found.select_related("policy", "comparison__prompt").order_by("pk")[:room]
        begun = []
        for row in wanted:
            here = LiveAnswer.objects.filter(pk=row.pk, state=row.state, writer=row.writer)
            if row.state == State.WRITING:  # what was shown of it is not to be replaced unasked
                here.filter(beat_at=row.beat_at).update(state=State.FAILED, trouble=BROKEN)
            elif here.filter(attempt=row.attempt).update(
                state=State.WRITING, writer=self._me, beat_at=now, grown_at=now
            ):
                begun.append(Writing(row.pk, row.attempt, row.policy, _body(row)))
        return begun


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
