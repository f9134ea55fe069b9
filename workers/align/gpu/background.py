"""Work beside the training loop: one piece at a time, and its failure is the loop's failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class Background:
    """A thread for one piece of work at a time. Leaving the context waits for it."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work` once the piece before it is done; raises what that one raised."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,), name="background")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is under way. Raises what the work raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what the work raised, if it has ended so; without waiting."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()  # what is under way already tells of worse

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the top of this thread: the loop raises it
            self._error = error
