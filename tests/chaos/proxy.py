"""A TCP relay that does what a bad network does: toxiproxy's eight toxics, from any thread.

`Proxy(port)` listens on a port of its own and passes on to `port`. `add` puts a toxic on one way,
`down` (the server's answers, unless told) or `up`; it takes hold of connections that are open
already, and ends with `remove`. A toxic counts in `struck` how often it harmed something, so a test
can tell a fault that landed from one that nobody noticed.

    latency(seconds, jitter)      every piece comes so much later
    bandwidth(rate)               bytes a second
    slicer(size, variation, pause) pieces of about `size` bytes, with pauses between
    limit_data(bytes)             then the connection ends
    timeout(seconds)              nothing passes; after `seconds` the connection ends, 0: never
    reset_peer(seconds)           the caller's connection is reset, not closed
    slow_close(seconds)           the end of a connection comes so much later
    down()                        all connections end and no new one is taken
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from tests.ports import free_port

T = TypeVar("T")
KINDS = {
    "latency": ("seconds", "jitter"),
    "bandwidth": ("rate",),
    "slicer": ("size", "variation", "pause"),
    "limit_data": ("bytes",),
    "timeout": ("seconds",),
    "reset_peer": ("seconds",),
    "slow_close": ("seconds",),
    "down": (),
}
PIECE = 1 << 16
WAITING = 256  # pieces between the reading and the writing side of a way
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST


@dataclass(eq=False)
class Toxic:
    kind: str
    way: str
    told: dict[str, float]
    chance: random.Random
    struck: int = 0

    def get(self, name: str) -> float:
        return self.told.get(name, 0.0)


@dataclass(eq=False)
class _Link:
    """A caller's connection and the one to the server."""

    caller: asyncio.StreamWriter
    server: asyncio.StreamWriter
    passed: dict[Toxic, int] = field(default_factory=dict)  # bytes, by limit_data
    ended: bool = False

    def end(self, reset: bool = False) -> None:
        if self.ended:
            return
        self.ended = True
        if reset:
            raw = self.caller.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.caller.transport.abort()
        self.server.transport.abort()


