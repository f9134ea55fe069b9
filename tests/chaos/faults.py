"""What can happen to the platform, a function for each kind.

Each waits until there is something under way that it can harm, does it, and says how one will see
that it landed. Raises Missed where there was nothing. A function that needs time (a blackhole, a
stopped process) takes it and leaves nothing behind but the harm.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.chaos.house import LEASE, SWEEP
from tests.chaos.proxy import Proxy
from tests.chaos.scene import Missed, Scene, Struck, job_processes

Strike = Callable[[Scene], Struck]


@dataclass(frozen=True)
class Fault:
    """`amid`: what must be going on for it to land in mid-work, "" where the fault itself looks."""

    strike: Strike
    amid: str = ""


KINDS: dict[str, Fault] = {}


def fault(amid: str = "") -> Callable[[Strike], Strike]:
    def note(function: Strike) -> Strike:
        KINDS[function.__name__.replace("_", " ")] = Fault(function, amid)
        return function

    return note


# Processes.


@fault("votes")
def web_killed(scene: Scene) -> Struck:
    scene.amid_votes()
    struck = scene.harmed(scene.votes, "a request lost its server")
    scene.house.kill("web")
    return struck


@fault("votes")
def web_told_to_leave(scene: Scene) -> Struck:
    """SIGTERM, as a rolling restart sends it."""
    scene.amid_votes()
    began = scene.house.members["web"].starts
    scene.house.terminate("web")
    return scene.struck(
        "left with requests on their way", lambda: scene.house.members["web"].starts > began, 30
    )


@fault("streams")
def gateway_killed(scene: Scene) -> Struck:
    scene.amid_streams()
    struck = scene.harmed(scene.asks, "a stream lost its gateway")
    scene.house.kill("gateway")
    return struck


@fault("streams")
def gateway_told_to_leave(scene: Scene) -> Struck:
    scene.amid_streams()
    began = scene.house.members["gateway"].starts
    scene.house.terminate("gateway")
    return scene.struck(
        "left with streams open", lambda: scene.house.members["gateway"].starts > began, 30
    )


@fault("streams")
def engine_killed(scene: Scene) -> Struck:
    """The engine itself; its keeper starts it again."""
    scene.amid_streams()
    struck = scene.harmed(scene.asks, "a stream lost its engine")
    for one in scene.house.members["engine"].family()[1:]:
        with contextlib.suppress(Exception):
            one.kill()
    return struck


@fault("streams")
def engine_hung(scene: Scene) -> Struck:
    """Stopped in the middle of answers, and on again."""
    reading = scene.amid_streams()
    pids = [one.pid for one in scene.house.members["engine"].family()[1:]]
    with scene.house.frozen(pids):
        began = time.monotonic()
        time.sleep(2.5)
        waited = [one for one in reading if one.reading and one.heard < began + 0.5]
    if not waited:
        raise Missed("no stream was cut short by it")
    return scene.struck(f"{len(waited)} streams stood still for 2.5 s")


@fault("jobs")
def worker_child_killed(scene: Scene) -> Struck:
    job, member = scene.amid_job()
    pids = job_processes(member, str(job["id"]))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return scene.struck(
        f"in the middle of a {job['kind']} job", lambda: scene.noted(job, "SIGKILL"), 30
    )


@fault("jobs")
def worker_tree_killed(scene: Scene) -> Struck:
    job, member = scene.amid_job()
    member.signal(signal.SIGKILL, tree=True)
    return scene.struck(
        f"in the middle of a {job['kind']} job", lambda: scene.noted(job, "stopped answering"), 40
    )


@fault("jobs")
def worker_told_to_leave(scene: Scene) -> Struck:
    job, member = scene.amid_job()
    member.signal(signal.SIGTERM, tree=False)
    return scene.struck(
        f"in the middle of a {job['kind']} job", lambda: scene.noted(job, "handed back"), 30
    )


@fault("jobs")
def worker_stopped_past_its_lease(scene: Scene) -> Struck:
    """A zombie: it wakes up when somebody else has its job."""
    job, member = scene.amid_job()
    pids = [one.pid for one in member.family()]
    with scene.house.frozen(pids):
        end = time.monotonic() + LEASE + 2 * SWEEP
        while not (lost := scene.noted(job, "stopped answering")) and time.monotonic() < end:
            time.sleep(0.1)
        if lost:
            time.sleep(scene.random.uniform(0, 2))
    if not lost:
        raise Missed("its job had ended, or nobody took it")
    return scene.struck(f"its {job['kind']} job was given to another attempt meanwhile")


@fault()
def loop_killed(scene: Scene) -> Struck:
    stage = scene.amid_round()
    scene.house.kill("loop")
    return scene.struck(f"with a round at {stage}")


@fault()
def loop_stopped_for_seconds(scene: Scene) -> Struck:
    stage = scene.amid_round()
    with scene.house.frozen([one.pid for one in scene.house.members["loop"].family()]):
        time.sleep(scene.random.uniform(1, 3))
    return scene.struck(f"with a round at {stage}")


@fault()
def raters_killed(scene: Scene) -> Struck:
    stage = scene.amid_round()
    scene.house.kill("raters")
    return scene.struck(f"with a round at {stage}")


@fault("votes")
def postgres_killed(scene: Scene) -> Struck:
    """The whole tree at once."""
    scene.amid_votes()
    struck = scene.harmed(scene.votes, "a request lost its database", 20)
    scene.house.kill("postgres")
    return struck


@fault("votes")
def postgres_backends_killed(scene: Scene) -> Struck:
    """One backend by SIGKILL: PostgreSQL then ends all others and recovers by itself."""
    scene.amid_votes()
    struck = scene.harmed(scene.votes, "a request lost its connection", 20)
    try:
        rows = scene.house.cluster.rows(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() ORDER BY state_change DESC LIMIT 1"
        )
    except psycopg.Error as error:
        raise Missed("the database is away") from error
    for row in rows:
        with contextlib.suppress(ProcessLookupError):
            os.kill(row["pid"], signal.SIGKILL)
    return struck


# Redis.


@contextlib.contextmanager
def _redis(scene: Scene) -> Iterator[redis.Redis]:
    client = redis.Redis(port=scene.house.redis_port, socket_timeout=3, decode_responses=True)
    try:
        yield client
    except redis.RedisError as error:
        raise Missed(f"Redis is away: {error}") from error
    finally:
        client.close()


@fault()
def redis_killed(scene: Scene) -> Struck:
    scene.until(lambda: scene.house.redis.connections, "nobody uses Redis")
    users, began = scene.house.redis.connections, scene.house.members["redis"].starts
    scene.house.kill("redis")
    return scene.struck(
        f"with {users} connections", lambda: scene.house.members["redis"].starts > began
    )


@fault()
def redis_flushed(scene: Scene) -> Struck:
    with _redis(scene) as client:
        held = client.dbsize()
        if not held:
            raise Missed("there was nothing in Redis")
        client.flushall()
    return scene.struck(f"{held} keys were lost")


@fault()
def redis_full(scene: Scene) -> Struck:
    """1 MB for some seconds, which it has passed already; it must not evict."""
    with _redis(scene) as client:
        before = _refused(client)
        client.config_set("maxmemory", "1mb")
        try:
            end = time.monotonic() + 6
            while (now := _refused(client)) == before and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(1)
        finally:
            client.config_set("maxmemory", "0")
    if now == before:
        raise Missed("nobody wrote to Redis meanwhile")
    return scene.struck(f"{now - before} writes were refused")


def _refused(client: redis.Redis) -> int:
    errors = client.info("errorstats")
    return int(errors.get("errorstat_OOM", {}).get("count", 0))


# The network.


@dataclass(frozen=True)
class Toxin:
    """A toxic on one of the house's proxies, while something is under way there."""

    proxy: str
    toxic: str
    told: dict[str, float]
    way: str = "down"
    lasts: float = 3.0  # seconds; what ends connections goes as soon as it has struck
    amid: str = ""

    def __call__(self, scene: Scene) -> Struck:
        if self.amid == "votes":
            scene.amid_votes()
        elif self.amid == "streams":
            scene.amid_streams()
        proxy: Proxy = getattr(scene.house, self.proxy)
        with proxy.poisoned(self.toxic, self.way, **self.told) as toxic:
            end = time.monotonic() + self.lasts
            once = self.toxic in ("limit_data", "reset_peer", "down")
            while time.monotonic() < end and not (once and toxic.struck):
                time.sleep(0.01)
            if self.toxic == "down":
                time.sleep(self.lasts)
        if not toxic.struck:
            raise Missed(f"nothing came by for {self.toxic}")
        return scene.struck(f"{self.toxic} struck {toxic.struck} times")


