"""Where requests wait while the engine's memory is lent to a job.

The line is bounded and keeps its order: nobody who comes later passes, a client that leaves frees
its place, and whoever has waited too long is told so. So it does not matter what an engine does
with requests while it sleeps, or whether it runs at all.
"""

from __future__ import annotations

import asyncio
import logging

from django.conf import settings
from django.db import Error as DatabaseError

from plumbline.gateway.directory import SOON, Directory
from plumbline.gateway.wire import ApiError

log = logging.getLogger(__name__)

MOST_WAITING = 512  # requests of this process
RETRY_AFTER = 10  # seconds: jobs take minutes


class Gate:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._line: dict[asyncio.Future[None], None] = {}  # in the order they came
        self._keeper: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    async def shut(self) -> bool:
        """Whether a request that comes now must wait."""
        return await self._directory.lent() or bool(self._line)

    async def opened(self) -> None:
        """Wait in line. Raises ApiError when there is no place, or when it takes too long."""
        if len(self._line) >= MOST_WAITING:
            said = "The engine is lent to a training job, and too many requests wait for it."
            raise ApiError(503, said, code="engine_lent", retry_after=RETRY_AFTER)
        place = asyncio.get_running_loop().create_future()
        self._line[place] = None
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(settings.ENGINE_WAIT_SECONDS):
                await place
        except TimeoutError as error:
            said = (
                "The engine is lent to a training job and did not come back within "
                f"{settings.ENGINE_WAIT_SECONDS:g} seconds."
            )
            raise ApiError(503, said, code="engine_lent", retry_after=RETRY_AFTER) from error
        finally:
            self._line.pop(place, None)

    async def _keep(self) -> None:
        """Look until the engine is back, then let all through, the first first."""
        while self._line:
            await asyncio.sleep(SOON)
            try:
                lent = await self._directory.lent()
            except DatabaseError as error:
                log.warning("the line waits until the database answers: %s", error)
                continue
            if not lent:
                line, self._line = self._line, {}
                for place in line:
                    if not place.done():
                        place.set_result(None)
