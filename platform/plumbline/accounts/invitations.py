"""How people come in: a link that works once, for a while, for one role in one project.

Only the SHA-256 of its 256-bit token is stored. Sign-up in any other way does not exist.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import Invitation, Membership, Project, User
from plumbline.audit.record import record

LASTS = timedelta(days=7)


def create(project: Project, role: str, by: User) -> tuple[Invitation, str]:
    """An invitation and the only copy of its token."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        invitation = Invitation.objects.create(
            project=project,
            role=role,
            digest=_digest(token),
            created_by=by,
            expires_at=timezone.now() + LASTS,
        )
        record("invitation.made", invitation, project=project, actor=by, role=role)
    return invitation, token


def find(token: str) -> Invitation | None:
    """The open invitation of a token: neither used nor out of date."""
    opened = Invitation.objects.select_related("project", "created_by")
    return opened.filter(
        digest=_digest(token), accepted_by=None, expires_at__gt=timezone.now()
    ).first()


def accept(invitation: Invitation, user: User) -> Membership:
    """Make the person a member. Raises ValueError when the link was used meanwhile or they are a
    member already (which leaves the link for somebody else)."""
    with transaction.atomic():
        if Membership.objects.filter(project=invitation.project, user=user).exists():
            raise ValueError(f"You are already a member of {invitation.project}.")
        use(invitation, user)
        return Membership.objects.create(
            project=invitation.project, user=user, role=invitation.role
        )


def use(invitation: Invitation, user: User) -> None:
    """Use a link up, in the caller's transaction. Raises ValueError when somebody has done so
    already."""
    taken = Invitation.objects.filter(pk=invitation.pk, accepted_by=None)
    if not taken.update(accepted_by=user):
        raise ValueError("Somebody has used this invitation already.")
    record("invitation.used", invitation, project=invitation.project_id, actor=user)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
