"""What every answer tells a browser: pages, refusals, errors, static files and the API."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from django.test import override_settings

from plumbline.permissions import TABLE
from tests.security.tenants import stranger

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
NONCE = re.compile(r"'nonce-([A-Za-z0-9+/=_-]{20,})'")
POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def policy_of(response):
    parts = [one.strip().partition(" ") for one in response["Content-Security-Policy"].split(";")]
    return {name: said for name, _, said in parts}


def check(response, what):
    policy = policy_of(response)
    scripts = policy.pop("script-src")
    assert NONCE.sub("'nonce'", scripts) in ("'self'", "'self' 'nonce'"), what
    assert policy == POLICY, what
    assert response["X-Content-Type-Options"] == "nosniff", what
    assert response["Referrer-Policy"] == "same-origin", what
    assert response["Cross-Origin-Opener-Policy"] == "same-origin", what


@pytest.mark.parametrize("who", ["annotator", "admin", "member of another project", "nobody"])
def test_every_answer_has_the_policy(who, world, callers, undone):
    for name, methods in TABLE.items():
        for method in (*methods, "DELETE"):
            with undone():
                response = callers[who]().generic(method, world[0].path(name))
            check(response, (name, method, response.status_code))
            assert response["X-Frame-Options"] == "DENY", (name, method)
            kept = response["Cache-Control"]
            assert "no-cache" in kept or "no-store" in kept, (name, method)
            assert "public" not in kept


def test_errors_have_it_too(world, callers, monkeypatch):
    from plumbline.collect import views

    def breaks(*_args, **_kwargs):
        raise RuntimeError("on purpose")

    browser = callers["admin"]()
    check(browser.get("/nowhere/"), "no such page")
    check(browser.get("/p/alpha"), "a redirect to the same with a slash")
    check(browser.get("/static/nowhere.css"), "no such file")
    check(browser.get("/p/alpha/%00/"), "an odd address")
    with override_settings(ALLOWED_HOSTS=["plumbline.example"]):
        refused = browser.get("/", headers={"host": "evil.example"})
        assert refused.status_code == 400
        check(refused, "an unknown host")
    monkeypatch.setattr(views, "render", breaks)
    broken = browser.get(world[0].path("project"))
    assert broken.status_code == 500
    check(broken, "a broken page")
    with override_settings(SECURE_SSL_REDIRECT=True):
        from django.test import Client

        moved = Client().get("/")
        assert moved.status_code == 301
        check(moved, "a redirect to https")


@pytest.mark.parametrize("file", ["app.js", "app.css", "mark.svg", "chat.js"])
def test_static_files_have_it(file):
    response = stranger().get(f"/static/{file}")
    assert response.status_code == 200
    check(response, file)


def test_a_nonce_is_good_for_one_answer(world, callers):
    browser, seen = callers["researcher"](), set()
    for _ in range(20):
        response = browser.get(world[0].path("campaigns"))
        nonce = NONCE.search(response["Content-Security-Policy"])[1]
        page = response.content.decode()
        scripts = re.findall(r"<script\b[^>]*>", page)
        assert scripts
        assert all(f'nonce="{nonce}"' in one for one in scripts)
        seen.add(nonce)
    assert len(seen) == 20


def test_htmx_runs_nothing_that_a_page_brings(world, callers):
    page = callers["researcher"]().get(world[0].path("campaigns")).content.decode()
    found = re.search(r"<meta name=\"htmx-config\" content='([^']+)'", page)
    config = json.loads(unescape(found[1]))
    assert config["allowEval"] is False
    assert config["selfRequestsOnly"] is True
    assert config["allowScriptTags"] is False
    assert config["includeIndicatorStyles"] is False
    assert config["historyCacheSize"] == 0


def test_downloads_are_files_and_never_pages(world, callers):
    """What holds people's words is saved under a name of ours, and no browser guesses its type."""
    alpha, found = world[0], 0
    for name, methods in TABLE.items():
        if "GET" not in methods:
            continue
        response = callers["researcher"]().get(alpha.path(name))
        kind = response.get("Content-Type", "")
        if response.status_code == 200 and not kind.startswith("text/html"):
            said = response.get("Content-Disposition", "")
            if not kind.startswith("application/json"):  # what scripts draw charts from
                assert said.startswith("attachment; filename="), (name, kind)
            assert not re.search(r"[\r\n]|zonly", said), name
            assert kind.split(";")[0] in (
                *("text/csv", "application/json", "application/jsonl", "application/zip"),
                *("application/x-ndjson", "application/gzip", "text/plain"),
            ), (name, kind)
            found += 1
    assert found > 5
