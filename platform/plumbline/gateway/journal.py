"""Exchange rows, written behind the answers: a request never waits for the database to write.

Rows queue in memory and are inserted in batches by a thread of their own. When the database is
away they are kept and tried again; beyond a bound the newest are dropped, and the log says so. The
days' usage is counted in the same transactions.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, IntegrityError, close_old_connections, connections, transaction

from plumbline.gateway import usage
from plumbline.gateway.models import Exchange

log = logging.getLogger(__name__)

PAUSE = 0.5  # seconds between batches: a batch costs as much as some ten more rows in it
BATCH = 500
MOST_WAITING = 50_000


class Journal:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: deque[Exchange] = deque()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_forever())

    async def close(self) -> None:
        """Write what waits, if the database lets us, and stop."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(self._thread, self._write):
            pass
        if self._waiting:
            log.error("%d exchanges were not recorded", len(self._waiting))
        await loop.run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Exchanges that are not written yet."""
        return len(self._waiting)

    def add(self, exchange: Exchange) -> None:
        """Never blocks and never raises."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(exchange)
            return
        if not self._dropped:
            log.error("the database is away for so long that exchanges are not recorded")
        self._dropped += 1

    async def _write_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PAUSE)
            if self._waiting:
                while await loop.run_in_executor(self._thread, self._write):
                    pass

    def _write(self) -> bool:
        """One batch, taken off the queue only when it is written. False: none left, or no luck."""
        batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
        if not batch:
            return False
        close_old_connections()
        try:
            self._insert(batch)
        except Error as error:
            log.warning("exchanges wait to be recorded: %s", error)
            return False
        finally:
            close_old_connections()
        for _ in batch:
            self._waiting.popleft()
        return True

    def _insert(self, batch: list[Exchange]) -> None:
        try:
            with transaction.atomic():
                Exchange.objects.bulk_create(batch)
                usage.count(batch)
        except IntegrityError:  # a key, policy or project that is gone; the others still count
            for exchange in batch:
                try:
                    with transaction.atomic():
                        exchange.save(force_insert=True)
                        usage.count([exchange])
                except IntegrityError as error:
                    log.warning("%s was not recorded: %s", exchange.completion_id, error)
