"""`make bench NAME=gateway`: the gateway next to vLLM directly, on real vLLM with the tiny base.

The gateway runs as users run it: a process of its own, PostgreSQL, Redis, a key with limits, the
journal written. Clients are a process of their own, each a kept connection that asks again when it
is answered; answers are greedy, so both sides write the same ones. Direct and through the gateway
take turns, in a new order each round, for each number of clients, whole answers and streams.
vLLM has half of the cores to itself and all else the others, as it would compute on a GPU; with
`--shared` it shares all of them, and what the gateway spends is missing in vLLM. `ratio` is the
lower of the two kinds' ratios of requests a second at 32 clients: of the medians over rounds.
`added_p50_ms` is the larger of the two kinds' with one client, of the prompts that both sides came
to. `streams_mb` is the resident memory of a gateway that holds a thousand streams of a slow engine
open.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from align import demo
from align.demo.prompts import texts
from tests.bench.collection.loading import Database
from tests.bench.serving import parts
from tests.bench.speed import engine

VLLM = Path(__file__).resolve().parents[2] / ".venv-vllm/bin/python"
VERSION = "0.32.0"
CONTEXT, LONGEST = 512, 64  # tokens
CROWDS = (1, 8, 32)
KINDS = {"whole": False, "stream": True}
STREAMS = 1000
GOALS = {"ratio": 0.95, "added_p50_ms": 3.0, "streams_mb": 500.0}
Sides = dict[str, list[dict[str, Any]]]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


class Contest:
    """Direct and through the gateway, in turn."""

    def __init__(self, load: parts.Load, vllm: engine.Engine, gate: parts.Server, key: str) -> None:
        self._load, self._vllm, self._gate = load, vllm, gate
        self._servers = {"direct": int(vllm.url.rpartition(":")[2]), "gateway": gate.port}
        self._key = key
        self.failures: list[str] = []

    def turn(self, side: str, clients: int, stream: bool, seconds: float) -> dict[str, Any]:
        before = self._gate.cpu(), self._vllm.cpu()
        found = self._load.run(
            do="crowd",
            host="127.0.0.1",
            port=self._servers[side],
            key=self._key,
            model="base" if side == "direct" else "current",
            clients=clients,
            stream=stream,
            seconds=seconds,
            prompts=texts("heldout"),
            more={"temperature": 0, "max_tokens": LONGEST},
        )
        self.failures += found["failures"]
        found["gateway_cpu"] = self._gate.cpu() - before[0]
        found["vllm_cpu"] = self._vllm.cpu() - before[1]
        found["per_s"] = len(found["took"]) / seconds
        return found

    def cell(self, clients: int, stream: bool, rounds: int, seconds: float) -> Sides:
        found: Sides = {side: [] for side in self._servers}
        for number in range(rounds):
            order = list(self._servers) if number % 2 else list(self._servers)[::-1]
            for side in order:
                found[side].append(self.turn(side, clients, stream, seconds))
        return found


def figures(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One side's: medians over rounds, but the CPU's, which are of all requests together."""
    asked = sum(len(one["took"]) for one in turns) or 1

    def middle(share: float, name: str) -> float | None:
        each = [percentile(one[name], share) for one in turns if one[name]]
        return ms(statistics.median(each)) if each else None

    return {
        "per_s": round(statistics.median(one["per_s"] for one in turns), 2),
        "p50_ms": middle(0.5, "took"),
        "p95_ms": middle(0.95, "took"),
        "ttft_p50_ms": middle(0.5, "firsts"),
        "ttft_p95_ms": middle(0.95, "firsts"),
        "pieces": round(sum(one["pieces"] for one in turns) / asked, 1),
        "gateway_cpu_ms": ms(sum(one["gateway_cpu"] for one in turns) / asked),
        "vllm_cpu_ms": ms(sum(one["vllm_cpu"] for one in turns) / asked),
        "client_cpu_ms": ms(sum(one["cpu"] for one in turns) / asked),
    }


def more_at_p50(mine: dict[str, Any], other: dict[str, Any]) -> float | None:
    """What the middle answer takes longer in one turn than in another, in milliseconds, of the
    prompts that both came to: how long an answer takes depends on its prompt before all."""
    both = set(mine["prompts"]) & set(other["prompts"])
    if not both:
        return None
    middles = []
    for turn in (mine, other):
        asked = zip(turn["prompts"], turn["took"], strict=True)
        middles.append(statistics.median(took for prompt, took in asked if prompt in both))
    return ms(middles[0] - middles[1])


def compare(found: Sides) -> dict[str, Any]:
    sides = {side: figures(turns) for side, turns in found.items()}
    ours, theirs = sides["gateway"], sides["direct"]
    pairs = list(zip(found["gateway"], found["direct"], strict=True))
    each = [mine["per_s"] / other["per_s"] for mine, other in pairs if other["per_s"]]
    added = sorted(one for pair in pairs if (one := more_at_p50(*pair)) is not None)
    return {
        **sides,
        "ratio": round(ours["per_s"] / theirs["per_s"], 3),
        "ratios": [round(one, 3) for one in sorted(each)],
        "added_p50_ms": round(statistics.median(added), 2) if added else None,
        "added_each_ms": added,
    }


