"""What besides an alias's policy needs to be served, and the audit of how requests are routed.

The database only: no engine is spoken to here. `trials` sets canaries and shadows with it, and
`serving` asks it which policies must stay loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q, QuerySet

from plumbline.accounts.models import Project, User
from plumbline.audit.record import record
from plumbline.policies import seats
from plumbline.policies.models import Deployment, Mixture, Objective, Policy, RouteChange

POINTERS = ("policy", "previous", "canary", "shadow")  # of an alias


def needed(project: Project | int | None = None) -> QuerySet[Policy]:
    """Policies that requests may reach without naming them: of one project, or of all. Where the
    engines hold one model at a time, those of them that run on its weights."""
    mine = {} if project is None else {"project": project}
    deployments = Deployment.objects.filter(**mine)
    wanted = Q(pk__in=Objective.objects.filter(**mine).values("policy"))
    wanted |= Q(pk__in=_ready().filter(**mine).values("policy"))
    for pointer in POINTERS:
        wanted |= Q(pk__in=deployments.exclude(**{pointer: None}).values(pointer))
    return seats.fitting(Policy.objects.filter(wanted))


def why_needed(policy: Policy) -> str | None:
    """What needs `policy` to be served, in words; None where nothing does."""
    for pointer in POINTERS:
        if (found := Deployment.objects.filter(**{pointer: policy}).first()) is not None:
            return str(found)
    if (objective := Objective.objects.filter(policy=policy).first()) is not None:
        return f"the objective {objective}"
    mixture = _ready().filter(policy=policy).first()
    return None if mixture is None else f"the {mixture}"


def _ready() -> QuerySet[Mixture]:
    return Mixture.objects.filter(state=Mixture.State.READY)


def settle(deployment: Deployment, policy: Policy, actor: User | None, reason: str) -> None:
    """What moving an alias to `policy` ends: the canary in any case, since what it was compared
    with is gone, and a shadow that would shadow itself. In the caller's transaction, which saves
    the alias."""
    if deployment.canary is not None:
        won = deployment.canary_id == policy.pk
        said = "The canary was promoted." if won else "The alias moved to another policy."
        change(deployment, RouteChange.What.CANARY, None, 0.0, actor, f"{said} {reason}")
    if deployment.shadow_id == policy.pk:
        said = "The alias moved to the shadow\u2019s policy."
        change(deployment, RouteChange.What.SHADOW, None, 0.0, actor, f"{said} {reason}")


def change(
    deployment: Deployment,
    what: RouteChange.What,
    policy: Policy | None,
    share: float,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Set a canary or shadow on an alias that the caller has locked and saves, with its audit."""
    RouteChange.objects.create(
        project_id=deployment.project_id,
        what=what,
        name=deployment.alias,
        before=getattr(deployment, what),
        before_share=getattr(deployment, f"{what}_share"),
        after=policy,
        after_share=share,
        actor=actor,
        reason=reason[:300],
        evidence=dict(evidence or {}),
    )
    setattr(deployment, what.value, policy)
    setattr(deployment, f"{what}_share", share)
    said = {"alias": deployment.alias, "share": share}
    state = "set" if policy is not None else "ended"
    record(f"{what}.{state}", policy, project=deployment.project_id, actor=actor, **said)
