"""`make bench NAME=collect`: the queue at ten thousand and at a million comparisons.

A PostgreSQL of its own, durable as in production. A campaign of each size asks two people about
each comparison; a fifth of it is full, and a veteran has answered a further tenth that still wants
a second vote. `claim_p95_ms` is of `queue.claim_next` alone at the large size, `claim_ratio` that
over the small size's. `pages` are what an annotator and a researcher open, `counters` what those
count, each at the first look and after further votes. Votes go through the real web server: 32
clients, each with one connection, cast a vote and get the next comparison with the same response,
as the page does; every vote counted is one that the database holds, and no comparison may have more
than its overlap. That is done three times, each before a fresh server, whose workers share the
connections out by chance: figures are medians of the three. The clients run on the same cores:
their share is `client_cpu_ms_a_vote`, `cpu_ms_a_vote` is the product's.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench.collection.crowd import Browser, vote
from tests.bench.collection.loading import Database, cpu_seconds, load
from tests.bench.collection.looking import counters, pages, percentile
from tests.ports import free_port

CLIENTS, WORKERS, THREADS = 32, 2, 3  # as docker-compose.yml has them
TURNS = 3  # of votes, each before a fresh server
LOOKS = 20  # at each page and counter, after the first
GOALS = {"claim_p95_ms": 20.0, "claim_ratio": 1.5, "votes_per_s": 150.0, "vote_p99_ms": 250.0}


def claims(campaign: Any, people: Sequence[Any], veteran: Any, wanted: int) -> dict[str, Any]:
    """How long `claim_next` takes people who take turns, each vote cast before their next claim."""
    from plumbline.collect import queue

    taken: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(-len(people), wanted):
        person = veteran if turn % 5 == 0 else people[turn % len(people)]
        begun = time.perf_counter()
        ballot = queue.claim_next(person, campaign)
        took = time.perf_counter() - begun
        assert ballot is not None, "there is always something left"
        if turn >= 0:  # the first round warms up
            taken[person == veteran].append(took)
        best, other = random.sample([0, 1], 2)
        verdict = queue.Verdict("ranked", ranking=[[best], [other]], strength=2)
        queue.cast(ballot, verdict, uuid.uuid4())
    everybody = taken[True] + taken[False]
    return {
        "claims": len(everybody),
        "p50_ms": percentile(everybody, 0.5),
        "p95_ms": percentile(everybody, 0.95),
        "p99_ms": percentile(everybody, 0.99),
        "veteran_p95_ms": percentile(taken[True], 0.95),
        "mean_ms": round(1000 * statistics.fmean(everybody), 2),
    }


@contextlib.contextmanager
def web() -> Iterator[tuple[int, int]]:
    """The port of the product's web server, and its process."""
    port = free_port()
    how = ["--interface", "wsgi", "--workers", str(WORKERS), "--blocking-threads", str(THREADS)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    command = [sys.executable, "-m", "granian", *how, *where, "plumbline.wsgi:application"]
    process = subprocess.Popen(command, env=dict(os.environ))
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                asking.request("GET", "/health/")
                if asking.getresponse().status == 200:
                    break
            time.sleep(0.2)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def votes(
    campaign: Any,
    people: Sequence[Any],
    seconds: float,
    database: Database,
    *,
    drafts: bool = False,
) -> dict[str, Any]:
    """What the web server bears of people who vote without a pause."""
    from django.test import Client

    from plumbline.collect.models import Ballot

    cast = Ballot.objects.filter(comparison__campaign=campaign, annotator__in=list(people))
    before = cast.exclude(outcome="").count()
    start = f"/p/{campaign.project.slug}/campaigns/{campaign.pk}/claim/"
    with web() as (port, server):
        crowd = []
        for person in people:
            browser = Client()
            browser.force_login(person, backend="plumbline.accounts.backends.ByPassword")
            crowd.append(Browser(port, browser.cookies["sessionid"].value, start, drafts))
        used = [0.0, 0.0, 0.0]

        def note() -> None:
            now = (cpu_seconds(server), cpu_seconds(database.process()), time.process_time())
            used[:] = [later - earlier for later, earlier in zip(now, used, strict=True)]

        begun = vote(crowd, seconds, note)
        note()
        wall = time.perf_counter() - begun
    taken = [took for one in crowd for began, took in one.taken if began >= begun]
    failures = [one.failure for one in crowd if one.failure]
    stored = cast.exclude(outcome="").count() - before
    each = [round(1000 * seconds / max(1, len(taken)), 2) for seconds in used]
    return {
        "clients": len(crowd),
        "seconds": round(wall, 1),
        "votes": len(taken),
        "votes_per_s": round(len(taken) / wall, 1),
        "p50_ms": percentile(taken, 0.5) if taken else None,
        "p95_ms": percentile(taken, 0.95) if taken else None,
        "p99_ms": percentile(taken, 0.99) if taken else None,
        "cpu_ms_a_vote": round(each[0] + each[1], 2),
        "web_cpu_ms_a_vote": each[0],
        "database_cpu_ms_a_vote": each[1],
        "client_cpu_ms_a_vote": each[2],
        "failed": len(failures),
        "failures": failures[:3],
        "lost": sum(one.votes for one in crowd) - stored,
        "above_overlap": above_overlap(campaign),
    }


def turns(number: int, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Votes as often, each time before a fresh server: medians, and the sum of what went wrong."""
    each = [votes(*args, **kwargs) for _ in range(number)]
    found = {name: value for name, value in each[0].items() if name == "clients"}
    for name in ("failed", "lost"):
        found[name] = sum(one[name] for one in each)
    found["failures"] = [said for one in each for said in one["failures"]][:3]
    found["above_overlap"] = each[-1]["above_overlap"]
    for name in each[0].keys() - found.keys():
        known = [one[name] for one in each if one[name] is not None]
        found[name] = round(statistics.median(known), 2) if known else None
    found["each"] = [{name: one[name] for name in ("votes_per_s", "p99_ms")} for one in each]
    return found


def above_overlap(campaign: Any) -> int:
    """Comparisons that more people have voted on than were wanted."""
    from django.db.models import Count, F, Q

    voted = Q(ballots__seat__isnull=False) & ~Q(ballots__outcome="")
    counted = campaign.comparisons.order_by().annotate(votes=Count("ballots", filter=voted))
    return int(counted.filter(votes__gt=F("campaign__overlap")).count())


def measure(sizes: Sequence[int], asked: argparse.Namespace, database: Database) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size in sizes:
        begun = time.monotonic()
        loaded = load(size, asked.clients)
        print(f"{size} comparisons in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        found[f"claims at {size}"] = claims(
            loaded.campaign, loaded.people, loaded.veteran, asked.claims
        )
        found[f"pages at {size}"] = pages(loaded, LOOKS)
        found[f"counters at {size}"] = counters(loaded, LOOKS)
        found[f"votes at {size}"] = turns(
            TURNS, loaded.campaign, loaded.people, asked.seconds / TURNS, database
        )
    if asked.drafts:
        found["votes with a draft each"] = votes(
            loaded.campaign, loaded.people, asked.seconds, database, drafts=True
        )
    small, large = sizes[0], sizes[-1]
    p95 = found[f"claims at {large}"]["p95_ms"]
    found["claim_p95_ms"] = p95
    found["claim_ratio"] = round(p95 / found[f"claims at {small}"]["p95_ms"], 3)
    found["votes_per_s"] = found[f"votes at {large}"]["votes_per_s"]
    found["vote_p99_ms"] = found[f"votes at {large}"]["p99_ms"]
    return found


def met(found: dict[str, Any], sizes: Sequence[int]) -> dict[str, bool]:
    """By goal. Votes count only where none failed, none was lost, and overlap held."""
    sound = all(
        not found[f"votes at {size}"][name]
        for size in sizes
        for name in ("failed", "lost", "above_overlap")
    )
    return {
        "claim_p95_ms": found["claim_p95_ms"] < GOALS["claim_p95_ms"],
        "claim_ratio": found["claim_ratio"] <= GOALS["claim_ratio"],
        "votes_per_s": sound and found["votes_per_s"] >= GOALS["votes_per_s"],
        "vote_p99_ms": sound and (found["vote_p99_ms"] or 1e9) < GOALS["vote_p99_ms"],
    }


def main(arguments: Sequence[str]) -> None:
    asking = argparse.ArgumentParser(prog="make bench NAME=collect", description=__doc__)
    asking.add_argument("--quick", action="store_true", help="2 and 40 thousand, indicative")
    asking.add_argument("--sizes", type=int, nargs="+", metavar="COMPARISONS")
    asking.add_argument("--clients", type=int, default=CLIENTS)
    asking.add_argument("--claims", type=int)
    asking.add_argument(
        "--drafts", action="store_true", help="also people who rest before they save each choice"
    )
    asking.add_argument("--seconds", type=float, help="of voting, at each size")
    asked = asking.parse_args(arguments)
    asked.claims = asked.claims or (200 if asked.quick else 1500)
    asked.seconds = asked.seconds or (6.0 if asked.quick else 45.0)
    sizes = asked.sizes or ([2_000, 40_000] if asked.quick else [10_000, 1_000_000])
    started, load_before = time.monotonic(), os.getloadavg()[0]
    database = Database()
    try:
        database.start()
        os.environ["DATABASE_URL"] = database.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "plumbline.settings"
        import django

        django.setup()
        found = measure(sizes, asked, database)
    finally:
        database.stop()
    reached = met(found, sizes)
    headline = {name: found.pop(name) for name in GOALS}
    print(
        json.dumps(
            {
                "bench": "collect",
                **headline,
                "goals": GOALS,
                "met": reached,
                **found,
                "sizes": sizes,
                "server": {"workers": WORKERS, "threads": THREADS},
                "machine": {"cores": os.cpu_count(), "load_before": round(load_before, 2)},
                "seconds_in_all": round(time.monotonic() - started),
            }
        )
    )
