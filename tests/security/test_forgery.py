"""Nobody's browser can be made to do something: tokens, origins, and pages that only show."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys

import pytest
from django.db import connection
from django.middleware.csrf import _get_new_csrf_string
from django.test.client import ClientHandler

from plumbline.permissions import TABLE
from tests.security.world import ROLES, URLS

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
CHECKING = ClientHandler(enforce_csrf_checks=True)
UNSAFE = [(name, method) for name, row in TABLE.items() for method in row if method != "GET"]
# What looking may write: rows that say what others say already, and that votes were taken out.
DERIVED = {
    "comparisons": {"collect_comparison", "collect_campaign"},  # who is wanted still, by overlap
    "mfa_activate_totp": {"django_session"},  # the secret that is on offer
    "confidence": {"policies_policy"},  # the base model that the engine runs
    "export-download": {"audit_auditentry", "audit_audithead"},  # who took data
    "sign-in-link": {"accounts_tally"},  # how many wrong links came from an address
}
TOKEN = _get_new_csrf_string()
WRITES = re.compile(r'\s*(?:INSERT INTO|UPDATE|DELETE FROM|REPLACE INTO)\s+"?(\w+)', re.IGNORECASE)


@contextlib.contextmanager
def writes():
    """The tables that statements within wrote to."""
    found = []

    def watch(execute, sql, params, many, context):
        if written := WRITES.match(sql):
            found.append(written[1])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield found


def checking(browser):
    browser.handler = CHECKING
    return browser


@pytest.mark.parametrize("who", [*ROLES, "nobody", "API key"])
def test_nothing_is_done_without_a_token(who, world, callers):
    """A key does not stand in for one either."""
    wrong = {}
    for name, method in UNSAFE:
        with writes() as written:
            status = checking(callers[who]()).generic(method, world[0].path(name)).status_code
        if status != 403 or written:
            wrong[name, method] = (status, written)
    assert not wrong
    assert len(UNSAFE) > 80


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://testserver.evil.example", "http://testserver:81"],
)
def test_nothing_is_done_for_another_origin_even_with_a_token(origin, world, callers):
    wrong = {}
    for name, method in UNSAFE:
        browser = checking(callers["admin"]())
        browser.cookies["csrftoken"] = TOKEN
        with writes() as written:
            answer = browser.generic(
                method, world[0].path(name), headers={"Origin": origin, "X-CSRFToken": TOKEN}
            )
        if answer.status_code != 403 or written:
            wrong[name, method] = (answer.status_code, written)
    assert not wrong


def test_over_https_a_request_that_hides_where_it_comes_from_is_refused(world, callers):
    for name, method in UNSAFE:
        browser = checking(callers["admin"]())
        browser.cookies["csrftoken"] = TOKEN
        answer = browser.generic(
            method, world[0].path(name), headers={"X-CSRFToken": TOKEN}, secure=True
        )
        assert answer.status_code == 403, name


def test_a_token_of_somebody_else_is_refused(world, callers, undone):
    browser = checking(callers["admin"]())
    browser.cookies["csrftoken"] = TOKEN
    other = _get_new_csrf_string()
    path = world[0].path("key-create")
    assert browser.post(path, headers={"X-CSRFToken": other}).status_code == 403
    with undone():
        assert browser.post(path, headers={"X-CSRFToken": TOKEN}).status_code == 422


@pytest.mark.parametrize("who", [*ROLES, "nobody"])
def test_no_page_changes_anything_by_being_looked_at(who, world, callers, undone):
    wrong, shown = {}, 0
    for name, methods in TABLE.items():
        if "GET" not in methods:
            continue
        for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"HX-Request": "true"})):
            with undone(), writes() as written:
                answer = callers[who]().generic(method, world[0].path(name), headers=headers)
            shown += answer.status_code == 200
            if set(written) - DERIVED.get(name, set()):
                wrong[name, method] = written
    assert not wrong
    assert shown > (10 if who == "nobody" else 30)


def test_no_url_takes_a_change_by_get(world, callers, undone):
    """Nor by a method that a form names in a field or a header."""
    for name, methods in TABLE.items():
        if "GET" in methods:
            continue
        for headers in ({}, {"X-HTTP-Method-Override": "POST"}, {"X-HTTP-Method": "POST"}):
            for query in ({}, {"_method": "POST"}):
                answer = callers["admin"]().get(world[0].path(name), query, headers=headers)
                assert answer.status_code == 405, name


def test_a_session_is_kept_from_scripts_and_from_other_sites(settings):
    assert settings.SESSION_COOKIE_HTTPONLY
    assert settings.SESSION_COOKIE_SAMESITE == settings.CSRF_COOKIE_SAMESITE == "Lax"
    assert all("sessionid" not in wanted for wanted in URLS.values()), "no session in an address"


def test_in_production_cookies_are_of_this_host_and_https_alone():
    """Read by a process of its own, as production starts."""
    asked = (
        "SESSION_COOKIE_NAME CSRF_COOKIE_NAME SESSION_COOKIE_SECURE CSRF_COOKIE_SECURE "
        "SESSION_COOKIE_DOMAIN CSRF_COOKIE_DOMAIN SESSION_COOKIE_PATH CSRF_COOKIE_PATH "
        "SECURE_SSL_REDIRECT DEBUG"
    )
    program = (
        "import json, sys; from plumbline import settings as own; "
        "from django.conf import global_settings as usual; "
        "print(json.dumps([getattr(own, n, getattr(usual, n)) for n in sys.argv[1].split()]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, asked],
        env={
            **os.environ,
            "PLUMBLINE_PRODUCTION": "yes",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "ALLOWED_HOSTS": "plumbline.example",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == [
        *("__Host-sessionid", "__Host-csrftoken", True, True, None, None, "/", "/", True, False)
    ]
