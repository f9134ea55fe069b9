"""`make chaos [SEED=n]`: the platform at work under fire, and whether it kept its word.

Annotators vote, clients stream and send feedback, a researcher promotes, rolls back and begins
rounds, all through proxies and without a pause, while a schedule that the seed fixes harms every
part. A fault counts only where it landed in mid-work. Then the faults end, all jobs and rounds must
end by themselves, and the checker compares every client's journal with the database. The last line
is JSON; the exit status is 1 where anything acknowledged was lost, doubled or mixed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import faults, journal
from tests.chaos.callers import Pilot, Streamer
from tests.chaos.checker import Verdict
from tests.chaos.final import judge
from tests.chaos.house import LEASE, PATIENCE, SWEEP, House
from tests.chaos.journal import Journal
from tests.chaos.scene import Missed, Scene, Struck, failpoints
from tests.chaos.stack import wait_until
from tests.chaos.voters import Client, Counts, Voter

# Dear ones, of which a short story has few: the engine takes a while to load.
DEAR = {"engine killed": 1, "worker stopped past its lease": 2, "redis full": 2}
SETTLE = LEASE + SWEEP + 150.0  # seconds: a lease, a sweep, and what is left of a round at load
ORDERS = {"kill": "killed", "error": "error", "full": "disk full", "stop": "stopped"}
ORDERS |= {"sleep 1.5": "slow"}
PLACES = 10  # failpoints in each deck of kinds
AHEAD = 0.02  # of all faults, that may come earlier than their share of the commands


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


@dataclass
class Outcome:
    verdict: Verdict
    landed: Counter[str]
    missed: Counter[str]
    figures: dict[str, Any] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)  # failpoints that struck, and how
    struck_at: list[float] = field(default_factory=list)  # monotonic, of each fault
    votes: list[tuple[float, float]] = field(default_factory=list)  # when answered, after how long

    @property
    def line(self) -> dict[str, Any]:
        found = self.verdict
        return {
            "chaos": "story",
            "faults": sum(self.landed.values()),
            "kinds": len(self.landed),
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "mixed": len(found.mixed),
            "wrong": len(found.wrong),
            "unknown": found.unknown,
            **self.figures,
            "by_kind": dict(sorted(self.landed.items())),
            "missed": sum(self.missed.values()),
        }


class Story:
    def __init__(self, plan: Plan, home: Path) -> None:
        self.plan, self.home = plan, home
        self.house = House(home / "house")
        self.journals: list[Journal] = []
        self.clients: list[Client] = []
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def tell(self) -> Outcome:
        try:
            ground = self._begin()
            scene = self._people(ground)
            schedule = Schedule(self, scene)
            schedule.run()
            settled = self._settle(scene)
            return self._check(ground, scene, schedule, settled)
        finally:
            for client in self.clients:
                client.stopping.set()
                client.hurry.set()
            self.house.stop()

    def _begin(self) -> dict[str, Any]:
        self.say(f"seed {self.plan.seed}; everything is under {self.home}")
        self.house.begin()
        engine = f"http://127.0.0.1:{self.house.engine_port}/health"
        wait_until(lambda: self.house.answers(engine), PATIENCE)
        sizes = f"{self.plan.voters}, {self.plan.comparisons}, {self.plan.policies}"
        program = "import json\nfrom tests.chaos import ground\n"
        laid = self.house.python(f"{program}print(json.dumps(ground.lay({sizes})))")
        self.house.serve()
        self.say("everything answers")
        return dict(json.loads(laid.splitlines()[-1]))

    def _journal(self, name: str) -> Journal:
        made = Journal(self.home / f"{name}.jsonl")
        self.journals.append(made)
        return made

    def _people(self, ground: dict[str, Any]) -> Scene:
        plan, house = self.plan, self.house
        votes, asks, moves = Counts(), Counts(), Counts()

        def given(name: str, counts: Counts) -> dict[str, Any]:
            return {"journal": self._journal(name), "counts": counts, "seed": plan.seed}

        voters = [
            Voter(name, house.site, ground["campaign"], plan.vote_pause, **given(name, votes))
            for name in ground["people"]
        ]
        streamers = [
            Streamer(name, house.api, ground["secret"], plan.stream_pause, **given(name, asks))
            for name in (f"client-{n}" for n in range(plan.streamers))
        ]
        policies, experiment = ground["policies"], ground["experiment"]
        pilot = Pilot(
            house.site,
            policies,
            experiment,
            plan.move_pause,
            launches=plan.launches,
            **given("pilot", moves),
        )
        self.clients = [*voters, *streamers, pilot]
        for client in self.clients:
            client.start()
        wait_until(lambda: votes.acked > 3 * plan.voters and asks.acked > 3, PATIENCE)
        chance = random.Random(f"{plan.seed}:strikes")
        self.say(f"{plan.voters} people vote, {plan.streamers} clients stream, one researcher")
        return Scene(house, voters, streamers, pilot, votes, asks, moves, chance)

    def _settle(self, scene: Scene) -> float:
        """No fault any more: clients finish what they began, jobs and rounds end by themselves."""
        self.house.heal()
        began = time.monotonic()
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            client.join(max(0.1, 60 - (time.monotonic() - began)))
            client.hurry.set()
        for client in self.clients:
            client.join(40)
        over = "SELECT count(*) AS n FROM loop_round WHERE stage NOT IN "
        over += "('done', 'failed', 'cancelled')"

        def quiet() -> bool:
            rounds = self.house.cluster.patient_rows(over)[0]["n"]
            return not rounds and not scene.jobs("queued", "running")

        try:
            wait_until(quiet, SETTLE, 0.5)
        except AssertionError:
            self.say("not everything has ended by itself")
        settled = time.monotonic() - began
        self.say(f"no fault for {settled:.0f} s; all is still")
        time.sleep(2)  # the gateway writes what it served behind its answers
        return settled

    def _check(
        self, ground: dict[str, Any], scene: Scene, schedule: Schedule, settled: float
    ) -> Outcome:
        program = "import json\nfrom tests.chaos import final\n"
        read = self.house.python(f"{program}print(json.dumps(final.read({ground['campaign']})))")
        final = json.loads(read.splitlines()[-1])
        for one in self.journals:
            one.close()
        commands = journal.read(one.path for one in self.journals)
        verdict = judge(commands, final, ground["texts"])
        verdict.wrong += [f"manage.py verify: {said}" for said in self.house.verify()]
        for client in self.clients:
            verdict.wrong += [f"{client.name}: {said}" for said in client.trouble[:3]]
            if client.is_alive():
                verdict.wrong.append(f"{client.name} never came to an end")
        whole = [one for one in commands if one.what == "stream" and one.acked]
        recorded = set(final["exchanges"])
        figures = {
            "commands": sum(one.what != "stream" for one in commands),
            "streams": len(whole),
            "moves": scene.pilot.moves,
            "rounds": len(final["rounds"]),
            "jobs": len(final["jobs"]),
            "attempts": verdict.counts["attempts at jobs"],
            "unrecorded": sum(one.acks[0]["completion"] not in recorded for one in whole),
            "settled_s": round(settled, 1),
            "seconds": round(time.monotonic() - self._began),
            "seed": self.plan.seed,
            "cores": os.cpu_count(),
        }
        found = Outcome(verdict, schedule.landed, schedule.missed, figures)
        found.places, found.struck_at = schedule.places, schedule.struck_at
        found.votes = scene.votes.times
        return found


class Schedule:
    """Which fault follows which: a deck of all kinds, shuffled by the seed, again and again. What
    found nothing to harm is tried again later."""

    def __init__(self, story: Story, scene: Scene) -> None:
        self.story, self.scene, self.plan = story, scene, story.plan
        self.landed: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.places: list[str] = []
        self.struck_at: list[float] = []
        self._waiting: list[Struck] = []
        self._chance = random.Random(self.plan.seed)
        self._kinds = _kinds()
        if self.plan.kinds:
            self._kinds = {name: self._kinds[name] for name in self.plan.kinds}
        self._done: Counter[str] = Counter()

    def run(self) -> None:
        end = time.monotonic() + self.plan.seconds
        deck: list[str] = []
        deferred = 0  # one after the other
        while time.monotonic() < end and not self._enough():
            if not self.plan.faults:
                time.sleep(0.2)
                continue
            if self._ahead():
                self._look()
                time.sleep(0.2)
                continue
            if not deck:
                deck = self._deck()
            kind = deck.pop()
            if self._done[kind] >= DEAR.get(kind, 1_000_000) * max(1, self.plan.faults // 60):
                continue
            if not self.scene.flows(self._kinds[kind].amid):
                deck.insert(0, kind)  # nothing under way there now: later
                deferred += 1
                self._look()
                time.sleep(0.0 if deferred < len(deck) else 0.2)
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
        places = sorted(name for name in self._kinds if ": " in name)
        deck = sorted(self._kinds.keys() - set(places))
        deck += self._chance.sample(places, min(self.plan.places, len(places)))
        self._chance.shuffle(deck)
        return deck

    def _enough(self) -> bool:
        plan, pilot = self.plan, self.scene.pilot
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
        self._waiting.append(struck)

    def _look(self) -> None:
        """Count what has landed."""
        for one in list(self._waiting):
            if one.proof():
                self._waiting.remove(one)
                one.landed()
                self.landed[_kind(one.kind)] += 1
                self.places += [one.kind] if ": " in one.kind else []
                n = sum(self.landed.values())
                self.story.say(f"{n:3}/{self.plan.faults}  {one.kind}: {one.detail}")
            elif time.monotonic() > one.until:
                self._waiting.remove(one)
                self._done[one.kind] -= 1
                self._miss(one.kind, f"{one.detail}: nothing shows it")

    def _miss(self, kind: str, why: str) -> None:
        self.missed[kind] += 1
        self.story.say(f"     -  {kind} did not count: {why}")


def _kinds() -> dict[str, faults.Fault]:
    """All there are; of a failpoint `NAME: what happens there`."""
    found = dict(faults.KINDS)
    for name in failpoints():
        for order, happens in ORDERS.items():
            found[f"{name}: {happens} there"] = faults.Fault(faults.at_failpoint(name, order))
    return found


def _kind(name: str) -> str:
    """What is counted as one kind: a disk that is full is one wherever it is met."""
    at, _, happens = name.partition(": ")
    return happens and f"{happens} (failpoint)" or at


def tell(plan: Plan, home: Path) -> Outcome:
    story = Story(plan, home)
    try:
        return story.tell()
    except BaseException:
        print(story.house.logs(12), file=sys.stderr)
        raise


def main(arguments: Sequence[str]) -> int:
    asking = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    asking.add_argument("--seed", type=int, default=None)
    asking.add_argument("--faults", type=int, default=60)
    asking.add_argument("--seconds", type=float, default=270.0)
    asking.add_argument("--kinds", nargs="*", default=[], help="only these")
    asking.add_argument("--keep", action="store_true", help="journals and logs, for a look")
    asked = asking.parse_args(arguments)
    seed = random.SystemRandom().randrange(10_000) if asked.seed is None else asked.seed
    home = Path(tempfile.mkdtemp(prefix="plumbline-chaos-"))
    plan = Plan(seed, asked.faults, asked.seconds, kinds=tuple(asked.kinds))
    outcome = tell(plan, home)
    print(outcome.verdict.words())
    if outcome.verdict.kept and not asked.keep:
        shutil.rmtree(home, ignore_errors=True)
    else:
        print(f"Journals and logs are kept in {home}.")
    print(json.dumps(outcome.line), flush=True)
    return 0 if outcome.verdict.kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
