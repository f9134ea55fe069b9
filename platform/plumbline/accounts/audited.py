"""Entries about people: signing in and out, failing to, joining, another role, leaving, deletion.

Told by Django's signals, so that no way in or out of a project can go without its entry. A row
changed by `QuerySet.update` tells nothing; who changes a role that way writes the entry too.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import signals
from django.db.models.signals import post_delete, post_save, pre_delete

from plumbline.accounts.models import Membership, User
from plumbline.audit.record import NOBODY, acting, record


def listen() -> None:
    signals.user_logged_in.connect(_signed_in, dispatch_uid="audit")
    signals.user_logged_out.connect(_signed_out, dispatch_uid="audit")
    signals.user_login_failed.connect(_failed, dispatch_uid="audit")
    post_save.connect(_member, sender=Membership, dispatch_uid="audit")
    post_delete.connect(_left, sender=Membership, dispatch_uid="audit")
    pre_delete.connect(_deleted, sender=User, dispatch_uid="audit")


def _signed_in(sender: object, user: User, **said: Any) -> None:
    way = str(getattr(user, "backend", "")).rpartition(".")[2]
    record("sign_in", user, actor=user, way=way)


def _signed_out(sender: object, user: User | None, **said: Any) -> None:
    if user is not None:
        record("sign_out", user, actor=user)


def _failed(sender: object, credentials: dict[str, Any], **said: Any) -> None:
    """Never the name that was typed: it may be a password in the wrong field."""
    name = credentials.get("username")
    tried = User.objects.filter(username=name).first() if isinstance(name, str) else None
    with acting(NOBODY):
        record("sign_in.failed", tried, known=tried is not None)


def _member(sender: object, instance: Membership, created: bool, raw: bool, **said: Any) -> None:
    if not raw:
        what = "membership.made" if created else "membership.changed"
        record(what, instance.user, project=instance.project_id, role=instance.role)


def _left(sender: object, instance: Membership, **said: Any) -> None:
    record("membership.ended", User(pk=instance.user_id), project=instance.project_id)


def _deleted(sender: object, instance: User, **said: Any) -> None:
    record("person.deleted", instance)
