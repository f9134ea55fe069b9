"""Names for what policies are good at, which clients weigh: `plumbline:helpful=0.7,brief=0.3`.

An objective's policy is loaded and has answered a real request before the name means it, and every
change leaves an audit row.
"""

from __future__ import annotations

import re
import time

from django.db import transaction

from plumbline.accounts.models import Project, User
from plumbline.audit.record import record
from plumbline.policies import serving
from plumbline.policies.models import Objective, Policy, RouteChange

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
MOST = 20  # of a project


def put(
    project: Project, name: str, policy: Policy, *, actor: User | None, reason: str
) -> Objective:
    """Let `name` mean `policy`, which may be new or another one than before. Raises EngineError
    where it cannot be served, ValueError with a sentence; then nothing has changed."""
    if not NAME.fullmatch(name):
        raise ValueError(
            "an objective’s name has 1 to 40 small letters, digits, hyphens and underscores"
        )
    if policy.project_id != project.pk:
        raise ValueError(f"{policy} is not a policy of {project}")
    serving.ensure_loaded(policy)
    serving.probe(policy)
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        objective = Objective.objects.filter(project=project, name=name).first()
        if objective is None and project.objectives.count() >= MOST:
            raise ValueError(f"a project may have {MOST} objectives")
        before = objective.policy if objective is not None else None
        objective = objective or Objective(project=project, name=name)
        objective.policy = policy
        objective.save()
        _record(project, name, before, policy, actor, reason)
    time.sleep(serving.SEEN_SECONDS)
    return objective


def drop(project: Project, name: str, *, actor: User | None, reason: str) -> None:
    """Raises ValueError where there is none of the name."""
    with transaction.atomic():
        found = Objective.objects.select_for_update().filter(project=project, name=name)
        objective = found.first()
        if objective is None:
            raise ValueError(f"{project} has no objective {name}")
        _record(project, name, objective.policy, None, actor, reason)
        objective.delete()
    time.sleep(serving.SEEN_SECONDS)


def _record(
    project: Project,
    name: str,
    before: Policy | None,
    after: Policy | None,
    actor: User | None,
    reason: str,
) -> None:
    RouteChange.objects.create(
        project=project,
        what=RouteChange.What.OBJECTIVE,
        name=name,
        before=before,
        after=after,
        actor=actor,
        reason=reason[:300],
    )
    what = "objective.set" if after is not None else "objective.ended"
    record(what, after, project=project, actor=actor, name=name)
