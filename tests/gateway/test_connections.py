"""The gateway's connections to an engine: kept, never shared, and read no faster than needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from plumbline.gateway import connections
from plumbline.gateway.engine import Chunks, Engine
from plumbline.gateway.errors import ApiError

BODY = {"model": "base", "prompt": "Hello"}
PATH = "/v1/completions"
ANSWER = json.dumps({"choices": []}).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
Answer = Callable[["Scripted", asyncio.StreamWriter, int], Awaitable[None]]


def piece(*lines: bytes) -> bytes:
    data = b"".join(line + b"\n\n" for line in lines)
    return b"%x\r\n%s\r\n" % (len(data), data)


def said(number: int) -> bytes:
    return b'data: {"choices": [], "at": %d}' % number


class Scripted:
    """A server whose answers a test writes; counts what comes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.connections = self.requests = 0
        self.heads: list[bytes] = []
        self.read = asyncio.Event()  # for an answer to wait for

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.reader = reader  # the newest connection's
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(length))
                self.requests += 1
                await self._answer(self, writer, self.requests)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def play(answer: Answer, scene: Callable[[Engine, Scripted], Awaitable[None]]) -> None:
    async def run() -> None:
        scripted = Scripted(answer)
        server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
        engine = Engine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            async with asyncio.timeout(60):
                await scene(engine, scripted)
        finally:
            await engine.close()
            server.close()

    asyncio.run(run())


async def every(chunks: Chunks) -> list[int]:
    return [chunk["at"] async for chunk in chunks]


def test_a_connection_is_used_again_and_each_by_one_request() -> None:
    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(WHOLE)

    async def scene(engine: Engine, server: Scripted) -> None:
        for _ in range(3):
            assert await engine.whole(PATH, BODY, "the-id") == {"choices": []}
        assert (server.connections, server.requests) == (1, 3)
        assert b"x-request-id: the-id\r\n" in server.heads[0]
        await asyncio.gather(*(engine.whole(PATH, BODY) for _ in range(4)))
        assert server.connections == 4

    play(answer, scene)


def test_a_stream_whose_body_ends_after_its_last_word_keeps_its_connection() -> None:
    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(STREAM + piece(said(1), said(2)) + piece(b"data: [DONE]"))
        await server.read.wait()
        writer.write(END)

    async def scene(engine: Engine, server: Scripted) -> None:
        chunks = await engine.stream(PATH, BODY)
        assert await every(chunks) == [1, 2]
        await chunks.close()
        server.read.set()
        while not engine._connections._idle:
            await asyncio.sleep(0.01)
        assert await every(await engine.stream(PATH, BODY)) == [1, 2]
        assert server.connections == 1

    play(answer, scene)


def test_what_a_client_gave_up_is_hung_up_on() -> None:
    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(STREAM + piece(said(1)))
        await writer.drain()
        while not server.reader.at_eof():
            await asyncio.sleep(0.01)
        server.read.set()

    async def scene(engine: Engine, server: Scripted) -> None:
        chunks = await engine.stream(PATH, BODY)
        assert await chunks.batch() == [{"choices": [], "at": 1}]
        await chunks.close()
        await server.read.wait()

    play(answer, scene)


def test_a_kept_connection_that_was_closed_is_replaced_once() -> None:
    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        if number == 2:
            writer.transport.abort()
        else:
            writer.write(WHOLE)

    async def scene(engine: Engine, server: Scripted) -> None:
        for _ in range(2):
            assert await engine.whole(PATH, BODY) == {"choices": []}
        assert (server.connections, server.requests) == (2, 3)

    play(answer, scene)


def test_pieces_before_a_broken_one_are_told_first() -> None:
    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n")
        writer.write(STREAM + piece(said(1), said(2), b"data: {half") + END)

    async def scene(engine: Engine, server: Scripted) -> None:
        chunks = await engine.stream(PATH, BODY)
        assert [chunk["at"] for chunk in await chunks.batch()] == [1, 2]
        with pytest.raises(ApiError, match="no chunk of an answer"):
            await chunks.batch()
        await chunks.close()

    play(answer, scene)


def test_a_slow_reader_slows_the_engine() -> None:
    wide = piece(b": " + b"x" * 32_000)

    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(STREAM)
        for _ in range(2000):  # more than all buffers between the two hold
            writer.write(wide)
            await writer.drain()
        writer.write(piece(said(1), b"data: [DONE]") + END)
        server.read.set()

    async def scene(engine: Engine, server: Scripted) -> None:
        chunks = await engine.stream(PATH, BODY)
        connection: Any = chunks._reply
        while connection._held <= connections.MOST_HELD:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert connection._held < 1 << 20
        assert not server.read.is_set()
        assert await every(chunks) == [1]

    play(answer, scene)


def test_more_requests_than_connections_wait_and_are_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST", 1)
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 1.0)

    async def answer(server: Scripted, writer: asyncio.StreamWriter, number: int) -> None:
        await server.read.wait()
        writer.write(WHOLE)

    async def scene(engine: Engine, server: Scripted) -> None:
        first = asyncio.create_task(engine.whole(PATH, BODY))
        while not server.requests:
            await asyncio.sleep(0.01)
        with pytest.raises(ApiError, match="Too many requests") as caught:
            await engine.whole(PATH, BODY)
        assert caught.value.status == 503
        server.read.set()
        assert await first == {"choices": []}
        assert await engine.whole(PATH, BODY) == {"choices": []}

    play(answer, scene)
