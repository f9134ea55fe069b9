"""API keys: `plk_<prefix>_<secret>`, 256 random bits, shown once.

Only a keyed digest (HMAC-SHA-256 under SECRET_KEY) is stored, so a copy of the database holds no
usable key. A key is found by its prefix and compared in constant time. Rotation changes the secret
and keeps the key: its name, limits and history stay, and so does its prefix.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from plumbline.accounts.models import ApiKey, Project, Scope, User
from plumbline.audit.record import record

REMEMBERED = 1.0  # seconds for which a gateway may remember that a key is good
LAST_USE_RESOLUTION = timedelta(minutes=1)  # a busy key is not a write per request


def create(
    project: Project,
    name: str,
    scopes: Iterable[str],
    user: User,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and the only copy of its secret. Raises ValueError for an unknown scope or none."""
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in Scope.values]
    if unknown or not wanted:
        raise ValueError(f"a key needs one or more of these scopes: {', '.join(Scope.values)}")
    prefix = secrets.token_hex(6)
    secret = _secret(prefix)
    with transaction.atomic():
        key = ApiKey.objects.create(
            project=project,
            name=name,
            prefix=prefix,
            digest=digest(secret),
            scopes=wanted,
            created_by=user,
            expires_at=expires_at,
        )
        record("key.created", key, project=project, actor=user, scopes=wanted, prefix=prefix)
    return key, secret


def rotate(key: ApiKey, overlap: timedelta) -> str:
    """The key's new secret; the one before goes on for `overlap`, the one before that ends now.

    Raises ValueError for a key that is over, which a new secret must not bring back.
    """
    secret, now = _secret(key.prefix), timezone.now()
    with transaction.atomic():
        row = ApiKey.objects.select_for_update().get(pk=key.pk)
        if not row.live:
            raise ValueError(f"“{row.name}” is no longer in use; make a new key instead.")
        row.old_digest, row.old_until = row.digest, now + overlap
        row.digest = digest(secret)
        row.save(update_fields=["old_digest", "old_until", "digest"])
        hours = overlap / timedelta(hours=1)
        record("key.rotated", row, project=row.project_id, overlap_hours=hours)
    return secret


def revoke(key: ApiKey) -> bool:
    """From now on the key is refused; False where it was already. It stays listed, because past
    requests name it."""
    with transaction.atomic():
        live = ApiKey.objects.filter(pk=key.pk, revoked_at=None)
        if not live.update(revoked_at=timezone.now()):
            return False
        record("key.revoked", key, project=key.project_id)
    return True


def forgotten() -> None:
    """Return when no gateway remembers a key that was good before the call, wherever it runs."""
    time.sleep(1.1 * REMEMBERED)


def verify(secret: str) -> ApiKey | None:
    """The live key this secret belongs to, with its project, or None: unknown, revoked, expired."""
    kind, _, rest = secret.partition("_")
    prefix, _, _ = rest.partition("_")
    now = timezone.now()
    live = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    key = ApiKey.objects.select_related("project").filter(live, prefix=prefix[:12]).first()
    given = digest(secret)
    before = [digest(secret, pepper) for pepper in settings.SECRET_KEY_FALLBACKS]
    matches = _one_of(key.digest if key else "0" * 64, [given, *before])
    if key is not None and key.old_until is not None:
        matches |= key.old_until > now and _one_of(key.old_digest, [given, *before])
    if key is None or kind != "plk" or not matches:
        return None
    if key.digest in before:  # from before SECRET_KEY was changed
        ApiKey.objects.filter(pk=key.pk, digest=key.digest).update(digest=given)
    if key.last_used_at is None or now - key.last_used_at > LAST_USE_RESOLUTION:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def _secret(prefix: str) -> str:
    return f"plk_{prefix}_{secrets.token_urlsafe(32)}"


def digest(secret: str, pepper: str = "") -> str:
    """What is stored of a secret: under SECRET_KEY, or under one from before."""
    return hmac.digest((pepper or settings.SECRET_KEY).encode(), secret.encode(), "sha256").hex()


def _one_of(stored: str, digests: list[str]) -> bool:
    """In a time that tells nothing of which."""
    return any([hmac.compare_digest(stored, one) for one in digests])  # noqa: C419
