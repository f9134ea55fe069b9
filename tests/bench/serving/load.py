"""Clients of an OpenAI server in a process of their own: `python -m tests.bench.serving.load`.

Reads one JSON object a line and answers with one. Each client is one kept connection that asks
again as soon as it has its answer. It speaks HTTP as little as it can, straight on asyncio's
transports: on the same cores as the server, what a client costs is taken from the server.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

WORD = re.compile(rb'"(?:content|text)": ?"[^"]')  # a piece of a stream that says something
LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)
LAST = b"\r\n0\r\n\r\n"  # of a body in pieces
PATIENCE = 120.0  # seconds for one answer


class Client(asyncio.Protocol):
    """One connection. `head` is an answer's status line and headers, `body` all after them."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[None]:
        assert self.transport is not None
        self.head, self.body, self.length = b"", bytearray(), -1
        self.first: float | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began = time.perf_counter()
        self.transport.write(request)
        return self.ended

    def data_received(self, data: bytes) -> None:
        self.body += data
        if not self.head:
            head, blank, body = bytes(self.body).partition(b"\r\n\r\n")
            if not blank:
                return
            self.head, self.body = head, bytearray(body)
            told = LENGTH.search(head)
            self.length = int(told[1]) if told else -1
        if self.length < 0 and self.first is None and WORD.search(self.body):
            self.first = time.perf_counter() - self.began
        if len(self.body) == self.length or (self.length < 0 and self.body.endswith(LAST)):
            self.took = time.perf_counter() - self.began
            if not self.ended.done():
                self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self, "ended") and not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the server hung up"))
            self.ended.exception()  # looked at, whether or not anybody waits for it

    def trouble(self, streamed: bool) -> str:
        """What is wrong with the answer; nothing if it is whole."""
        if b" 200 " not in self.head[:20]:
            return (self.head[:60] + bytes(self.body[:200])).decode(errors="replace")
        if streamed and b"data: [DONE]" not in self.body:
            return "a stream without an end"
        return ""


def requests_of(job: dict[str, Any]) -> list[bytes]:
    """The HTTP request for each of the job's prompts."""
    made = []
    for prompt in job["prompts"]:
        body = {"model": job["model"], "messages": [{"role": "user", "content": prompt}]}
        raw = json.dumps({**body, "stream": job["stream"], **job["more"]}).encode()
        head = [f"POST /v1/chat/completions HTTP/1.1\r\nhost: {job['host']}:{job['port']}"]
        head += [f"authorization: Bearer {job['key']}", "content-type: application/json"]
        head += [f"content-length: {len(raw)}", "", ""]
        made.append("\r\n".join(head).encode() + raw)
    return made


async def connect(job: dict[str, Any]) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, job["host"], job["port"])
    return client


async def crowd(job: dict[str, Any]) -> dict[str, Any]:
    """`clients` that ask for `seconds`; figures of what ended by then, times in seconds."""
    requests = requests_of(job)
    clients = [await connect(job) for _ in range(job["clients"])]
    took: list[float] = []
    prompts: list[int] = []  # of each that was answered
    firsts: list[float] = []
    troubles: list[str] = []
    pieces = 0
    used, begun = time.process_time(), time.perf_counter()

    async def one(client: Client, place: int) -> None:
        nonlocal pieces
        while time.perf_counter() - begun < job["seconds"]:
            prompt = place % len(requests)
            await asyncio.wait_for(client.ask(requests[prompt]), PATIENCE)
            place += len(clients)
            if trouble := client.trouble(job["stream"]):
                troubles.append(trouble)
                continue
            if time.perf_counter() - begun < job["seconds"]:
                took.append(client.took)
                prompts.append(prompt)
                pieces += client.body.count(b"data: ")
                if client.first is not None:
                    firsts.append(client.first)

    await asyncio.gather(*(one(client, place) for place, client in enumerate(clients)))
    used = time.process_time() - used
    for client in clients:
        assert client.transport is not None
        client.transport.close()
    figures = {"took": took, "prompts": prompts, "firsts": firsts, "pieces": pieces, "cpu": used}
    return {**figures, "failed": len(troubles), "failures": troubles[:3]}


async def hold(job: dict[str, Any]) -> None:
    """`clients` streams at once. Says when all have their first word; lets go when told to."""
    request = requests_of(job)[0]
    clients: list[Client] = []
    while len(clients) < job["clients"]:
        more = [await connect(job) for _ in range(min(50, job["clients"] - len(clients)))]
        for client in more:
            client.ask(request)
        clients += more
        await _all_speak(more)
    say({"open": _open(clients)})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    say({"open": _open(clients)})
    for client in clients:
        assert client.transport is not None
        client.transport.abort()


async def _all_speak(clients: Sequence[Client]) -> None:
    until = time.monotonic() + PATIENCE
    while any(client.first is None for client in clients) and time.monotonic() < until:
        await asyncio.sleep(0.05)


def _open(clients: Sequence[Client]) -> int:
    """Streams that have said something and have not ended."""
    return sum(client.first is not None and not client.ended.done() for client in clients)


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        if job["do"] == "hold":
            asyncio.run(hold(job))
        else:
            say(asyncio.run(crowd(job)))


if __name__ == "__main__":
    main()
