"""Things on the host that nothing inside a sandbox may reach, and whether anything did."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

SECRET = "canary-5b1f7c2e"
VARIABLE = "PLUMBLINE_CANARY"
IN_NONBLOCK = 0o4000
# Every way of reading, writing, opening, renaming or unlinking a file of a watched folder.
IN_ANY = 0x00000FFF & ~0x00000018  # without the closing of a file, which follows an opening


@dataclass
class Canaries:
    file: Path
    home: Path
    port: int
    _listener: socket.socket
    _watch: int
    _children: frozenset[int]

    def filled(self, code: str) -> str:
        """A hostile program's text with the canaries' places in it."""
        text = code.replace("FILE", str(self.file)).replace("HOME", str(self.home))
        return text.replace("PORT", str(self.port))

    def check(self) -> None:
        """That no file was touched, nobody called and no process is left."""
        assert self.touched() == []
        assert self.file.read_text() == SECRET
        assert self.touched() != [], "the watch works: this very reading was seen"
        assert not self.file.with_name(f"{self.file.name}.touched").exists()
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(f"somebody called: {self._listener.accept()}")
        assert self.children() == self._children

    def touched(self) -> list[str]:
        """Names of watched files that were touched since the last look."""
        found = []
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._watch, 1 << 16)
            while data:
                length = struct.unpack("iIII", data[:16])[3]
                found.append(data[16 : 16 + length].rstrip(b"\0").decode())
                data = data[16 + length :]
        return found

    @staticmethod
    def children() -> frozenset[int]:
        return frozenset(one.pid for one in psutil.Process().children(recursive=True))


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Canaries]:
    """A file, a home with a database, an environment variable and a listening socket."""
    home = folder / "home"
    home.mkdir()
    (home / "db.sqlite3").write_text(SECRET)
    file = folder / "canary"
    file.write_text(SECRET)
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(IN_NONBLOCK)
    for one in (folder, home):
        assert libc.inotify_add_watch(watch, os.fsencode(one), IN_ANY) >= 0
    os.environ[VARIABLE] = SECRET
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            port = listener.getsockname()[1]
            yield Canaries(file, home, port, listener, watch, Canaries.children())
    finally:
        del os.environ[VARIABLE]
        os.close(watch)