TOXINS = {
    # Browser and web server.
    "answer lost": Toxin("front", "limit_data", {"bytes": 0}, amid="votes"),
    "answer cut": Toxin("front", "limit_data", {"bytes": 700}, amid="votes"),
    "request lost": Toxin("front", "limit_data", {"bytes": 0}, "up", amid="votes"),
    "browser's connection reset": Toxin("front", "reset_peer", {"seconds": 0}, amid="votes"),
    "answers late": Toxin("front", "latency", {"seconds": 0.5, "jitter": 0.4}, amid="votes"),
    "answers narrow": Toxin("front", "bandwidth", {"rate": 40_000}, amid="votes"),
    "answers in crumbs": Toxin(
        "front", "slicer", {"size": 200, "variation": 150, "pause": 0.002}, amid="votes"
    ),
    # Web server and PostgreSQL.
    "database slow": Toxin("database", "latency", {"seconds": 0.1, "jitter": 0.05}, amid="votes"),
    "database silent": Toxin("database", "timeout", {"seconds": 0}, amid="votes"),
    "database silent, then gone": Toxin("database", "timeout", {"seconds": 1.0}, amid="votes"),
    "database's connections reset": Toxin("database", "reset_peer", {"seconds": 0}, amid="votes"),
    "database's answer lost": Toxin("database", "limit_data", {"bytes": 40}, amid="votes"),
    "database unreachable": Toxin("database", "down", {}, lasts=1.5, amid="votes"),
    # Everybody and Redis.
    "redis silent": Toxin("redis", "timeout", {"seconds": 0}, lasts=4),
    "redis slow": Toxin("redis", "latency", {"seconds": 2.0, "jitter": 1.0}, lasts=4),
    "redis's connections reset": Toxin("redis", "reset_peer", {"seconds": 0}),
    "redis unreachable": Toxin("redis", "down", {}, lasts=3),
    # Gateway and engine, clients and gateway.
    "engine's answer cut": Toxin("engine", "limit_data", {"bytes": 400}, amid="streams"),
    "engine silent": Toxin("engine", "timeout", {"seconds": 0}, amid="streams"),
    "engine slow": Toxin("engine", "latency", {"seconds": 0.5, "jitter": 0.3}, amid="streams"),
    "engine unreachable": Toxin("engine", "down", {}, lasts=1.0, amid="streams"),
    "stream cut": Toxin("door", "limit_data", {"bytes": 900}, amid="streams"),
    "stream in crumbs": Toxin(
        "door", "slicer", {"size": 20, "variation": 15, "pause": 0.001}, amid="streams"
    ),
    "stream's end late": Toxin("door", "slow_close", {"seconds": 1.0}, amid="streams", lasts=5),
}
KINDS |= {name: Fault(toxin, toxin.amid) for name, toxin in TOXINS.items()}


