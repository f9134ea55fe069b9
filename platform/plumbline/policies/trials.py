"""Trying a policy on an alias's requests before it is promoted: as canary, or as shadow.

A canary answers a share of them; a shadow writes a second answer to a share of them, which no
client sees. Either is loaded and has answered a real request before anything changes, and every
change leaves an audit row. No call to the engine happens inside a database transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q

from plumbline.accounts.models import ApiKey, Project, User
from plumbline.audit.record import record
from plumbline.policies import routes, serving
from plumbline.policies.models import Deployment, Policy, RouteChange

What = RouteChange.What


def set_canary(
    project: Project,
    alias: str,
    policy: Policy,
    share: float,
    *,
    actor: User | None,
    reason: str,
) -> Deployment:
    """Send `share` of the alias's requests to `policy`; also to change the share of a canary.

    A request that is sent after this returns goes by it. Raises EngineError when the policy cannot
    be served, ValueError with a sentence for what makes no sense; then nothing has changed.
    """
    _check(project, alias, policy, share, What.CANARY)
    serving.ensure_loaded(policy)
    serving.probe(policy)
    return _change(project, alias, What.CANARY, policy, share, actor, reason)


def drop_canary(
    project: Project,
    alias: str,
    *,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> Deployment:
    """End a canary: all requests go to the alias's policy again. Raises ValueError without one."""
    return _change(project, alias, What.CANARY, None, 0.0, actor, reason, evidence)


def promote_canary(
    project: Project,
    alias: str,
    *,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any],
) -> Deployment:
    """Make the canary the alias's policy, which ends it. Raises as `serving.promote` does."""
    deployment = _found(project, alias)
    if deployment.canary is None:
        raise ValueError(f"{alias} has no canary")
    told = {**evidence, "canary_share": deployment.canary_share}
    return serving.promote(
        project, deployment.canary, actor=actor, reason=reason, evidence=told, alias=alias
    )


def set_shadow(
    project: Project,
    alias: str,
    policy: Policy,
    share: float,
    keys: Iterable[ApiKey],
    *,
    actor: User | None,
    reason: str,
) -> Deployment:
    """Have `policy` write a second answer to `share` of the alias's requests that come by `keys`
    and whose clients agreed to it. Raises as `set_canary` does."""
    _check(project, alias, policy, share, What.SHADOW)
    allowed = list(keys)
    if not allowed:
        raise ValueError("choose at least one key whose requests may be shadowed")
    if any(key.project_id != project.pk for key in allowed):
        raise ValueError(f"not all of these keys are {project}\u2019s")
    serving.ensure_loaded(policy)
    serving.probe(policy)
    told = {"keys": sorted(str(key) for key in allowed)}
    return _change(project, alias, What.SHADOW, policy, share, actor, reason, told, allowed)


def drop_shadow(project: Project, alias: str, *, actor: User | None, reason: str) -> Deployment:
    """End a shadow; what it wrote stays. Raises ValueError without one."""
    return _change(project, alias, What.SHADOW, None, 0.0, actor, reason)


def reject(policy: Policy, *, actor: User | None, reason: str) -> bool:
    """Turn a candidate down, which ends its canaries and shadows: nobody tries on clients what is
    known not to be wanted. False, and nothing has changed, where it is no candidate."""
    with transaction.atomic():
        waiting = Policy.objects.filter(pk=policy.pk, state=Policy.State.CANDIDATE)
        if not waiting.exclude(weights=Policy.Weights.BASE).update(state=Policy.State.REJECTED):
            return False
        tried = Q(canary=policy) | Q(shadow=policy)
        ended = list(Deployment.objects.select_for_update(of=("self",)).filter(tried))
        for deployment in ended:
            _end(deployment, policy, actor, f"The policy was rejected. {reason}")
        record("policy.rejected", policy, project=policy.project_id, actor=actor)
    if ended:
        time.sleep(serving.SEEN_SECONDS)
    return True


def _end(deployment: Deployment, policy: Policy, actor: User | None, reason: str) -> None:
    """Its canary and its shadow, where that is `policy`."""
    for what in (What.CANARY, What.SHADOW):
        if getattr(deployment, what) != policy:
            continue
        routes.change(deployment, what, None, 0.0, actor, reason)
        deployment.save(update_fields=[what.value, f"{what}_share"])
        if what == What.SHADOW:
            deployment.shadow_keys.clear()


def _found(project: Project, alias: str) -> Deployment:
    deployment = Deployment.objects.filter(project=project, alias=alias).first()
    if deployment is None:
        raise ValueError(f"{project} has no alias {alias}")
    return deployment


def _check(project: Project, alias: str, policy: Policy, share: float, what: What) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"the {what}\u2019s share must be above 0 and at most 1, not {share:g}")
    if policy.project_id != project.pk:
        raise ValueError(f"{policy} is not a policy of {project}")
    _check_other(_found(project, alias), policy)


def _check_other(deployment: Deployment, policy: Policy) -> None:
    if deployment.policy_id == policy.pk:
        raise ValueError(f"{policy} is what {deployment.alias} serves already; choose another one")


def _change(
    project: Project,
    alias: str,
    what: What,
    policy: Policy | None,
    share: float,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    keys: Iterable[ApiKey] = (),
) -> Deployment:
    with transaction.atomic():
        found = Deployment.objects.select_for_update(of=("self",)).filter(project=project)
        deployment = found.filter(alias=alias).first()
        if deployment is None:
            raise ValueError(f"{project} has no alias {alias}")
        if policy is not None:
            _check_other(deployment, policy)  # it may have moved meanwhile
        elif getattr(deployment, what) is None:
            raise ValueError(f"{alias} has no {what}")
        routes.change(deployment, what, policy, share, actor, reason, evidence)
        # Not `updated_at`, which tells when the alias moved.
        deployment.save(update_fields=[what.value, f"{what}_share"])
        if what == What.SHADOW:
            deployment.shadow_keys.set(keys)
    time.sleep(serving.SEEN_SECONDS)
    return deployment