def streams(load: parts.Load, scratch: Path, key: str) -> dict[str, Any]:
    """What a fresh gateway weighs before and while it holds a thousand streams."""
    with (
        parts.slow_engine(scratch) as url,
        parts.gateway(scratch, url) as gate,
    ):
        empty = gate.megabytes()
        load.tell(
            {
                **{"do": "hold", "host": "127.0.0.1", "port": gate.port, "key": key},
                **{"model": "current", "clients": STREAMS, "stream": True},
                **{"prompts": texts("heldout")[:1], "more": {}},
            }
        )
        opened = load.told()["open"]
        before, begun = gate.cpu(), time.monotonic()
        time.sleep(5)
        busy = (gate.cpu() - before) / (time.monotonic() - begun)
        held = gate.megabytes()
        load.tell({})
        still = load.told()["open"]
    return {
        "streams_mb": round(held, 1),
        "empty_mb": round(empty, 1),
        "opened": opened,
        "still_open": still,
        "cpu_ms_a_piece": ms(busy / STREAMS),  # each says one a second
    }


def measure(
    rounds: int,
    seconds: float,
    crowds: Sequence[int],
    scratch: Path,
    more: Sequence[str],
    cores: Collection[int],
) -> dict[str, Any]:
    load = parts.Load()
    found: dict[str, Any] = {}
    try:
        with parts.redis(scratch) as url:
            os.environ["REDIS_URL"] = url
            key = parts.platform()
            found["streams"] = streams(load, scratch, key)
            with (
                engine.running(str(demo.BASE), CONTEXT, scratch, str(VLLM), more, cores) as vllm,
                parts.gateway(scratch, vllm.url) as gate,
            ):
                contest = Contest(load, vllm, gate, key)
                for stream in (False, True):  # both sides warm up
                    contest.cell(8, stream, 1, 3.0)
                for clients in crowds:
                    for kind, stream in KINDS.items():
                        cell = compare(contest.cell(clients, stream, rounds, seconds))
                        found[f"{kind} {clients}"] = cell
                        print(f"{kind} {clients}: {cell}", file=sys.stderr, flush=True)
                found["failures"] = contest.failures[:5]
    finally:
        load.close()
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that have goals, as far as they were measured, and whether they are met."""
    most, least = f" {CROWDS[-1]}", f" {CROWDS[0]}"
    with_goals: dict[str, float] = {"streams_mb": found["streams"]["streams_mb"]}
    if all(kind + most in found for kind in KINDS):
        with_goals["ratio"] = min(found[kind + most]["ratio"] for kind in KINDS)
    if all(kind + least in found for kind in KINDS):
        with_goals["added_p50_ms"] = max(found[kind + least]["added_p50_ms"] for kind in KINDS)
    sound = not found["failures"] and found["streams"]["still_open"] == STREAMS
    met = {
        name: sound and (value >= GOALS[name] if name == "ratio" else value <= GOALS[name])
        for name, value in with_goals.items()
    }
    return {**with_goals, "goals": GOALS, "met": met}


def half_of_the_cores() -> set[int]:
    """Those for the engine; none where there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    return set(cores[(len(cores) + 1) // 2 :])


def main(arguments: Sequence[str]) -> None:
    asking = argparse.ArgumentParser(prog="make bench NAME=gateway", description=__doc__)
    asking.add_argument("--quick", action="store_true", help="under 5 minutes, indicative")
    asking.add_argument("--rounds", type=int)
    asking.add_argument("--seconds", type=float, help="of each side's turn in a round")
    asking.add_argument("--clients", type=int, nargs="+", default=CROWDS)
    asking.add_argument(
        "--spin", action="store_true", help="vLLM in two processes, as it is by itself"
    )
    asking.add_argument("--shared", action="store_true", help="vLLM and the rest on the same cores")
    asked = asking.parse_args(arguments)
    if not VLLM.exists():
        sys.exit("This bench compares with real vLLM; `make engine` builds it.")
    rounds = asked.rounds or (3 if asked.quick else 7)
    seconds = asked.seconds or (4.0 if asked.quick else 10.0)
    started, load_before = time.monotonic(), os.getloadavg()[0]
    engine_cores = set() if asked.shared or asked.spin else half_of_the_cores()
    database = Database()
    with tempfile.TemporaryDirectory(prefix="gateway-") as name, contextlib.ExitStack() as after:
        scratch = Path(name)
        after.callback(database.stop)
        after.enter_context(engine.confined_to(os.sched_getaffinity(0) - engine_cores))
        database.start()
        os.environ |= {
            "PLUMBLINE_HOME": str(scratch),
            "DATABASE_URL": database.url,
            "BASE_MODEL": str(demo.BASE),
            "BASE_NAME": "base",
            "MAX_MODEL_LEN": str(CONTEXT),
            "DJANGO_SETTINGS_MODULE": "plumbline.settings",
        }
        more = ["--distributed-executor-backend", "mp"] if asked.spin else []
        found = measure(rounds, seconds, asked.clients, scratch, more, engine_cores)
    print(
        json.dumps(
            {
                "bench": "gateway",
                **summary(found),
                **found,
                "peer": f"vLLM {VERSION}, CPU build, directly",
                "engine_cores": sorted(engine_cores) or "shared",
                "vllm": "two processes" if asked.spin else "as manage.py engine starts it",
                "rounds": rounds,
                "seconds": seconds,
                "machine": {"cores": os.cpu_count(), "load_before": round(load_before, 2)},
                "seconds_in_all": round(time.monotonic() - started),
            }
        )
    )
