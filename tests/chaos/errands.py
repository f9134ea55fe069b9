"""What an operator does while everybody works: backups, restores, imports.

Each is struck at a place in its middle, and the same command again must come to a good end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.chaos.cluster import NAME
from tests.chaos.ground import VOTERS
from tests.chaos.house import House, manage
from tests.chaos.scene import Scene, Struck

PLACES = ("backup.", "restore.", "import.")
ORDERS = "orders"  # a folder of each errand's
COUNTED = """
SELECT (SELECT count(*) FROM collect_ballot AS ballot
    JOIN collect_comparison AS comparison ON comparison.id = ballot.comparison_id
    JOIN collect_campaign AS campaign ON campaign.id = comparison.campaign_id
    WHERE campaign.name = %s) AS votes,
    (SELECT count(*) FROM collect_promptset WHERE name = %s) AS sets
"""
ROWS = 700  # of an import: two chunks
STOPPED = 2.0  # seconds that a command stands still
PATIENCE = 240.0  # seconds for a command
WITHIN = 3 * PATIENCE

_numbers = itertools.count(1)
_room = threading.Semaphore(2)  # errands at a time


@dataclass
class Errand:
    """A command, struck at a place of its own, and done again where it did not come to its end."""

    house: House
    place: str
    order: str
    findings: list[str]
    over: threading.Event = field(default_factory=threading.Event)
    struck: bool = False

    def run(self) -> None:
        with _room:
            try:
                self._do()
            except Exception as error:
                self.findings.append(f"{self.order} at {self.place}: {error}"[:600])
            finally:
                self.over.set()

    def _do(self) -> None:
        folder = self.house.home / "errands" / f"errand-{next(_numbers)}"
        (folder / ORDERS).mkdir(parents=True)
        ACTS[self.place.partition(".")[0]](self, folder)
        shutil.rmtree(folder)

    def twice(self, folder: Path, command: list[str], **given: str) -> None:
        """With the order given, and without, where that did not come to its end."""
        orders = folder / ORDERS  # of its own: nobody else is to come to the place
        (orders / self.place).write_text(self.order)
        process = self._begin(command, {**given, "PLUMBLINE_FAILPOINTS": str(orders)})
        taken = orders / f"{self.place}.{process.pid}"
        self._wake(process, taken)
        printed, said = _end(process)
        self.struck = taken.exists()
        if self.order == "full" and "Traceback" in said:
            raise RuntimeError(f"a disk that is full is no sentence: {said[-300:]}")
        if not _well(process.returncode, printed):
            self.once(command, **given)

    def once(self, command: list[str], **given: str) -> None:
        """Raises RuntimeError where it does not succeed."""
        process = self._begin(command, {**given, "PLUMBLINE_FAILPOINTS": ""})
        printed, said = _end(process)
        if not _well(process.returncode, printed):
            told = f"{said or printed}"[-400:]
            raise RuntimeError(f"{' '.join(command[:2])} ended with {process.returncode}: {told}")

    def killed(self, folder: Path, command: list[str], place: str, **given: str) -> None:
        """Begun, and killed at a place."""
        orders = folder / ORDERS
        (orders / place).write_text("kill")
        process = self._begin(command, {**given, "PLUMBLINE_FAILPOINTS": str(orders)})
        _end(process)
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"{command[0]} never came to {place}")

    def _begin(self, command: list[str], given: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            manage(*command),
            env=self.house.environment(**given),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _wake(self, process: subprocess.Popen[str], taken: Path) -> None:
        """Whoever is stopped at the place stands there for a while."""
        end = time.monotonic() + PATIENCE
        while self.order == "stop" and process.poll() is None and time.monotonic() < end:
            if taken.exists():
                time.sleep(STOPPED)
                os.kill(process.pid, signal.SIGCONT)
                return
            time.sleep(0.05)


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed and what it complained of. Raises TimeoutExpired, with the process gone."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.kill()


def _well(status: int, printed: str) -> bool:
    """Whether a command did what it was to do. Where nobody works, leases of running jobs are over,
    and the policies of `ground.py` are in no backup: a restore says so of both."""
    if not status or not printed.startswith("{"):
        return not status
    findings = json.loads(printed)["verify"]["findings"]
    return all(one["check"] == "jobs" or "/weights/mind-" in one["sentence"] for one in findings)


def _backup(errand: Errand, folder: Path) -> None:
    target = folder / "backup"
    errand.twice(folder, ["backup", str(target)])
    program = "from pathlib import Path\nfrom plumbline.operations import archive\n"
    errand.house.python(f"{program}archive.read(Path({str(target)!r}))")  # every byte


def _restore(errand: Errand, folder: Path) -> None:
    """Over what is there: a restore of the same; or the way back from one that was killed."""
    source = str(folder / "backup")
    errand.once(["backup", source, "--with-secret-key"])
    with _database(errand.house) as url:
        given = {"DATABASE_URL": url, "PLUMBLINE_HOME": str(folder / "home")}
        command = ["restore", source, "--no-engines", "--json", "--replace"]
        errand.once(command, **given)
        if errand.place == "restore.undo":
            errand.killed(folder, command, "restore.before_rows", **given)
            command = ["restore", "--undo"]
        errand.twice(folder, command, **given)
        with psycopg.connect(url) as there:
            (votes,) = there.execute("SELECT count(*) FROM collect_ballot").fetchone() or (0,)
    if not votes:
        raise RuntimeError("there is no vote in what was restored")


def _import(errand: Errand, folder: Path) -> None:
    path, name = folder / "given.jsonl", folder.name
    line = '{"prompt": "Question {}?", "chosen": "Yes, {}.", "rejected": "No."}\n'
    path.write_text("".join(line.replace("{}", str(n)) for n in range(ROWS)))
    named = ["--project", VOTERS, "--set", name, "--campaign", name]
    command = ["import", "trl_preference", str(path), *named]
    errand.twice(folder, command)
    counted = errand.house.cluster.patient_rows(COUNTED, name, name)
    if counted != [{"votes": ROWS, "sets": 1}]:
        raise RuntimeError(f"of {ROWS} votes in one set there are {counted}")


ACTS: dict[str, Callable[[Errand, Path], None]] = {
    "backup": _backup,
    "restore": _restore,
    "import": _import,
}


@contextlib.contextmanager
def _database(house: House) -> Iterator[str]:
    """An empty one beside the one that everybody uses."""
    name, server = f"restored_{next(_numbers)}", house.cluster.url(house.cluster.port)
    with psycopg.connect(server, autocommit=True) as told:
        told.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{server.removesuffix(NAME)}{name}"
        finally:
            told.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def at_failpoint(name: str, order: str) -> Callable[[Scene], Struck]:
    def strike(scene: Scene) -> Struck:
        errand = Errand(scene.house, name, order, scene.findings)
        threading.Thread(target=errand.run, daemon=True).start()
        detail = f"{order} at {name}"
        return scene.struck(detail, lambda: errand.over.is_set() and errand.struck, WITHIN)

    return strike
