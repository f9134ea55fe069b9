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

from tests.chaos import journal
from tests.chaos.callers import Pilot, Streamer
from tests.chaos.checker import Verdict
from tests.chaos.final import judge
from tests.chaos.house import LEASE, PATIENCE, SWEEP, House
from tests.chaos.journal import Journal
from tests.chaos.scene import Scene
from tests.chaos.schedule import Plan, Schedule
from tests.chaos.stack import wait_until
from tests.chaos.voters import Client, Counts, Voter

SETTLE = LEASE + SWEEP + 150.0  # seconds without a step: a lease, a sweep, and a long job at load


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
            schedule = Schedule(self.plan, scene, self.say)
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
        plan = self.plan
        sizes = f"{plan.voters}, {plan.comparisons}, {plan.policies}, {plan.experiments}"
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
        pilot = Pilot(
            house.site,
            ground["policies"],
            ground["experiments"],
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
        if not self._quiet(scene):
            self.say("not everything has ended by itself")
        settled = time.monotonic() - began
        self.say(f"no fault for {settled:.0f} s; all is still")
        time.sleep(2)  # the gateway writes what it served behind its answers
        return settled

    def _quiet(self, scene: Scene) -> bool:
        """Wait until no job and no round is under way; False where for long nothing went on."""
        over = "SELECT count(*) AS n FROM loop_round WHERE stage NOT IN "
        over += "('done', 'failed', 'cancelled')"
        done = "SELECT (SELECT count(*) FROM fleet_event) + (SELECT count(*) FROM loop_roundstage)"
        until, went_on = time.monotonic() + SETTLE, -1
        while time.monotonic() < until:
            rounds = self.house.cluster.patient_rows(over)[0]["n"]
            if not rounds and not scene.jobs("queued", "running"):
                return True
            count = self.house.cluster.patient_rows(f"{done} AS n")[0]["n"]
            if count != went_on:
                until, went_on = time.monotonic() + SETTLE, count
            time.sleep(0.5)
        return False

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
        verdict.wrong += scene.findings
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
