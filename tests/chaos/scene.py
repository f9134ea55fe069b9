"""A house with people in it, and how one sees what is under way there that a fault can harm."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos.callers import Pilot, Streamer
from tests.chaos.house import ROOT, WORKERS, House, Member
from tests.chaos.voters import Counts, Voter

SOON = 4.0  # seconds that a fault waits for something to harm
FLOWS = 2.5  # seconds without any work done, after which there is nothing under way
PLACE = re.compile(r'failpoints\.reach\(\s*"([a-z_.]+)"')


class Missed(Exception):
    """There was nothing under way that this fault could have harmed."""


@dataclass
class Struck:
    """A fault that has been done. It landed when `proof` is true, `until` some moment at most."""

    kind: str
    detail: str
    proof: Callable[[], bool]
    until: float  # monotonic
    landed: Callable[[], None] = lambda: None  # what is to be done then
    withdraw: Callable[[], None] = lambda: None  # and where it will not be waited for any longer


@dataclass
class Scene:
    house: House
    voters: list[Voter]
    streamers: list[Streamer]
    pilot: Pilot
    votes: Counts
    asks: Counts
    moves: Counts
    random: random.Random = field(default_factory=random.Random)
    findings: list[str] = field(default_factory=list)  # what should not be, as a fault saw it

    def flows(self, amid: str) -> bool:
        """Whether work of this kind has been done just now, "" any."""
        if amid == "jobs":
            return bool(self.jobs("running"))
        counts = {"votes": self.votes, "streams": self.asks}.get(amid)
        return counts is None or time.monotonic() - counts.heard < FLOWS

    def struck(
        self, detail: str, proof: Callable[[], bool] = lambda: True, within: float = 15.0
    ) -> Struck:
        return Struck("", detail, proof, time.monotonic() + within)

    def harmed(self, counts: Counts, detail: str, within: float = 15.0) -> Struck:
        """Landed when another request of these clients has gone without its answer."""
        before = counts.harmed
        return self.struck(detail, lambda: counts.harmed > before, within)

    def amid_votes(self) -> None:
        """Return while a page's request is on its way. Raises Missed."""
        self.until(lambda: self.votes.pending, "nobody votes")

    def amid_streams(self) -> list[Streamer]:
        """Who is in the middle of reading an answer. Raises Missed."""
        found: list[Streamer] = []

        def reading() -> bool:
            found[:] = [one for one in self.streamers if one.reading]
            return bool(found)

        self.until(reading, "nobody reads an answer")
        return found

    def amid_job(self) -> tuple[dict[str, Any], Member]:
        """A job that runs, and the worker whose it is. Raises Missed."""
        found: list[tuple[dict[str, Any], Member]] = []

        def running() -> bool:
            for job in self.jobs("running"):
                pid = int(job["worker"].rsplit(":", 1)[-1])
                for name in WORKERS:
                    member = self.house.members[name]
                    mine = member.process is not None and member.process.pid == pid
                    if mine and member.alive and job_processes(member, str(job["id"])):
                        found.append((job, member))
            return bool(found)

        self.until(running, "no job runs", 2 * SOON)
        return found[0]

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        try:
            return self.house.cluster.rows(
                "SELECT id, kind, epoch, worker, state FROM fleet_job WHERE state = ANY(%s)",
                list(states),
            )
        except psycopg.Error:
            return []

    def noted(self, job: dict[str, Any], words: str) -> bool:
        """Whether the job's story says so of this very attempt."""
        try:
            return bool(
                self.house.cluster.rows(
                    "SELECT 1 AS one FROM fleet_event WHERE job_id = %s AND epoch = %s"
                    " AND message LIKE %s",
                    *(job["id"], job["epoch"], f"%{words}%"),
                )
            )
        except psycopg.Error:
            return False

    def amid_round(self) -> str:
        """The stage of a round that is under way. Raises Missed."""
        stages: list[str] = []

        def active() -> bool:
            try:
                rows = self.house.cluster.rows(
                    "SELECT stage FROM loop_round WHERE stage NOT IN ('done','failed','cancelled')"
                )
            except psycopg.Error:
                return False
            stages[:] = [row["stage"] for row in rows]
            return bool(stages)

        self.until(active, "no round is under way")
        return stages[0]

    def until(self, look: Callable[[], Any], otherwise: str, seconds: float = SOON) -> None:
        end = time.monotonic() + seconds
        while not look():
            if time.monotonic() > end:
                raise Missed(otherwise)
            time.sleep(0.002)


def job_processes(member: Member, job: str) -> list[int]:
    """A worker's processes that write to this job's folder, however they were started."""
    found = []
    for one in member.family()[1:]:
        try:
            if job in os.readlink(f"/proc/{one.pid}/fd/2"):
                found.append(one.pid)
        except OSError:
            continue
    return found


def failpoints() -> list[str]:
    """The names of the places in the code."""
    found: set[str] = set()
    for root in ("platform", "workers"):
        for path in (ROOT / root).rglob("*.py"):
            found |= set(PLACE.findall(path.read_text()))
    return sorted(found)
