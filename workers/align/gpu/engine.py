"""One thread that steps every running generation in turn, one token each.

Requests never share a batch, so an answer depends on its own request only: with a seed it is the
same alone and under load. What waits beyond `CAPACITY` is refused rather than queued for ever.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from align.gpu.generate import Draw, Generation, Sampling
from align.gpu.residents import Resident, Residents, Unknown

T = TypeVar("T")

RUNNING = 16  # generations that take turns
CAPACITY = 256  # running and waiting ones together


class Busy(Exception):
    """The engine has as many requests as it takes; the client should come again."""


@dataclass
class Ticket:
    """A request in the engine. `tell` is called from the worker's thread: with the draws that
    moved on after every step when `watched`, else once with all of them; or with the exception
    that ended it."""

    resident: Resident
    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    watched: bool
    tell: Callable[[Sequence[Draw] | Exception], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    generation: Generation | None = None


class Engine:
    def __init__(self, residents: Residents, max_length: int) -> None:
        self.max_length = max_length
        self._residents = residents
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Ticket] = deque()
        self._running: deque[Ticket] = deque()
        self._load = 0  # tickets not yet ended
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Queue a request. Raises Busy when there are CAPACITY already."""
        with self._lock:
            if self._load >= CAPACITY:
                raise Busy(f"{CAPACITY} requests are waiting already")
            self._load += 1
        self._inbox.put(lambda: self._admit(ticket))

    @property
    def load(self) -> int:
        """Requests running or waiting."""
        return self._load

    def call(self, action: Callable[[Residents], T]) -> Future[T]:
        """Run `action` on the residents between two steps."""
        future: Future[T] = Future()

        def act() -> None:
            try:
                future.set_result(action(self._residents))
            except Exception as error:  # the caller's future carries it
                future.set_exception(error)

        self._inbox.put(act)
        return future

    def close(self) -> None:
        """Stop after the step in progress."""
        self._inbox.put(None)
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while self._take_orders():
            while self._waiting and len(self._running) < RUNNING:
                self._running.append(self._waiting.popleft())
            if self._running:
                ticket = self._running.popleft()
                if self._advance(ticket):
                    self._running.append(ticket)
                else:
                    self._end(ticket)

    def _take_orders(self) -> bool:
        """Do what came in; sleep while there is nothing to step. False when closed."""
        while True:
            idle = not self._running and not self._waiting
            try:
                order = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            if order is None:
                return False
            order()

    def _admit(self, ticket: Ticket) -> None:
        """The name may have been unloaded since the request looked it up."""
        if self._residents.serves(ticket.resident):
            ticket.resident.users += 1
            self._waiting.append(ticket)
        else:
            self._forget()
            ticket.tell(Unknown(ticket.resident.name))

    def _advance(self, ticket: Ticket) -> bool:
        """One token for each of the ticket's draws; whether there are more to come."""
        if ticket.cancelled.is_set():
            return False
        try:
            model: Any = self._residents.ready(ticket.resident)
            if ticket.generation is None:
                ticket.generation = Generation(
                    model,
                    ticket.resident.tokenizer,
                    ticket.prompts,
                    ticket.sampling,
                    max_length=self.max_length,
                    watched=ticket.watched,
                )
            moved = ticket.generation.step()
        except Exception as error:  # one request's failure must not end the others
            traceback.print_exc()
            ticket.tell(error)
            return False
        if ticket.watched:
            ticket.tell(moved)
        elif ticket.generation.done:
            ticket.tell(ticket.generation.draws)
        return not ticket.generation.done

    def _end(self, ticket: Ticket) -> None:
        self._forget()
        ticket.resident.users -= 1
        self._residents.sweep()

    def _forget(self) -> None:
        with self._lock:
            self._load -= 1