class Proxy:
    def __init__(self, target: int, seed: int = 0) -> None:
        self.target, self.port = target, free_port()
        self.toxics: list[Toxic] = []
        self._chance = random.Random(seed)
        self._links: set[_Link] = set()
        self._loop = uvloop.new_event_loop()
        self._changed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    @property
    def connections(self) -> int:
        return len(self._links)

    def add(self, kind: str, way: str = "down", **told: float) -> Toxic:
        """Raises ValueError for what is no toxic."""
        if kind not in KINDS or way not in ("up", "down") or set(told) - set(KINDS[kind]):
            raise ValueError(f"there is no toxic {kind}({', '.join(told)}) on the way {way}")
        toxic = Toxic(kind, way, told, self._chance)

        async def put() -> None:
            self.toxics.append(toxic)
            self._change()
            if kind == "down":
                toxic.struck += len(self._links)
                await self._close_all()
            for link in list(self._links):
                self._doom(link, toxic)

        self._call(put)
        return toxic

    def remove(self, toxic: Toxic) -> None:
        async def take() -> None:
            if toxic in self.toxics:
                self.toxics.remove(toxic)
            self._change()
            if toxic.kind == "down" and not self._of("down") and self._listening is None:
                await self._listen()

        self._call(take)

    def clear(self) -> None:
        for toxic in list(self.toxics):
            self.remove(toxic)

    @contextmanager
    def poisoned(self, kind: str, way: str = "down", **told: float) -> Iterator[Toxic]:
        toxic = self.add(kind, way, **told)
        try:
            yield toxic
        finally:
            self.remove(toxic)

    def close(self) -> None:
        async def end() -> None:
            await self._close_all()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._call(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _of(self, kind: str, way: str | None = None) -> list[Toxic]:
        return [one for one in self.toxics if one.kind == kind and way in (None, one.way)]

    async def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        listener.setblocking(False)
        self._listening = self._begin(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        # No asyncio.Server: a connection that one accepts while it closes hangs for ever.
        with listener:
            while True:
                caller, _ = await self._loop.sock_accept(listener)
                self._begin(self._accept(caller))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _close_all(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None
        for link in list(self._links):
            link.end()

    async def _accept(self, caller: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=caller)
        try:
            there, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        if self._of("down"):  # it came down meanwhile
            link.end()
        self._links.add(link)
        for toxic in self.toxics:
            self._doom(link, toxic)
        try:
            await asyncio.gather(
                self._relay(link, "up", reader, server), self._relay(link, "down", there, writer)
            )
        finally:
            link.end()
            self._links.discard(link)

    def _doom(self, link: _Link, toxic: Toxic) -> None:
        """What ends a connection by the clock."""
        if toxic.kind == "reset_peer" or (toxic.kind == "timeout" and toxic.get("seconds")):

            def strike() -> None:
                if toxic in self.toxics and not link.ended:
                    toxic.struck += toxic.kind == "reset_peer"
                    link.end(reset=toxic.kind == "reset_peer")

            self._loop.call_later(toxic.get("seconds"), strike)

    async def _relay(
        self, link: _Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Both ends of a way: reading notes when a piece came, so that latency is no bandwidth. It
        passes the piece on itself where none waits and there is no toxic."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING)
        waiting = 0  # pieces that the other end has not passed on yet

        async def read() -> None:
            nonlocal waiting
            data = b"?"
            while data:
                try:
                    data = await reader.read(PIECE)
                    if data and not waiting and not self.toxics:
                        writer.write(data)
                        await writer.drain()
                        continue
                except OSError:
                    link.end()
                    data = b""
                waiting += 1
                await pieces.put((self._loop.time(), data))

        reading = asyncio.create_task(read())
        try:
            while not link.ended:
                came, data = await pieces.get()
                if not data:
                    await self._last(link, way, writer)
                    return
                for piece in self._sliced(way, data):
                    await self._pass(link, way, came, piece, writer)
                waiting -= 1
        except OSError:
            link.end()
        finally:
            reading.cancel()

    async def _last(self, link: _Link, way: str, writer: asyncio.StreamWriter) -> None:
        await self._held(link, way)
        for toxic in self._of("slow_close", way):
            toxic.struck += 1
            await asyncio.sleep(toxic.get("seconds"))
        if not link.ended and writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write_eof()

    async def _pass(
        self, link: _Link, way: str, came: float, piece: bytes, writer: asyncio.StreamWriter
    ) -> None:
        for toxic in self._of("latency", way):
            jitter = toxic.get("jitter") * toxic.chance.uniform(-1, 1)
            toxic.struck += 1
            await asyncio.sleep(max(0.0, came + toxic.get("seconds") + jitter - self._loop.time()))
        for toxic in self._of("bandwidth", way):
            toxic.struck += 1
            await asyncio.sleep(len(piece) / toxic.get("rate"))
        for toxic in self._of("slicer", way):
            await asyncio.sleep(toxic.get("pause"))
        await self._held(link, way)
        cut = False
        for toxic in self._of("limit_data", way):
            left = max(0, int(toxic.get("bytes")) - link.passed.get(toxic, 0))
            if len(piece) > left:
                piece, cut = piece[:left], True
                toxic.struck += 1
            link.passed[toxic] = link.passed.get(toxic, 0) + len(piece)
        if link.ended:
            return
        writer.write(piece)
        await writer.drain()
        if cut:
            await asyncio.sleep(0)
            link.end()

    async def _held(self, link: _Link, way: str) -> None:
        """Wait while a blackhole is on this way."""
        seen: set[Toxic] = set()
        while not link.ended and (holes := self._of("timeout", way)):
            for toxic in set(holes) - seen:
                toxic.struck += 1
            seen |= set(holes)
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 0.2)

    def _sliced(self, way: str, data: bytes) -> Iterator[bytes]:
        slicers = self._of("slicer", way)
        if not slicers:
            yield data
            return
        toxic = slicers[0]
        toxic.struck += 1
        while data:
            spread = int(toxic.get("variation"))
            size = max(1, int(toxic.get("size")) + toxic.chance.randint(-spread, spread))
            yield data[:size]
            data = data[size:]
