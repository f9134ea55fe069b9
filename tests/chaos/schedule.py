"""Which fault follows which, how often and how fast, as a seed fixes it."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos import errands, faults
from tests.chaos.scene import Missed, Scene, Struck, failpoints

# Dear ones, of which a short story has few: the engine takes a while to load.
DEAR = {"engine killed": 1, "worker stopped past its lease": 2, "redis full": 2}
ORDERS = {"kill": "killed", "error": "error", "full": "disk full", "stop": "stopped"}
ORDERS |= {"sleep 1.5": "slow"}
PLACES = 10  # failpoints in each deck of kinds
AHEAD = 0.02  # of all faults, that may come earlier than their share of the commands
# Nobody comes to these on a quiet day: what makes somebody come.
BRINGS = {
    "checkpoint.failed": "checkpoint.described: disk full there",
    "checkpoint.cleared": "checkpoint.described: disk full there",
    "checkpoint.sweep": "checkpoint.described: killed there",
    "checkpoint.swept": "checkpoint.described: killed there",
    "lease.lost": "worker tree killed",
    "lease.released": "worker told to leave",
}


@dataclass
class Plan:
    """How much of everything."""

    seed: int
    faults: int = 60
    seconds: float = 270.0  # of faults, at most
    voters: int = 5
    streamers: int = 3
    policies: int = 3
    comparisons: int = 30_000
    vote_pause: float = 0.05
    stream_pause: float = 0.1
    move_pause: float = 3.0
    gap: tuple[float, float] = (0.2, 1.0)  # seconds between two faults
    kinds: tuple[str, ...] = ()  # () is all
    commands: int = 0  # go on until so many votes have been taken; faults keep pace with them
    moves: int = 0  # and until the alias has been moved so often
    places: int = PLACES
    launches: bool = True  # whether rounds are begun
    experiments: int = 1  # whose rounds go on beside one another
    once: bool = False  # every kind lands once, and then the story is over


class Schedule:
    """Which fault follows which: a deck of all kinds, shuffled by the seed, again and again. What
    found nothing to harm is tried again later."""

    def __init__(self, plan: Plan, scene: Scene, say: Callable[[str], None]) -> None:
        self.plan, self.scene, self.say = plan, scene, say
        self.landed: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.places: list[str] = []
        self.struck_at: list[float] = []
        self._waiting: list[Struck] = []
        self._chance = random.Random(self.plan.seed)
        self._kinds = _kinds()
        self._wanted = self.plan.kinds or tuple(
            name for name in self._kinds if not name.startswith(errands.PLACES)
        )
        self._done: Counter[str] = Counter()

    def run(self) -> None:
        end = time.monotonic() + self.plan.seconds
        deck: list[str] = []
        deferred = 0  # one after the other
        while time.monotonic() < end and not self._enough():
            deck = deck or self._deck()
            if not self.plan.faults or self._ahead() or not deck:
                self._look()
                time.sleep(0.2)
                continue
            kind = deck.pop()
            if self._done[kind] >= DEAR.get(kind, 1_000_000) * max(1, self.plan.faults // 60):
                continue
            if not self.scene.flows(self._kinds[kind].amid):
                deck.insert(0, kind)  # nothing under way there now: later
                deferred += 1
                self._look()
                if deferred >= len(deck):
                    deck, deferred = self._deck(), 0  # all wait for the same
                    time.sleep(0.2)
                continue
            deferred = 0
            self._strike(kind)
            self._look()
            time.sleep(self._chance.uniform(*self.plan.gap))
        last = time.monotonic() + 20
        while self._waiting and time.monotonic() < last and not self._enough():
            self._look()
            time.sleep(0.2)
        for one in self._waiting:
            self._miss(one.kind, "did not land before the end")

    def _deck(self) -> list[str]:
        """Every kind once, and as many places in the code as leave room for the others."""
        if self.plan.once:
            return self._left()
        places = sorted(name for name in self._wanted if ": " in name)
        deck = sorted(set(self._wanted) - set(places))
        deck += self._chance.sample(places, min(self.plan.places, len(places)))
        self._chance.shuffle(deck)
        return deck

    def _left(self) -> list[str]:
        """What has neither landed nor is waiting to; where all wait, what helps one to land."""
        waiting = {one.kind for one in self._waiting}
        left = sorted(set(self._wanted) - waiting - set(self.places))
        self._chance.shuffle(left)
        if left:
            return left
        held = {_place(kind) for kind in waiting}
        helps = {BRINGS[place] for place in sorted(held & BRINGS.keys())}
        return sorted(kind for kind in helps - waiting if _place(kind) not in held)

    def _enough(self) -> bool:
        plan, pilot = self.plan, self.scene.pilot
        if plan.once:
            return set(self._wanted) <= set(self.places)
        worked = self.scene.votes.acked >= plan.commands and pilot.moves >= plan.moves
        return worked and sum(self.landed.values()) >= plan.faults

    def _ahead(self) -> bool:
        """Whether more of the faults have been done than of the commands they are to be spread
        over; people then work in peace for a while."""
        plan = self.plan
        done = sum(self.landed.values()) + len(self._waiting)
        return done * plan.commands > (self.scene.votes.acked + AHEAD * plan.commands) * plan.faults

    def _strike(self, kind: str) -> None:
        try:
            struck = self._kinds[kind].strike(self.scene)
        except Missed as reason:
            self._miss(kind, str(reason))
            return
        self._done[kind] += 1
        self.struck_at.append(time.monotonic())
        struck.kind = kind
        if self.plan.once and kind in self._wanted:
            struck.until = math.inf
        self._waiting.append(struck)

    def _look(self) -> None:
        """Count what has landed, and take back what has not in time: whoever a late order stopped
        would stand still for ever."""
        for one in list(self._waiting):
            if late := time.monotonic() > one.until:
                one.withdraw()
            if one.proof():
                self._waiting.remove(one)
                one.landed()
                self.landed[_kind(one.kind)] += 1
                self.places += [one.kind] if ": " in one.kind else []
                n = sum(self.landed.values())
                self.say(f"{n:3}/{self.plan.faults}  {one.kind}: {one.detail}")
            elif late:
                self._waiting.remove(one)
                self._done[one.kind] -= 1
                self._miss(one.kind, f"{one.detail}: nothing shows it")

    def _miss(self, kind: str, why: str) -> None:
        self.missed[kind] += 1
        self.say(f"     -  {kind} did not count: {why}")


def _kinds() -> dict[str, faults.Fault]:
    """All there are; of a failpoint `NAME: what happens there`."""
    found = dict(faults.KINDS)
    for name in failpoints():
        at = errands.at_failpoint if name.startswith(errands.PLACES) else faults.at_failpoint
        for order, happens in ORDERS.items():
            found[f"{name}: {happens} there"] = faults.Fault(at(name, order))
    return found


def _place(name: str) -> str:
    """Where in the code, "" for a fault that is at no failpoint."""
    at, _, happens = name.partition(": ")
    return at if happens else ""


def _kind(name: str) -> str:
    """What is counted as one kind: a disk that is full is one wherever it is met."""
    at, _, happens = name.partition(": ")
    return happens and f"{happens} (failpoint)" or at
