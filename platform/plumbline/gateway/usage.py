"""Usage by day, key or chatting member, and policy: counted with the exchanges, read without them.

`count` adds finished exchanges to the days' rows, in the caller's transaction. A page then reads
some hundred rows, however many million exchanges there are. Latencies are counted on a scale of
eight steps an octave, so a percentile is right to about 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from plumbline.accounts.models import ApiKey, Project
from plumbline.gateway.models import Exchange, Usage
from plumbline.policies.models import Policy

STEPS = 8  # an octave
MILLION = 1_000_000
COUNTS = ("requests", "errors", "prompt_tokens", "completion_tokens")
OWNERS = ("api_key_id", "user_id")  # of an exchange that counts, one of them


def bucket(milliseconds: int) -> int:
    return 1 + int(STEPS * math.log2(milliseconds)) if milliseconds > 0 else 0


def middle(place: int) -> float:
    """The milliseconds that a bucket stands for."""
    return 2 ** ((place - 0.5) / STEPS) if place else 0.0


def count(exchanges: Iterable[Exchange]) -> None:
    """Add exchanges that have been saved to the usage of their days."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for one in exchanges:
        owner = next((name for name in OWNERS if getattr(one, name) is not None), None)
        if owner is None:
            continue
        day = (one.created_at or timezone.now()).astimezone(UTC).date()
        whose = (owner, one.project_id, getattr(one, owner))
        key = (*whose, one.policy_id, day, bucket(one.latency_ms))
        sums_of_key = sums.setdefault(key, [0] * len(COUNTS))
        tokens = (one.prompt_tokens or 0, one.completion_tokens or 0)
        for i, more in enumerate((1, int(one.status >= 400), *tokens)):
            sums_of_key[i] += more
    if not sums:
        return
    as_stored = Policy._meta.pk.get_db_prep_save
    # In one order everywhere, so that no two gateways wait for each other's rows.
    with connection.cursor() as cursor:
        for owner in OWNERS:
            rows = [
                (project, key, as_stored(policy, connection), day, place, *sums[group])
                for group in sorted(sums, key=str)
                for whose, project, key, policy, day, place in [group]
                if whose == owner
            ]
            if rows:
                cursor.executemany(_upsert(owner), rows)


def _upsert(owner: str) -> str:
    """Adding where a row is. The ORM can only overwrite it, and two gateways would lose counts."""
    table = connection.ops.quote_name(Usage._meta.db_table)
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in COUNTS)
    columns = ("project_id", owner, "policy_id", "day", "bucket", *COUNTS)
    places = ", ".join(["%s"] * len(columns))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) "
        f"ON CONFLICT ({owner}, day, policy_id, bucket) DO UPDATE SET {added}"
    )


def spent(key: ApiKey, since: date) -> int:
    """Tokens that a key's finished requests have used from that day on."""
    return _tokens(Usage.objects.filter(api_key=key, day__gte=since))


def spent_by_member(project: int, user: int, since: date) -> int:
    """Tokens that a member's finished answers on the chat page have used from that day on."""
    return _tokens(Usage.objects.filter(project=project, user=user, day__gte=since))


def spent_by_project(project: int, since: date) -> int:
    """Tokens that a project's finished requests have used from that day on, whoever asked."""
    return _tokens(Usage.objects.filter(project=project, day__gte=since))


def _tokens(found: QuerySet[Usage]) -> int:
    tokens = Sum(F("prompt_tokens") + F("completion_tokens"), default=0)
    return int(found.aggregate(tokens=tokens)["tokens"])


@dataclass
class Figures:
    """What one line of a page says of some requests."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    cost: Decimal | None = None

    def add(self, place: int, counts: Iterable[int]) -> None:
        """Requests whose latencies lie in one bucket; `counts` are in the order of COUNTS."""
        more = dict(zip(COUNTS, counts, strict=True))
        for name, count_of in more.items():
            setattr(self, name, getattr(self, name) + count_of)
        self.buckets[place] = self.buckets.get(place, 0) + more["requests"]

    def percentile(self, share: float) -> int | None:
        """Milliseconds below which that share of the requests ended."""
        left = share * self.requests
        for place in sorted(self.buckets):
            left -= self.buckets[place]
            if left <= 0:
                return round(middle(place))
        return None

    @property
    def p50(self) -> int | None:
        return self.percentile(0.5)

    @property
    def p95(self) -> int | None:
        return self.percentile(0.95)


def cost(project: Project, figures: Figures) -> Decimal | None:
    """By the project's prices; none without both of them."""
    if project.price_in is None or project.price_out is None:
        return None
    tokens_in, tokens_out = figures.prompt_tokens, figures.completion_tokens
    return (tokens_in * project.price_in + tokens_out * project.price_out) / MILLION


def grouped(
    project: Project, first: date, last: date, by: tuple[str, ...], **wanted: Any
) -> list[tuple[tuple[Any, ...], Figures]]:
    """(group, its figures) for each value of the fields `by`, in their order, over these days; of
    one `api_key` or `policy` where they are wanted. The database adds up."""
    found = Usage.objects.filter(project=project, day__range=(first, last), **wanted)
    sums = {f"all_{name}": Sum(name) for name in COUNTS}
    lines = found.values(*by, "bucket").annotate(**sums).order_by(*by, "bucket")
    groups: dict[tuple[Any, ...], Figures] = {}
    for line in lines.values_list(*by, "bucket", *sums):
        group, place, counts = line[: len(by)], line[len(by)], line[len(by) + 1 :]
        groups.setdefault(group, Figures()).add(place, counts)
    for figures in groups.values():
        figures.cost = cost(project, figures)
    return list(groups.items())
