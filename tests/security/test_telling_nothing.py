"""Errors tell nothing of the machine, its paths, its queries or its versions."""

from __future__ import annotations

import re

import django
import pytest
from django.conf import settings as site
from django.db import DatabaseError

from plumbline.collect import views

pytestmark = pytest.mark.django_db
LEAKS = re.compile(
    r"Traceback|File \"|/site-packages/|\.py\b|SELECT |INSERT |sqlite|psycopg|postgres|OperationalE"
    r"|RuntimeError|DatabaseError|Exception|DJANGO_|granian|Python/|SECRET|line \d+"
)


def leaks(response):
    said = response.content.decode() + str(dict(response.headers))
    known = [str(site.ROOT), str(site.HOME), django.get_version(), "hidden-words"]
    return LEAKS.findall(said) + [one for one in known if one in said]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("hidden-words in /etc/passwd"),
        DatabaseError("hidden-words: SELECT * FROM accounts_user"),
        ValueError("hidden-words"),
        OSError(28, "hidden-words", "/var/lib/plumbline"),
    ],
)
def test_a_page_that_breaks_says_nothing_of_how(error, world, callers, monkeypatch):
    def breaks(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(views, "render", breaks)
    for headers in ({}, {"HX-Request": "true"}, {"Accept": "application/json"}):
        response = callers["researcher"]().get(world[0].path("project"), headers=headers)
        assert response.status_code == 500
        assert not leaks(response)


def test_refusals_say_nothing_of_the_machine(world, callers, settings):
    alpha = world[0]
    assert not settings.DEBUG
    answers = [
        callers["annotator"]().get(alpha.path("keys")),
        callers["researcher"]().get("/p/alpha/nowhere/"),
        callers["researcher"]().delete(alpha.path("campaigns")),
        callers["researcher"]().get(alpha.path("campaign", campaign=10**30)),
        callers["researcher"]().get(alpha.path("campaigns") + "?page=%00%ff"),
        callers["nobody"]().get("/accounts/login/?next=//evil.example"),
        callers["nobody"]().get("/static/../../etc/passwd"),
        callers["nobody"]().get("/invitation/" + "x" * 3000 + "/"),
    ]
    for response in answers:
        assert response.status_code < 500
        assert not leaks(response), response.request


def test_a_debugging_site_is_no_site_of_production(settings):
    assert settings.DEBUG is False
    assert "DEBUG" not in (site.ROOT / "docker-compose.yml").read_text()
