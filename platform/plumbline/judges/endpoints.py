"""Endpoints that judges and writers of programs ask: adding one, asking it a question, retiring it.

What a URL leads to is not looked up here. The worker that asks does that, at every request
(`align.addresses`), so that nothing can change in between.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.utils import timezone

from align.judge_jobs import KEY_PREFIX, QUESTIONS, Asked, AskJob, QuestionRow
from align.manners import LIMITS
from plumbline.accounts.models import Project
from plumbline.audit.record import record
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.judges import asking, kind
from plumbline.judges.models import Check, Endpoint

KEY_NAME = re.compile(KEY_PREFIX + r"[A-Z0-9_]+")
QUESTION = "Reply with the word ready."
CHECK_TOKENS = 64


def add(
    project: Project,
    name: str,
    url: str,
    model: str,
    *,
    key_variable: str = "",
    price_in: Decimal = Decimal(0),
    price_out: Decimal = Decimal(0),
    limit: str = LIMITS[0],
    own_temperature: bool = False,
) -> Endpoint:
    """Raises ValueError with a sentence for a name that is taken and for whatever cannot work."""
    if not name.strip():
        raise ValueError("An endpoint needs a name.")
    if not model.strip():
        raise ValueError("An endpoint needs a model: the name that its API knows it by.")
    if key_variable and not KEY_NAME.fullmatch(key_variable):
        raise ValueError(
            f"The key's variable must begin with {KEY_PREFIX} and go on in capitals, digits and "
            "underscores. It is the variable's name that is kept, never the key."
        )
    if limit not in LIMITS:
        raise ValueError(f"The limit on tokens is called {' or '.join(LIMITS)}.")
    if price_in < 0 or price_out < 0:
        raise ValueError("Prices are 0 or more.")
    try:
        with transaction.atomic():
            made = Endpoint.objects.create(
                project=project,
                name=name.strip()[:80],
                url=address(url),
                model=model.strip()[:200],
                key_variable=key_variable,
                price_in=price_in,
                price_out=price_out,
                limit=limit,
                own_temperature=own_temperature,
            )
            host = urlsplit(made.url).netloc
            record("endpoint.added", made, project=project, host=host, key=key_variable)
            return made
    except IntegrityError as error:
        raise ValueError(f"There is an endpoint called {name.strip()} already.") from error


def address(url: str) -> str:
    """A URL as endpoints keep it: up to and with /v1, or "" for our own engine. Raises ValueError
    with a sentence for one that no worker would ask."""
    url = url.strip().rstrip("/")
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("The address must begin with https:// or http://.")
    if "@" in parts.netloc:
        raise ValueError("The address must not hold a name or a password; a key has its variable.")
    if parts.query or parts.fragment or any(sign in url for sign in ", \t\n\\"):
        raise ValueError("The address must be plain: no spaces, commas, ? or #.")
    try:
        known = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise ValueError("The address names no host, or no port that there is.")
    if parts.path.endswith("/completions"):
        raise ValueError("Give the address up to and with /v1, without /chat/completions.")
    if len(url) > 300:
        raise ValueError("The address is longer than 300 characters.")
    return url


def asked(endpoint: Endpoint) -> Asked:
    """Whom a job asks, for jobs of an endpoint itself rather than of a judge's version."""
    return kind.whom(endpoint, endpoint.url, endpoint.model)


def check(endpoint: Endpoint) -> Check:
    """Ask it one question, by a real job. Raises ValueError for one that is retired."""
    if endpoint.retired_at is not None:
        raise ValueError(f"{endpoint} is retired.")
    spec = AskJob(asked=asked(endpoint), max_tokens=CHECK_TOKENS)
    asking.load_own(endpoint.project, spec)
    row: QuestionRow = {"id": "check", "messages": [{"role": "user", "content": QUESTION}]}
    with transaction.atomic():
        job = dispatch.submit(endpoint.project, spec, f"Check of {endpoint}", {QUESTIONS: [row]})
        return Check.objects.create(endpoint=endpoint, job=job)


def learn(since: timedelta = timedelta(minutes=10)) -> int:
    """Keep what jobs that ended of late learned of how endpoints want to be asked, so that the next
    job is not refused first; how many endpoints are known better by it. Doing it twice changes
    nothing."""
    known = 0
    ended = Job.objects.filter(finished_at__gte=timezone.now() - since)
    for job in ended.filter(state=Job.State.SUCCEEDED, result__has_key="manners"):
        manners, whom = (job.result or {})["manners"], job.spec["asked"]
        here = Endpoint.objects.filter(
            project=job.project_id, url=whom["url"], model=whom["model"]
        ).exclude(**manners)
        known += here.update(**manners)
    return known


def retire(endpoint: Endpoint) -> None:
    """Nothing asks it any more. What was said stays, and a judge that asked it can be revised to
    ask another."""
    with transaction.atomic():
        asked = Endpoint.objects.filter(pk=endpoint.pk, retired_at=None)
        if asked.update(retired_at=timezone.now()):
            record("endpoint.retired", endpoint, project=endpoint.project_id)
