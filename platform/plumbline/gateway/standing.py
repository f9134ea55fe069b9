"""How the policies behind an alias do: requests, errors and feedback of each, from the journal.

What clients asked for by the alias' name, split by the policy that answered. Shadows' answers are
counted apart, because no client waited for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Avg, Count, OuterRef, Q, Subquery, Sum

from plumbline.accounts.models import Project
from plumbline.gateway.models import Exchange, Feedback
from plumbline.policies.models import Policy

GONE = 499  # the client left: no fault of the policy


@dataclass
class Standing:
    """Of one policy under one alias. `score`: mean of the feedback that has one."""

    policy: str
    requests: int = 0
    errors: int = 0
    latency_ms: int | None = None
    tokens_out: int = 0
    feedback: int = 0
    score: float | None = None

    @property
    def error_share(self) -> float | None:
        return self.errors / self.requests if self.requests else None


def of_alias(project: Project, alias: str, since: datetime) -> list[Standing]:
    """The policies that have answered the alias since then, the busiest first."""
    exchanges = Exchange.objects.filter(
        project=project, asked_for=alias, created_at__gte=since, shadow=False
    )
    found: dict[UUID, Standing] = {}
    for row in (
        exchanges.order_by()
        .values("policy", "policy__name")
        .annotate(
            requests=Count("pk"),
            errors=Count("pk", filter=Q(status__gte=400) & ~Q(status=GONE)),
            latency=Avg("latency_ms"),
            tokens=Sum("completion_tokens", default=0),
        )
        .order_by("-requests", "policy__name")
    ):
        found[row["policy"]] = Standing(
            row["policy__name"],
            row["requests"],
            row["errors"],
            round(row["latency"]),
            row["tokens"],
        )
    about = exchanges.filter(completion_id=OuterRef("completion_id")).order_by()
    said = (
        Feedback.objects.filter(project=project, created_at__gte=since)
        .annotate(policy=Subquery(about.values("policy")[:1]))
        .exclude(policy=None)
        .values("policy")
        .annotate(n=Count("pk"), mean=Avg("score"))
        .order_by()
    )
    for about_policy in said:
        # SQLite has no type for it in a subquery.
        one = found.get(UUID(str(about_policy["policy"])))
        if one is not None:
            one.feedback, one.score = about_policy["n"], about_policy["mean"]
    return list(found.values())


def evidence(project: Project, alias: str, since: datetime, *policies: Policy) -> dict[str, Any]:
    """The figures of these policies, as they are kept with a decision."""
    wanted = {one.name for one in policies}
    return {
        one.policy: {
            "requests": one.requests,
            "errors": one.errors,
            "feedback": one.feedback,
            "score": one.score,
        }
        for one in of_alias(project, alias, since)
        if one.policy in wanted
    }
