"""How long people wait for what is shown and counted: the annotator's pages and the researcher's,
and the counters alone, at the first look and at later ones."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.collection.loading import Loaded


def percentile(values: Sequence[float], share: float) -> float:
    """In milliseconds, of seconds."""
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def pages(loaded: Loaded, looks: int) -> dict[str, dict[str, float]]:
    """By name of the page. Somebody votes before each look; `first_ms` is with nothing kept of what
    was counted before."""
    from django.core.cache import cache
    from django.test import Client
    from django.urls import reverse

    slug, campaign = loaded.campaign.project.slug, loaded.campaign.pk
    person = loaded.people[0]
    browsers = {}
    for one in (person, loaded.researcher):
        browsers[one] = Client()
        browsers[one].force_login(one, backend="plumbline.accounts.backends.ByPassword")

    def look(who: Any, name: str) -> float:
        about = [] if name in ("project", "campaigns") else [campaign]
        if name == "ballot":
            about = [_claimed(loaded, person).pk]
        url = reverse(name, args=[slug, *about])
        begun = time.perf_counter()
        reply = browsers[who].get(url)
        took = time.perf_counter() - begun
        assert reply.status_code == 200, f"{url} was answered {reply.status_code}"
        return took

    found = {}
    for who, name in (
        (person, "ballot"),
        (person, "project"),
        (person, "campaign"),
        (loaded.researcher, "campaigns"),
        (loaded.researcher, "campaign-manage"),
    ):
        _vote(loaded, person)
        look(who, name)  # templates are read from the disk once
        cache.clear()
        found[name] = _told(lambda who=who, name=name: look(who, name), loaded, looks)
    return found


def counters(loaded: Loaded, looks: int) -> dict[str, dict[str, float]]:
    """What the pages and rounds ask of a campaign, alone."""
    from django.core.cache import cache

    from plumbline.collect import counts, queue

    person, campaign = loaded.people[0], loaded.campaign

    def timed(ask: Callable[[], Any]) -> Callable[[], float]:
        def took() -> float:
            begun = time.perf_counter()
            ask()
            return time.perf_counter() - begun

        return took

    asked: dict[str, Callable[[], Any]] = {
        "progress": lambda: queue.progress(person, campaign),
        "tally": lambda: counts.tally(campaign),
        "kinds": lambda: counts.kinds(campaign),
        "expired": lambda: counts.expired(campaign),
        "complete": lambda: queue.complete(campaign),
    }
    found = {}
    for name, ask in asked.items():
        cache.clear()
        found[name] = _told(timed(ask), loaded, looks)
    return found


def _told(look: Callable[[], float], loaded: Loaded, looks: int) -> dict[str, float]:
    first = look()
    later = []
    for _ in range(looks):
        _vote(loaded, loaded.people[0])
        later.append(look())
    return {
        "first_ms": round(1000 * first, 2),
        "p50_ms": percentile(later, 0.5),
        "p95_ms": percentile(later, 0.95),
    }


def _claimed(loaded: Loaded, person: Any) -> Any:
    from plumbline.collect import queue

    ballot = queue.claim_next(person, loaded.campaign)
    assert ballot is not None, "there is always something left"
    return ballot


def _vote(loaded: Loaded, person: Any) -> None:
    from plumbline.collect import queue

    best, other = random.sample([0, 1], 2)
    verdict = queue.Verdict("ranked", ranking=[[best], [other]], strength=2)
    queue.cast(_claimed(loaded, person), verdict, uuid.uuid4())
