"""Fast password hashing where a test is not about it."""

from __future__ import annotations

import pytest


@pytest.fixture
def fast_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
