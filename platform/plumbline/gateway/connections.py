"""HTTP/1.1 to an engine: connections that are kept, with one request at a time on each.

No more than an engine's answers need, on httptools' parser. A general client costs several times
the processor time of everything else that the gateway does with a piece of a stream.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Mapping
from typing import cast
from urllib.parse import unquote, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MOST = 1024  # connections at once
CONNECT_SECONDS = 5.0  # for a connection, and for a place among them
WRITE_SECONDS = 30.0  # for an engine to take a request in
KEPT_SECONDS = 5.0  # for which a connection without a request is used again
END_SECONDS = 1.0  # from the last word of an answer to the end of its body
MOST_HELD = 64 * 1024  # bytes of a body that nobody has read yet
BOUNDS = (b"content-length", b"transfer-encoding")  # headers that tell where a body ends


class Trouble(Exception):
    """An answer has not come, or not to its end."""


class Unreached(Trouble):
    """The engine took no connection, or not the whole request."""


class Crowded(Trouble):
    """No connection became free in time."""


class Broken(Trouble):
    """The connection ended, or what came over it is not HTTP."""


class Silent(Trouble):
    """Nothing came for too long."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that comes over it. `status` is the answer's."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None  # none once it is lost
        self._waiter: asyncio.Future[bool] | None = None
        self._ending: asyncio.TimerHandle | None = None  # while only a body's end is awaited
        self._trouble: Trouble | None = None
        self._stuck = False  # the engine does not take what is written
        self._begin(0.0)
        self._busy = False
        self.idle_since = 0.0  # on the loop's clock, while nothing is asked over it

    def _begin(self, patience: float) -> None:
        self.status = 0
        self._busy = True
        self._patience = patience
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in the pieces
        self._bounded = self._ended = self._stays = False

    @property
    def lost(self) -> bool:
        return self._transport is None

    async def ask(self, request: bytes, patience: float) -> None:
        """Send a request and wait for its answer's head. Raises Trouble.

        `patience`: seconds without a byte of the answer, now or in `read`.
        """
        self._begin(patience)
        if self._transport is not None:
            self._transport.write(request)
        while self._stuck and not self.status and self._trouble is None:
            if not await self._wait(WRITE_SECONDS):
                raise Unreached("the engine does not take the request in")
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """What has come of the body since; nothing at its end. Raises Trouble."""
        while not self._pieces:
            if self._ended:
                return b""
            await self._more()
        data = b"".join(self._pieces)
        self._pieces.clear()
        held, self._held = self._held, 0
        if held > MOST_HELD and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return data

    async def read_all(self) -> bytes:
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def let_go(self, *, said: bool = False) -> None:
        """Nothing more is wanted of the answer. An engine that is still speaking is hung up on,
        which stops it; one that has `said` all may end the body and keep its connection."""
        if not self._busy:
            return
        self._busy = False
        if said and not self._ended and self._trouble is None:
            self._ending = self._loop.call_later(END_SECONDS, self._give_back)
        else:
            self._give_back()

    def _give_back(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if not (self._ended and self._stays):
            self.hang_up()
        self._pool.take_back(self)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _more(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        if not await self._wait(self._patience):
            raise Silent("the engine says nothing")

    async def _wait(self, seconds: float) -> bool:
        """Whether something has happened in this time."""
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake, False)
        try:
            return await self._waiter
        finally:
            self._waiter = None
            timer.cancel()

    def _wake(self, happened: bool = True) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(happened)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._trouble is None and error is None and self.status and not self._bounded:
            self._ended = True  # that was how the engine ended the body
        elif self._trouble is None:
            self._trouble = Broken(str(error or "the engine has closed the connection"))
        if self._ending is not None:
            self._give_back()
        self._wake()

    def pause_writing(self) -> None:
        self._stuck = True

    def resume_writing(self) -> None:
        self._stuck = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        try:
            if self._ended or not (self._busy or self._ending):
                raise HttpParserError("the engine speaks without having been asked")
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._trouble = Broken(str(error))
            self.hang_up()
            self._wake()

    # What the parser finds, in the order of an answer.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._bounded = self._bounded or name.lower() in BOUNDS

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # before it there may be news of it
            self.status = status
            self._wake()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        was, self._held = self._held, self._held + len(data)
        if was <= MOST_HELD < self._held and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if not self.status:
            return
        self._ended, self._stays = True, self._parser.should_keep_alive()
        if self._ending is not None:
            self._give_back()
        self._wake()


class Connections:
    """Of one engine."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._prefix = parts.hostname or "", parts.path
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        where = parts.netloc.rpartition("@")[2]
        self._head = f"host: {where}\r\naccept: */*\r\nuser-agent: plumbline\r\n"
        if parts.username is not None:
            name = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._head += f"authorization: Basic {base64.b64encode(name).decode()}\r\n"
        self._places = asyncio.Semaphore(MOST)
        self._idle: deque[Connection] = deque()  # the one that was used last is at the end

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().hang_up()

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """As it goes over the wire. `headers` are ours: what a client sends never goes here."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body:
            more += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        return f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._head}{more}\r\n".encode() + body

    async def ask(self, request: bytes, patience: float, *, anew: bool = False) -> Connection:
        """The connection over which an answer has begun to come; whoever has it lets it go in any
        case. `anew`: over none that was kept. Raises Trouble."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._places.acquire()
        except TimeoutError as error:
            raise Crowded("too many answers are under way") from error
        connection = None if anew else self._kept()
        try:
            if connection is None:
                connection = await self._connect()
            await connection.ask(request, patience)
        except BaseException:
            if connection is None:
                self._places.release()
            else:
                connection.let_go()
            raise
        return connection

    def take_back(self, connection: Connection) -> None:
        """A connection whose answer is over."""
        self._places.release()
        connection.idle_since = asyncio.get_running_loop().time()
        if not connection.lost:
            self._idle.append(connection)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls
                )
        except OSError as error:  # TimeoutError included
            raise Unreached(str(error)) from error
        return connection

    def _kept(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._idle and (self._idle[0].lost or self._idle[0].idle_since < oldest):
            self._idle.popleft().hang_up()
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        return None
