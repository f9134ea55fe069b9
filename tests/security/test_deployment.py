"""What a fresh installation is before anybody has touched it, and what it refuses to start with."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.urls import get_resolver

ROOT = Path(__file__).resolve().parents[2]
STRONG = secrets.token_urlsafe(64)


def manage(*arguments: str, home: Path, **given: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env={**kept, "PLUMBLINE_HOME": str(home), **given},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    "key",
    [
        "",
        "short",
        "k" * 60,
        "0123456789" * 4,
        "django-insecure-" + STRONG,
        "example-" + STRONG,
        "changeme" + STRONG,
    ],
)
def test_production_does_not_start_with_a_key_that_others_know(key, tmp_path):
    """Label Studio's sessions could be forged by a key out of its source (CVE-2023-43791)."""
    given = {"PLUMBLINE_PRODUCTION": "1", "ALLOWED_HOSTS": "plumbline.example"}
    done = manage("check", home=tmp_path, SECRET_KEY=key, **given)
    assert done.returncode
    assert "SECRET_KEY" in done.stderr


def test_nor_with_such_a_key_from_before(tmp_path):
    done = manage("check", home=tmp_path, SECRET_KEY=STRONG, SECRET_KEY_FALLBACKS="k" * 60)
    assert "SECRET_KEY_FALLBACKS" in done.stderr


def test_each_installation_makes_a_key_of_its_own(tmp_path):
    for home in (tmp_path / "a", tmp_path / "b"):
        program = "from plumbline import settings; print(settings.SECRET_KEY)"
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PLUMBLINE_HOME": str(home)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    one, two = ((tmp_path / name / "secret_key") for name in "ab")
    assert one.read_text() != two.read_text()
    assert len(one.read_text()) >= 64
    assert one.stat().st_mode & 0o077 == 0


def test_the_deployment_check_of_django_finds_nothing(tmp_path):
    given = {"PLUMBLINE_PRODUCTION": "1", "ALLOWED_HOSTS": "plumbline.example"}
    arguments = ["check", "--deploy", "--fail-level", "WARNING"]
    done = manage(*arguments, home=tmp_path, SECRET_KEY=STRONG, **given)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_admins_need_a_second_factor_in_production(tmp_path):
    program = "from plumbline import settings; print(settings.SECOND_FACTOR)"
    for given, wanted in (
        ({}, "optional"),
        ({"PLUMBLINE_PRODUCTION": "1", "ALLOWED_HOSTS": "x.example"}, "admins"),
        ({"SECOND_FACTOR": "everyone"}, "everyone"),
    ):
        told = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "SECRET_KEY": STRONG, **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == wanted


def test_django_serves_no_admin(client, db, settings):
    assert "django.contrib.admin" not in settings.INSTALLED_APPS
    names = str(list(get_resolver().reverse_dict))
    assert "admin:" not in names
    for path in ("/admin/", "/admin/login/", "/django-admin/", "/accounts/signup/"):
        assert client.get(path).status_code == 404


@pytest.mark.django_db
def test_a_fresh_installation_has_nobody_who_can_sign_in(client):
    """The test's database is one that the migrations have just made (MLflow's CVE-2026-2635)."""
    from plumbline.accounts.models import ApiKey, Invitation, User

    assert not User.objects.exists()
    assert not ApiKey.objects.exists()
    assert not Invitation.objects.exists()
    for name in ("admin", "root", "plumbline", "demo"):
        client.post("/accounts/login/", {"login": name, "password": name})
        assert "_auth_user_id" not in client.session
