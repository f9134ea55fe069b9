"""Texts of answers whose client asked to store them: written behind the answer, gone in time.

Nothing is kept without `store: true`, nor of an answer that did not come to its end. A thread of
its own writes, so no answer waits for it; texts that are past their day are deleted every few
minutes, wherever a gateway runs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import IntegrityError, close_old_connections, connections, transaction
from django.utils import timezone

from plumbline.accounts.models import Project
from plumbline.gateway import ids
from plumbline.gateway.models import (
    ChatAnswer,
    ClientComparison,
    Feedback,
    ShadowPair,
    StoredCompletion,
)

if TYPE_CHECKING:
    from plumbline.gateway.directory import Target
    from plumbline.gateway.served import Served

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_WAITING = 5_000
TRIES, PAUSE = 30, 2.0  # seconds between them
PURGE_SECONDS = 600.0
CHAT_TEXTS, CHAT_ROWS = timedelta(hours=1), timedelta(days=1)  # what the chat page can show again
CALL = ("id", "name", "arguments")
NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"  # PostgreSQL has no text with the first


@dataclass
class Texts:
    """What an answer says, choice by choice, as it comes; calls of tools by their places in it."""

    pieces: dict[int, list[str]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    calls: dict[int, dict[int, dict[str, str]]] = field(default_factory=dict)

    def take(self, reply: Mapping[str, Any]) -> None:
        """A whole reply, or a chunk of one, of the engine."""
        for choice in reply.get("choices") or ():
            said = choice.get("message") or choice.get("delta") or {}
            at = choice.get("index", 0)
            self.pieces.setdefault(at, []).append(said.get("content") or "")
            for place, call in enumerate(said.get("tool_calls") or ()):
                self._call(at, call.get("index", place), call)
            if choice.get("finish_reason"):
                self.reasons[at] = choice["finish_reason"]

    def _call(self, at: int, place: int, piece: Mapping[str, Any]) -> None:
        """A call whole, or a piece of one: its name comes first, its arguments bit by bit."""
        function = piece.get("function") or {}
        given = {"id": piece.get("id"), **{name: function.get(name) for name in CALL[1:]}}
        call = self.calls.setdefault(at, {}).setdefault(place, dict.fromkeys(CALL, ""))
        for name in CALL:
            call[name] += given[name] or ""

    def answers(self) -> list[dict[str, Any]]:
        """A choice has `tool_calls` only where it calls any."""
        found = []
        for at in sorted(self.pieces):
            answer: dict[str, Any] = {
                "text": _clean("".join(self.pieces[at])),
                "finish_reason": self.reasons.get(at, ""),
            }
            if at in self.calls:
                answer["tool_calls"] = _clean([self.calls[at][i] for i in sorted(self.calls[at])])
            found.append(answer)
        return found


class Store:
    """One per process."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._waiting = 0
        self._closing = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._purge_forever())

    async def close(self) -> None:
        """Write what waits, each once more at most, and stop."""
        assert self._task is not None
        self._closing.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    def add(self, served: Served) -> None:
        """Keep the texts of an answer that came to its end, if that was asked for."""
        if served.asked.stored is None or served.status != 200 or not settings.KEEP_TEXTS_DAYS:
            return
        row = _row(served, served.target, served.id, served.texts.answers())
        self._write(served.id, lambda: row.save(force_insert=True))

    def add_shadow(
        self, served: Served, target: Target, name: str, answers: list[dict[str, str]]
    ) -> None:
        """Keep a shadow's answer beside the one that was served, as long as that is kept: not where
        its user has been forgotten meanwhile."""
        row = _row(served, target, name, answers)
        pair = ShadowPair(
            project_id=row.project_id, served=served.id, shadow=name, end_user=row.end_user
        )

        @transaction.atomic
        def save() -> None:
            Project.objects.select_for_update(no_key=True).filter(pk=row.project_id).first()
            if StoredCompletion.objects.filter(completion_id=served.id).exists():
                row.save(force_insert=True)
                pair.save(force_insert=True)

        self._write(name, save)

    def _write(self, name: str, save: Callable[[], None]) -> None:
        """In the thread, in the order of the calls."""
        if self._waiting >= MOST_WAITING:
            log.error("the database is away for so long that texts are not stored")
            return
        self._waiting += 1
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._thread, self._try, name, save)
        writing.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[None]) -> None:
        self._waiting -= 1

    def _try(self, name: str, save: Callable[[], None]) -> None:
        for _ in range(TRIES):
            close_old_connections()
            try:
                save()
                return
            except IntegrityError as error:  # its project or policy is gone
                log.warning("%s was not stored: %s", name, error)
                return
            except DatabaseError as error:
                log.warning("a text waits to be stored: %s", error)
            finally:
                close_old_connections()
            if self._closing.wait(PAUSE):
                break
        log.error("%s was not stored", name)

    async def _purge_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._thread, _purge)
            except DatabaseError as error:
                log.warning("texts past their day wait to be deleted: %s", error)
            await asyncio.sleep(PURGE_SECONDS)


def _row(
    served: Served, target: Target, name: str, answers: list[dict[str, str]]
) -> StoredCompletion:
    stored, project = served.asked.stored, served.caller.project
    assert stored is not None
    return StoredCompletion(
        project_id=project,
        policy_id=target.policy,
        completion_id=name,
        messages=_clean(served.asked.turns),
        answers=answers,
        metadata=_clean(stored.metadata),
        end_user=ids.end_user(project, stored.user) if stored.user else "",
        expires_at=timezone.now() + timedelta(days=settings.KEEP_TEXTS_DAYS),
    )


def purge() -> int:
    """Delete texts that are past their day; how many rows lost theirs. What was said without words
    stays, and so do comparisons that were put before people."""
    now = timezone.now()
    chatted = ChatAnswer.objects.filter(created_at__lte=now - CHAT_TEXTS)
    chatted.filter(state__in=("waiting", "writing")).exclude(beat_at__gt=now - CHAT_TEXTS).update(
        state=ChatAnswer.State.FAILED, asked=None
    )
    chatted.exclude(text="").exclude(state="writing").update(text="")
    ChatAnswer.objects.filter(created_at__lte=now - CHAT_ROWS).delete()
    gone, _ = StoredCompletion.objects.filter(expires_at__lte=now).delete()
    old = {"created_at__lte": now - timedelta(days=settings.KEEP_TEXTS_DAYS)}
    ShadowPair.objects.filter(**old, comparison=None).delete()
    said = Feedback.objects.filter(**old).exclude(comment="", correction="")
    compared = ClientComparison.objects.filter(**old).exclude(comment="", responses=[])
    gone += said.update(comment="", correction="")
    return gone + compared.update(comment="", messages=[], responses=[])


def _purge() -> None:
    close_old_connections()
    try:
        if gone := purge():
            log.info("texts of %d rows were past their day and are deleted", gone)
    finally:
        close_old_connections()


def _clean(said: T) -> T:
    """Without a character that PostgreSQL has not, however deep in it."""
    if isinstance(said, str):
        return said.replace(NUL, REPLACEMENT)  # type: ignore[return-value]
    if isinstance(said, list):
        return [_clean(one) for one in said]  # type: ignore[return-value]
    if isinstance(said, dict):
        return {_clean(key): _clean(one) for key, one in said.items()}  # type: ignore[return-value]
    return said
