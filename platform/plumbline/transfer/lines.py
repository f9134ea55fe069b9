"""JSON lines of a file, plain or gzipped, one at a time and of a bounded length.

Whatever is wrong with a line is told with its number and reading goes on; only a compressed
stream that breaks off, or unpacks to more than is allowed, ends it. The file is never held in
memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

LONGEST_LINE = 4 << 20  # bytes
GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"


class Lines:
    """Iterates over (line number, JSON object or the sentence about what is wrong).

    `advanced` is told how many bytes of the file have been read since the last time. After the
    last line `sha256` is the digest of all lines read, and `whole` says whether that was the
    file's last. most: bytes that are read of it at most, unpacked.
    """

    def __init__(
        self,
        path: Path,
        advanced: Callable[[int], object] = lambda n: None,
        most: int | None = None,
    ) -> None:
        self._path = path
        self._advanced = advanced
        self._most = most
        self._read = 0
        self.whole = False
        self._digest = hashlib.sha256()
        self._told = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        with self._path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            stream: gzip.GzipFile | IO[bytes] = gzip.GzipFile(fileobj=raw) if zipped else raw
            number = 0
            while True:
                number += 1
                try:
                    line = stream.readline(LONGEST_LINE + 1)
                    self._count(line)
                    oversized = len(line) > LONGEST_LINE
                    if oversized:
                        self._pass_over(stream, line)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    yield number, f"the compressed file is damaged from here on ({error})"
                    return
                if not line:
                    self.whole = True
                    return
                if self._most is not None and self._read > self._most:
                    yield number, f"the file unpacks to more than {_size(self._most)}"
                    return
                self._tell(raw)
                if oversized:
                    yield number, f"the line is longer than {LONGEST_LINE >> 20} MiB"
                elif line.strip():
                    yield number, _object(line.removeprefix(BOM) if number == 1 else line)

    def _pass_over(self, stream: gzip.GzipFile | IO[bytes], line: bytes) -> None:
        """Read to the end of a line that is too long, without keeping it."""
        while line and not line.endswith(b"\n"):
            line = stream.readline(io.DEFAULT_BUFFER_SIZE)
            self._count(line)
            if self._most is not None and self._read > self._most:
                return

    def _count(self, read: bytes) -> None:
        self._digest.update(read)
        self._read += len(read)

    def _tell(self, raw: IO[bytes]) -> None:
        position = raw.tell()
        self._advanced(position - self._told)
        self._told = position


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def _object(line: bytes) -> Mapping[str, Any] | str:
    try:
        value = json.loads(line.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} of the line is not UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return "not usable: nested too deeply"
    except ValueError as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else "the line is JSON, but not an object"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
