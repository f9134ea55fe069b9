"""The second factor: codes of an authenticator app (TOTP), and recovery codes for who lost it.

Its secrets are sealed (`plumbline.accounts.sealing`). Here is who must have one, how its code
becomes a picture, and how somebody else takes it off a person who is locked out.
"""

from __future__ import annotations

import logging

import qrcode
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction
from django.utils.html import format_html
from django.utils.safestring import SafeString

from plumbline.accounts import sealing, visits
from plumbline.accounts.models import Membership, Project, Role, SecondFactorReset, User
from plumbline.audit.record import record

log = logging.getLogger(__name__)

PURPOSE = "second factor"
SEALED = ("secret", "seed")  # of an authenticator's data


class Adapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth ships no types
    def encrypt(self, text: str) -> str:
        return sealing.seal(text, PURPOSE)

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.unseal(encrypted_text, PURPOSE)

    def build_totp_svg(self, url: str) -> SafeString:
        """Without the inline styles that our pages do not allow."""
        code = qrcode.QRCode(border=3)
        code.add_data(url)
        code.make(fit=True)
        rows = code.get_matrix()
        dark = [(x, y) for y, row in enumerate(rows) for x, on in enumerate(row) if on]
        path = "".join(f"M{x} {y}h1v1h-1z" for x, y in dark)
        return format_html(
            '<svg class="qr" viewBox="0 0 {size} {size}" role="img" '
            'aria-label="QR code of the secret below"><path d="{path}"/></svg>',
            size=len(rows),
            path=path,
        )


def on(user: User) -> bool:
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())


def of_members(project: Project) -> set[int]:
    """Members who have a second factor."""
    rows = Authenticator.objects.filter(
        user__membership__project=project, type=Authenticator.Type.TOTP
    )
    return set(rows.values_list("user", flat=True))


def missing(user: User, role: str | None = None) -> bool:
    """Whether somebody in this role must have a second factor and has none."""
    who = settings.SECOND_FACTOR
    if who == "optional":
        return False
    powerful = role == Role.ADMIN or user.is_staff or user.is_superuser
    return (who == "everyone" or powerful) and not on(user)


def must_have(user: User) -> bool:
    """Whether somewhere on this site the person must have one."""
    if settings.SECOND_FACTOR == "everyone":
        return True
    admin = Membership.objects.filter(user=user, role=Role.ADMIN)
    powerful = user.is_staff or user.is_superuser or admin.exists()
    return settings.SECOND_FACTOR == "admins" and powerful


def may_reset(by: User, user: User) -> bool:
    """A person's other projects are not of an admin who knows nothing of them, and nobody takes
    off their own this way, which asks for no password."""
    if by.pk == user.pk or user.is_staff or user.is_superuser:
        return False
    own = Membership.objects.filter(user=by, role=Role.ADMIN).values("project")
    return not Membership.objects.filter(user=user).exclude(project__in=own).exists()


def reset(user: User, reason: str, by: User | None) -> None:
    """Take the second factor off and end every session of its user. Raises ValueError when there is
    none. `by` is None for somebody at the command line."""
    with transaction.atomic():
        gone, _ = Authenticator.objects.filter(user=user).delete()
        if not gone:
            raise ValueError(f"{user} has no second factor.")
        SecondFactorReset.objects.create(user=user, by=by, reason=reason)
        visits.end_all(user)
        record("second_factor.reset", user, **({"actor": by} if by else {}))
    who = by.get_username() if by else "the command line"
    log.warning("the second factor of %s was reset by %s: %s", user.get_username(), who, reason)


def reseal() -> int:
    """Put all secrets under the present SECRET_KEY; how many authenticators there are."""
    with transaction.atomic():
        rows = list(Authenticator.objects.select_for_update())
        for row in rows:
            for name in SEALED:
                if name in row.data:
                    row.data[name] = sealing.reseal(row.data[name], PURPOSE)
            row.save(update_fields=["data"])
    return len(rows)
