"""Answers that grow in rows: takes those that wait, has them written, stores what has come.

The rows are the truth and are looked at several times a second, so no message can be lost: what a
person has stopped is let go of by the next look, and an answer whose writer died is marked as
broken off, by whoever looks. All that has come since the last look is written in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

log = logging.getLogger(__name__)

BUSY, IDLE = 0.12, 0.3  # seconds between looks, while something is written and while nothing is
AWAY = 1.0  # after a look that failed
MOST = 128  # answers at once
BEAT = timedelta(seconds=2)  # a quiet writer says that it lives
GONE = timedelta(seconds=12)  # a writer that has not said so for this long is dead
FIRST_WORD, NEXT_WORD = 90.0, 30.0  # seconds of an engine's silence
ENDS = ("stop", "length")
NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"  # PostgreSQL has no text with the first
WAITING, WRITING, DONE, FAILED = "waiting", "writing", "done", "failed"


@dataclass(kw_only=True)
class Writing(ABC):
    """An answer under way. `changed` since it was last stored."""

    pk: Any
    attempt: int
    text: str = ""
    state: str = WRITING
    finish_reason: str = ""
    trouble: str = ""
    changed: bool = False
    task: asyncio.Task[None] | None = None
    broken: ClassVar[str]  # the trouble of one that broke off

    def take(self, chunk: dict[str, Any]) -> None:
        """One piece of the stream."""
        for choice in chunk.get("choices") or ():
            more = (choice.get("delta") or {}).get("content") or ""
            self.text += more.replace(NUL, REPLACEMENT)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.changed = True

    def end(self, trouble: str = "") -> None:
        self.changed = True
        self.trouble = trouble or (self.broken if self.finish_reason not in ENDS else "")
        self.state = FAILED if self.trouble else DONE

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """What its row is to hold now."""


Answer = TypeVar("Answer", bound=Writing)


class RowWriter(ABC, Generic[Answer]):
    """One of a kind per process; several processes share the work by claiming rows."""

    broken: ClassVar[str]  # the trouble of what a dead writer left

    def __init__(self, name: str) -> None:
        self._me = uuid.uuid4()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._under_way: dict[Any, Answer] = {}
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    def rows(self) -> QuerySet[Any]:
        """All answers of the kind, with what `begin` needs. A row has `state`, `attempt`, `writer`,
        `grown_at`, `beat_at`, `text` and `trouble`."""

    @abstractmethod
    def begin(self, row: Any) -> Answer:
        """A row that was just claimed, as an answer under way. In the thread of the database."""

    @abstractmethod
    async def write(self, one: Answer) -> None:
        """Have it written to its end, which the answer is told; an exception breaks it off."""

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
            if one.state == WRITING:
                one.end(one.broken)
        try:
            await self._ask(list(self._under_way.values()), 0)
        except DatabaseError as error:
            log.error("%d answers broke off unrecorded: %s", len(self._under_way), error)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(BUSY if self._under_way else IDLE)
            try:
                await self._look()
            except DatabaseError as error:
                log.warning("answers wait until the database answers: %s", error)
                await asyncio.sleep(AWAY)
            except Exception:
                log.exception("looking for answers to write failed")
                await asyncio.sleep(AWAY)

    async def _look(self) -> None:
        """Store what has come, begin what waits, let go of what nobody wants any more."""
        here = list(self._under_way.values())
        ended = [one for one in here if one.state != WRITING]
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

    async def _ask(self, here: Sequence[Answer], room: int) -> tuple[set[Any], list[Answer]]:
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

    async def _write(self, one: Answer) -> None:
        try:
            await self.write(one)
        except Exception:  # the row must not say for ever that it is being written
            log.exception("an answer broke off")
            one.end(one.broken)

    def _exchange(
        self, told: list[tuple[Any, int, dict[str, Any] | None]], room: int
    ) -> tuple[set[Any], list[Answer]]:
        """In its own thread: what of ours is no longer wanted, and what we have taken on."""
        close_old_connections()
        try:
            lost = self._store(told)
            return lost, self._take(room) if room > 0 else []
        finally:
            close_old_connections()

    def _store(self, told: list[tuple[Any, int, dict[str, Any] | None]]) -> set[Any]:
        if not told:
            return set()
        now = timezone.now()
        mine = self.rows().filter(writer=self._me, state=WRITING)
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

    def _take(self, room: int) -> list[Answer]:
        """Rows that wait are ours when our claim of them reaches the database first."""
        if not self.rows().filter(state__in=(WAITING, WRITING)).exists():
            return []  # what follows costs several times as much, and most looks end here
        now = timezone.now()
        dead = Q(state=WRITING, beat_at__lt=now - GONE)
        found = self.rows().filter(Q(state=WAITING) | dead)
        begun = []
        for row in found.order_by("grown_at", "pk")[:room]:
            here = self.rows().filter(pk=row.pk, state=row.state, writer=row.writer)
            if row.state == WRITING:  # what was shown of it is not to be replaced unasked
                here.filter(beat_at=row.beat_at).update(state=FAILED, trouble=self.broken)
            elif here.filter(attempt=row.attempt).update(
                state=WRITING, writer=self._me, beat_at=now, grown_at=now
            ):
                begun.append(self.begin(row))
        return begun
