"""Where requests wait while the engine's memory is lent to a job, or its weights change.

The line is bounded and keeps its order: nobody who comes later passes, a client that leaves frees
its place, and whoever has waited too long is told so. So it does not matter what an engine does
with requests while it sleeps, or whether it runs at all.
"""

from __future__ import annotations

import asyncio
import logging

from django.conf import settings
from django.db import Error as DatabaseError

from plumbline.gateway.directory import SOON, Directory, Shut
from plumbline.gateway.wire import ApiError

log = logging.getLogger(__name__)

MOST_WAITING = 512  # requests of this process
RETRY_AFTER = 10  # seconds: jobs take minutes
TOLD = {
    Shut.LENT: ("engine_lent", "The engine is lent to a training job"),
    Shut.RELOADING: ("model_loading", "The engine is taking up another policy's weights"),
}


class Gate:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._line: dict[asyncio.Future[None], None] = {}  # in the order they came
        self._keeper: asyncio.Task[None] | None = None
        self._why = Shut.LENT  # when it was last shut

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
        return await self._is_shut() or bool(self._line)

    async def opened(self) -> None:
        """Wait in line. Raises ApiError when there is no place, or when it takes too long."""
        if len(self._line) >= MOST_WAITING:
            raise self._refusal(", and too many requests wait for it")
        place = asyncio.get_running_loop().create_future()
        self._line[place] = None
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(settings.ENGINE_WAIT_SECONDS):
                await place
        except TimeoutError as error:
            seconds = f"{settings.ENGINE_WAIT_SECONDS:g} seconds"
            raise self._refusal(f" and did not come back within {seconds}") from error
        finally:
            self._line.pop(place, None)

    async def _is_shut(self) -> bool:
        why = await self._directory.shut()
        self._why = why or self._why
        return why is not None

    async def _keep(self) -> None:
        """Look until the engine is back, then let all through, the first first."""
        while self._line:
            await asyncio.sleep(SOON)
            try:
                shut = await self._is_shut()
            except DatabaseError as error:
                log.warning("the line waits until the database answers: %s", error)
                continue
            if not shut:
                line, self._line = self._line, {}
                for place in line:
                    if not place.done():
                        place.set_result(None)

    def _refusal(self, trouble: str) -> ApiError:
        code, said = TOLD[self._why]
        return ApiError(503, f"{said}{trouble}.", code=code, retry_after=RETRY_AFTER)
