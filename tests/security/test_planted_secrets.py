"""Secrets that the installation holds, planted and looked for in everything that leaves it: pages,
downloads, copies of one's own data, errors and the log of those."""

from __future__ import annotations

import io
import logging
from urllib.parse import quote

import pytest
from django.conf import settings as site_settings
from django.db import OperationalError, connection
from sesame.utils import get_query_string

from plumbline import logs
from plumbline.gateway import links
from plumbline.permissions import TABLE

pytestmark = pytest.mark.django_db
PLANTED = {
    "AUDIT_KEY": "planted-audit-key-0123456789",
    "PLUMBLINE_ENDPOINT_BIG": "sk-planted-endpoint-0123456789",
    "password of the database": "planted-database-password",
}


def content(response) -> bytes:
    return b"".join(response) if response.streaming else response.content


@pytest.fixture
def secrets(world, settings, monkeypatch) -> dict[str, str]:
    """By what each is. The key, the link to sign in and the link for feedback are real ones."""
    alpha = world[0]
    settings.AUDIT_KEY = PLANTED["AUDIT_KEY"]
    monkeypatch.setenv("PLUMBLINE_ENDPOINT_BIG", PLANTED["PLUMBLINE_ENDPOINT_BIG"])
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", PLANTED["password of the database"])
    link = get_query_string(alpha.people["admin"]).partition("=")[2]
    signed, _ = links.make(alpha.project.pk, alpha.objects["key"], "chatcmpl-x", 0, "", 3600)
    return {
        **PLANTED,
        "SECRET_KEY": site_settings.SECRET_KEY,
        "API key": alpha.objects["secret"].rpartition("_")[2],
        "link to sign in": link,
        "link for feedback": signed,
        "invitation": alpha.objects["invitation"],
        "link of a campaign": alpha.objects["token"],
    }


def told(body: bytes, secrets: dict[str, str]) -> list[str]:
    return [
        name
        for name, secret in secrets.items()
        if secret.encode() in body or quote(secret, safe="").encode() in body
    ]


@pytest.mark.parametrize("who", ["annotator", "researcher", "admin", "nobody", "API key"])
def test_no_page_and_no_download_tells_a_secret(who, world, callers, undone, secrets):
    found, seen = {}, 0
    for name, methods in TABLE.items():
        if "GET" not in methods or name in ("accept-invitation", "campaign-invitation"):
            continue  # which hold the link they were opened by
        with undone():
            body = content(callers[who]().get(world[0].path(name)))
        seen += 1
        if wrong := told(body, secrets):
            found[name] = wrong
    assert not found
    assert seen > 80


def test_ones_own_copy_tells_none(world, callers, undone, secrets):
    for who in ("annotator", "researcher", "admin"):
        with undone():
            answer = callers[who]().post(world[0].path("own-data-download"))
            body = content(answer)
        assert b'"account"' in body
        assert told(body, secrets) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(OperationalError, 503), (RuntimeError, 500), (PermissionError, 500)],
)
def test_no_error_page_and_no_log_of_it_tells_one(
    error, status, world, callers, secrets, monkeypatch, undone
):
    from plumbline.collect import views

    shown = dict(secrets)
    shown["API key"] = world[0].objects["secret"]
    shown["link to sign in"] = f"/sign-in/?sesame={secrets['link to sign in']}"
    shown["invitation"] = f"/invitation/{secrets['invitation']}/"
    shown["link for feedback"] = f"/v1/feedback/links/{secrets['link for feedback']}"
    shown["link of a campaign"] = f"/campaign/{secrets['link of a campaign']}/"
    wrong = error(f"server closed the connection unexpectedly: {' '.join(shown.values())}")

    def breaks(*_args, **_kwargs):
        raise wrong

    monkeypatch.setattr(views, "render", breaks)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    known = [*PLANTED.values(), site_settings.SECRET_KEY]  # as the settings know them
    handler.setFormatter(logs.Hiding("{message}", style="{", secrets=known))
    logging.getLogger().addHandler(handler)
    try:
        with undone():
            browser = callers["admin"]()
            browser.raise_request_exception = False
            answer = browser.get(world[0].path("project"))
    finally:
        logging.getLogger().removeHandler(handler)
    assert answer.status_code == status
    assert told(content(answer), secrets) == []
    assert "closed the connection" in stream.getvalue() or status == 503
    assert told(stream.getvalue().encode(), secrets) == []
    for address in ("/nowhere/", "/p/alpha", "/p/alpha/%00/", "/static/nowhere.css"):
        assert told(content(callers["admin"]().get(address)), secrets) == []
