"""Making judges and changing them: a change is a new version, and a version is never edited."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from plumbline.accounts.models import Membership, Project, Role, User
from plumbline.judges import kind
from plumbline.judges.kind import ENDPOINT, REWARD_MODEL, Kind, Parts
from plumbline.judges.models import Constitution, Endpoint, Judge, JudgeVersion
from plumbline.policies.models import RewardModel


def make(
    project: Project,
    name: str,
    kind_name: str,
    settings: Mapping[str, Any],
    *,
    endpoint: Endpoint | None = None,
    constitution: Constitution | None = None,
    reward_model: RewardModel | None = None,
    program: Mapping[str, Any] | None = None,
    guidance: str = "",
    by: User | None = None,
) -> JudgeVersion:
    """A new judge's first version. `settings` are the kind's knobs by name.

    Raises ValueError with a sentence for a name that is taken, a knob that is none, and whatever
    the kind misses or refuses.
    """
    parts = Parts(endpoint, constitution, reward_model, program, guidance)
    made = kind.get(kind_name).build(settings)
    frozen = made.freeze(parts)
    _of_project(project, parts)
    name = name.strip()
    if not name:
        raise ValueError("A judge needs a name.")
    try:
        with transaction.atomic():
            judge = Judge.objects.create(
                project=project, name=name[:80], kind=kind_name, created_by=by
            )
            judge.account = _account(judge)
            judge.save(update_fields=["account"])
            return _version(judge, 1, frozen, made, parts, by)
    except IntegrityError as error:
        raise ValueError(f"There is a judge called {name} already.") from error


def revise(
    judge: Judge,
    settings: Mapping[str, Any],
    *,
    endpoint: Endpoint | None = None,
    constitution: Constitution | None = None,
    reward_model: RewardModel | None = None,
    program: Mapping[str, Any] | None = None,
    guidance: str = "",
    by: User | None = None,
) -> JudgeVersion:
    """The judge with these settings: a new version where anything changes, else the version that
    had them before. Raises ValueError as `make` does, and for a judge that is retired."""
    if judge.retired_at is not None:
        raise ValueError(f"{judge} is retired.")
    parts = Parts(endpoint, constitution, reward_model, program, guidance)
    made = kind.get(judge.kind).build(settings)
    frozen = made.freeze(parts)
    _of_project(judge.project, parts)
    with transaction.atomic():
        locked = Judge.objects.select_for_update().get(pk=judge.pk)
        there = locked.versions.filter(sha256=digest(judge.kind, frozen)).first()
        if there is not None:
            return there
        last = locked.versions.aggregate(last=Max("number"))["last"] or 0
        return _version(locked, last + 1, frozen, made, parts, by)


def current(judge: Judge) -> JudgeVersion:
    """The newest version."""
    found = judge.versions.order_by("-number").first()
    assert found is not None
    return found


def retire(judge: Judge) -> None:
    """It is offered nowhere from now on; what it said stays."""
    Judge.objects.filter(pk=judge.pk, retired_at=None).update(retired_at=timezone.now())


def digest(kind_name: str, frozen: Mapping[str, Any]) -> str:
    """SHA-256 of a kind and its settings."""
    text = json.dumps([kind_name, frozen], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _version(
    judge: Judge,
    number: int,
    frozen: dict[str, Any],
    made: Kind,
    parts: Parts,
    by: User | None,
) -> JudgeVersion:
    return JudgeVersion.objects.create(
        judge=judge,
        number=number,
        settings=frozen,
        sha256=digest(judge.kind, frozen),
        endpoint=parts.endpoint if ENDPOINT in frozen else None,
        reward_model=parts.reward_model if REWARD_MODEL in made.needs else None,
        created_by=by,
    )


def _of_project(project: Project, parts: Parts) -> None:
    """Raises ValueError for a part of another project, or one that is retired."""
    for part in (parts.endpoint, parts.constitution, parts.reward_model):
        if part is not None and part.project_id != project.pk:
            raise ValueError(f"{part} is not of this project.")
    if parts.endpoint is not None and parts.endpoint.retired_at is not None:
        raise ValueError(f"{parts.endpoint} is retired.")


def _account(judge: Judge) -> User:
    """Who casts the judge's ballots: a member of its project whom nobody can sign in as."""
    account = User(
        username=f"judge-{judge.project.slug[:100]}-{judge.pk}",
        first_name=judge.name[:150],
        kind=User.Kind.AI,
        is_active=False,
    )
    account.set_unusable_password()
    account.save()
    Membership.objects.create(project=judge.project, user=account, role=Role.ANNOTATOR)
    return account
