"""Browsers that vote without a pause: what the ballot page's script sends, at little cost.

One thread and one connection for each person; a reply is only looked at for its status, the address
of the next comparison and the key of its form. The machine that is measured also runs this.
"""

from __future__ import annotations

import random
import re
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

CHOICES = ("A1", "A2", "A3", "B1", "B2", "B3", "tie", "bad")  # of the ballot page's scale
FIRST_VOTES = 3  # of each person, that warm the server up and are not measured
PATIENCE = 60.0  # seconds for a reply
TOKEN = "b" * 32
KEY = re.compile(rb'name="key" value="([0-9a-f-]{36})"')
NEXT = re.compile(rb"\r\nhx-push-url: ([^\r]+)", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass
class Browser:
    """One signed-in person. `drafts`: each choice rests for a moment before it is saved, so that
    the page sends a draft of it."""

    port: int
    session: str
    claim: str  # the path that gives the next comparison
    drafts: bool = False
    votes: int = 0
    taken: list[tuple[float, float]] = field(default_factory=list)  # began, seconds
    failure: str = ""

    def __post_init__(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", self.port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.busy, self.began, self._read = True, 0.0, bytearray()
        self._ballot, self._key, self._drafting, self._said = "", "", False, ""
        self._send(self.claim, "")

    def arrived(self) -> bool:
        """Read what has come; whether it completes a reply."""
        more = self.connection.recv(1 << 18)
        if not more:
            raise OSError("the server closed the connection")
        self._read += more
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = LENGTH.search(self._read, 0, end)
        if length is None and self._read[9:12] != b"204":
            raise ValueError(f"a reply without a length: {bytes(self._read[:200])!r}")
        if len(self._read) < end + 4 + int(length[1] if length else 0):
            return False
        self._take(bytes(self._read), end)
        self._read.clear()
        self.busy = False
        return True

    def go_on(self) -> None:
        """Vote, or keep the choice as a draft first."""
        self.busy = True
        if self.drafts and not self._drafting:
            self._drafting, self._said = True, random.choice(CHOICES)
            self._send(f"{self._ballot}draft/", f"choice={self._said}&comment=")
            return
        said = self._said if self._drafting else random.choice(CHOICES)
        self._drafting = False
        form = f"csrfmiddlewaretoken={TOKEN}&key={self._key}&active_ms=9000&choice={said}&comment="
        self.began = time.perf_counter()
        self._send(self._ballot, form)

    def _take(self, reply: bytes, end: int) -> None:
        status = reply[9:12]
        if self._drafting and status == b"204":
            return
        following, key = NEXT.search(reply, 0, end + 2), KEY.search(reply, end)
        if status != b"200" or following is None or key is None:
            raise ValueError(f"{self._ballot} was answered {reply[:300]!r}")
        ballot = following[1].decode()
        if ballot == self._ballot:
            raise ValueError("the vote was not taken")
        if self._ballot:
            self.votes += 1
            self.taken.append((self.began, time.perf_counter() - self.began))
        self._ballot, self._key = ballot, key[1].decode()

    def _send(self, path: str, form: str) -> None:
        self.connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nHX-Request: true\r\n"
            f"HX-Target: ballot\r\nHX-Current-URL: http://localhost{self._ballot}\r\n"
            f"X-CSRFToken: {TOKEN}\r\nCookie: sessionid={self.session}; csrftoken={TOKEN}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
        )


def vote(browsers: Sequence[Browser], seconds: float, begun: Callable[[], None]) -> float:
    """Let everybody vote: until all have warmed up, then for so many seconds. `begun` is called at
    the start of these. Returns their start; a browser that fails says so and stops."""
    ready = selectors.DefaultSelector()
    for browser in browsers:
        ready.register(browser.connection, selectors.EVENT_READ, browser)
    start, end, patience = 0.0, float("inf"), time.perf_counter() + PATIENCE
    while any(browser.busy for browser in browsers) and time.perf_counter() < patience:
        for chosen, _ in ready.select(1.0):
            patience = time.perf_counter() + PATIENCE
            browser: Browser = chosen.data
            try:
                if browser.arrived() and time.perf_counter() < end:
                    browser.go_on()
            except (OSError, ValueError) as error:
                browser.failure, browser.busy = f"{type(error).__name__}: {error}", False
                ready.unregister(browser.connection)
        if not start and all(one.failure or one.votes >= FIRST_VOTES for one in browsers):
            begun()
            start = time.perf_counter()
            end = start + seconds
    for browser in browsers:
        if browser.busy:
            browser.failure = "no reply"
        browser.connection.close()
    ready.close()
    return start