# People.


@fault("votes")
def vote_sent_six_times(scene: Scene) -> Struck:
    """One key, two choices, six requests at once."""
    scene.amid_votes()
    voter = scene.random.choice(scene.voters)
    before = voter.doubled
    voter.double.set()
    return scene.struck(f"by {voter.name}", lambda: voter.doubled > before, 30)


# Places in the code.


def at_failpoint(name: str, order: str) -> Strike:
    """An order at a place: whoever comes there obeys it, once. A process that stops is woken when
    its lease is over."""

    def strike(scene: Scene) -> Struck:
        folder = scene.house.failpoints
        before = _taken(folder, name)
        (folder / f".{name}").write_text(order)
        (folder / f".{name}").rename(folder / name)

        def proof() -> bool:
            return not (folder / name).exists() and bool(_taken(folder, name) - before)

        def landed() -> None:
            if order.startswith("stop"):
                pids = [int(one.rsplit(".", 1)[-1]) for one in _taken(folder, name) - before]
                wake = threading.Timer(LEASE + SWEEP, _wake, [pids])
                wake.daemon = True
                wake.start()

        struck = scene.struck(f"{order} at {name}", proof, 60)
        struck.landed = landed
        struck.withdraw = lambda: (folder / name).unlink(missing_ok=True)
        return struck

    return strike


def _taken(folder: Path, name: str) -> set[str]:
    return {one.name for one in folder.glob(f"{name}.*") if one.suffix[1:].isdigit()}


def _wake(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
