"""Secrets that the database must keep but not show: encrypted under keys that are derived from
SECRET_KEY, which is not in the database.

What was sealed under a key that SECRET_KEY_FALLBACKS still lists opens as well; `manage.py reseal`
puts everything under the present one, and then the old one can go.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def seal(text: str, purpose: str) -> str:
    return _box(purpose).encrypt(text.encode()).decode()


def unseal(sealed: str, purpose: str) -> str:
    """Raises ValueError when none of the keys at hand sealed it."""
    try:
        return _box(purpose).decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise ValueError(
            f"The {purpose} was sealed under another SECRET_KEY; list that one in "
            "SECRET_KEY_FALLBACKS."
        ) from error


def reseal(sealed: str, purpose: str) -> str:
    """The same secret under the present key."""
    return seal(unseal(sealed, purpose), purpose)


def _box(purpose: str) -> MultiFernet:
    return MultiFernet(
        [_key(one, purpose) for one in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


def _key(secret: str, purpose: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=f"plumbline {purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret.encode())))
