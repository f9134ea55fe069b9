"""One thread that steps every running generation, one token each.

Requests for one model share a batch; an answer depends on its own request only, so with a seed it
is the same alone and under load (`align.gpu.batch` says how). Requests for a model that cannot have
that take turns. What waits beyond `CAPACITY` is refused rather than queued for ever.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from align.gpu.answers import Answers, Draw, Sampling, end_tokens
from align.gpu.batch import Batch
from align.gpu.generate import Generation
from align.gpu.residents import Resident, Residents, Unknown

T = TypeVar("T")

RUNNING = 128  # requests at a time
CAPACITY = 256  # running and waiting ones together


class Busy(Exception):
    """The engine has as many requests as it takes; the client should come again."""


@dataclass(eq=False)
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
    answers: Answers | None = None


class Engine:
    def __init__(self, residents: Residents, max_length: int) -> None:
        self.max_length = max_length
        self._residents = residents
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._batches: dict[int, Batch] = {}  # by the resident's id()
        self._alone: dict[int, Generation] = {}  # by the ticket's id()
        self._load = 0  # tickets not yet ended
        self.generated = 0  # tokens, since the start
        self._sleepy: Future[None] | None = None  # asked to sleep; done when it does
        self._postponed: list[Callable[[], None]] = []  # calls that came during sleep
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket) -> Future[None]:
        """Queue a request. Raises Busy when there are CAPACITY already. Done when it is admitted:
        from then on it is answered by its model, even when that is unloaded meanwhile. Unknown,
        which its `tell` gets too, when that has been unloaded before."""
        with self._lock:
            if self._load >= CAPACITY:
                raise Busy(f"{CAPACITY} requests are waiting already")
            self._load += 1
        admitted: Future[None] = Future()
        admitted.set_running_or_notify_cancel()  # whoever waits may leave, the engine must not mind
        self._inbox.put(lambda: self._admit(ticket, admitted))
        return admitted

    @property
    def load(self) -> int:
        """Requests running or waiting."""
        return self._load

    @property
    def sleeping(self) -> bool:
        """Whether it sleeps, or will as soon as what runs has ended."""
        return self._sleepy is not None

    def sleep(self) -> Future[None]:
        """Give the memory of all weights back once the running requests have ended. What comes in
        meanwhile waits for `wake`, within CAPACITY."""
        slept: Future[None] = Future()

        def act() -> None:
            if self._sleepy is None:
                self._sleepy = slept
            else:
                self._sleepy.add_done_callback(lambda earlier: slept.set_result(None))
            self._doze()

        self._inbox.put(act)
        return slept

    def wake(self) -> Future[None]:
        """Load the same weights again and go on with what has waited; awake, it stays so."""
        woken: Future[None] = Future()

        def act() -> None:
            try:
                self._rise()
                woken.set_result(None)
            except Exception as error:  # the caller's future carries it
                woken.set_exception(error)

        self._inbox.put(act)
        return woken

    def call(self, action: Callable[[Residents], T]) -> Future[T]:
        """Run `action` on the residents between two steps; during sleep, after it."""
        future: Future[T] = Future()

        def act() -> None:
            if self._residents.asleep:
                self._postponed.append(act)
                return
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

    def _doze(self) -> None:
        if self._sleepy is not None and not self._running and not self._residents.asleep:
            self._residents.sleep()
            self._sleepy.set_result(None)

    def _rise(self) -> None:
        if self._residents.asleep:
            self._residents.wake()
        elif self._sleepy is not None:
            self._sleepy.set_result(None)  # it never came to it
        self._sleepy = None
        postponed, self._postponed = self._postponed, []
        for act in postponed:
            act()

    def _work(self) -> None:
        while self._take_orders():
            while self._waiting and not self._sleepy and len(self._running) < RUNNING:
                self._begin(self._waiting.popleft())
            for resident in self._next():
                self._step(resident, [one for one in self._running if one.resident is resident])

    def _next(self) -> Sequence[Resident]:
        """The models to step now: all that are asked, or those alone that were never heard."""
        asked = {id(one.resident): one.resident for one in self._running}.values()
        new = [one for one in asked if one.debut]
        for resident in new:
            resident.debut -= 1
        return new or list(asked)

    def _take_orders(self) -> bool:
        """Do what came in; sleep while there is nothing to step. False when closed."""
        while True:
            idle = not self._running and (self.sleeping or not self._waiting)
            try:
                order = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            if order is None:
                return False
            order()

    def _admit(self, ticket: Ticket, admitted: Future[None]) -> None:
        """The name may have been unloaded since the request looked it up."""
        if self._residents.serves(ticket.resident):
            ticket.resident.users += 1
            self._waiting.append(ticket)
            admitted.set_result(None)
        else:
            self._forget()
            unknown = Unknown(ticket.resident.name)
            ticket.tell(unknown)
            admitted.set_exception(unknown)

    def _begin(self, ticket: Ticket) -> None:
        resident = ticket.resident
        settings: dict[str, Any] = {"max_length": self.max_length, "watched": ticket.watched}
        self._running.append(ticket)
        try:
            model = self._residents.ready(resident)
            if resident.alone is not None:
                generation = Generation(
                    model, resident.tokenizer, ticket.prompts, ticket.sampling, **settings
                )
                self._alone[id(ticket)] = generation
                ticket.answers = generation.answers
                return
            ends = end_tokens(model, resident.tokenizer)
            ticket.answers = Answers(
                resident.tokenizer, ends, ticket.prompts, ticket.sampling, **settings
            )
            batch = self._batches.setdefault(id(resident), Batch(model))
            batch.add(ticket.answers)
        except Exception as error:  # one request's failure must not end the others
            self._fail([ticket], error)

    def _step(self, resident: Resident, tickets: Sequence[Ticket]) -> None:
        """One token for each draw of a resident's requests."""
        for ticket in [one for one in tickets if one.cancelled.is_set()]:
            self._end(ticket)
        tickets = [one for one in tickets if not one.cancelled.is_set()]
        if not tickets:
            return
        try:
            self._residents.ready(resident)
            if resident.alone is None:
                moved = self._batches[id(resident)].step()
                for ticket in tickets:
                    assert ticket.answers is not None
                    self._tell(ticket, moved.get(ticket.answers, ()))
                return
        except Exception as error:  # it is theirs; other models' requests go on
            self._batches.pop(id(resident), None)
            self._fail(tickets, error)
            return
        for ticket in tickets:
            try:
                self._tell(ticket, self._alone[id(ticket)].step())
            except Exception as error:  # one request's failure must not end the others
                self._fail([ticket], error)

    def _tell(self, ticket: Ticket, moved: Sequence[Draw]) -> None:
        assert ticket.answers is not None
        self.generated += len(moved)
        if ticket.watched and moved:
            ticket.tell(moved)
        if ticket.answers.done:
            if not ticket.watched:
                ticket.tell(ticket.answers.draws)
            self._end(ticket)

    def _fail(self, tickets: Iterable[Ticket], error: Exception) -> None:
        traceback.print_exception(error)
        for ticket in tickets:
            ticket.tell(error)
            self._end(ticket)

    def _end(self, ticket: Ticket) -> None:
        """Let go of a running request, done or not."""
        self._running.remove(ticket)
        self._alone.pop(id(ticket), None)
        batch = self._batches.get(id(ticket.resident))
        if batch is not None and ticket.answers is not None:
            batch.drop(ticket.answers)
            if not batch.busy:
                del self._batches[id(ticket.resident)]
        ticket.resident.users -= 1
        ticket.resident.debut = 0
        self._forget()
        self._residents.sweep()
        self._doze()

    def _forget(self) -> None:
        with self._lock:
            self._load -= 1
