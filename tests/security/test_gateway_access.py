"""Every route of the API by every kind of key, and by what is no key at all."""

from __future__ import annotations

import httpx
import pytest
from django.utils import timezone
from starlette.routing import Route

from plumbline.accounts import keys
from plumbline.gateway.app import create_app

INFER, FEEDBACK, MANAGE = "infer", "feedback", "manage"
OPEN = "open"  # says nothing of any project, or goes by a signature of its own
# (method, path) -> the scope that it takes. A new route fails here until it is decided on.
ROUTES = {
    ("GET", "/health"): OPEN,
    ("GET", "/ready"): OPEN,
    ("GET", "/metrics"): MANAGE,
    ("GET", "/v1/openapi.json"): OPEN,
    ("GET", "/v1/models"): INFER,
    ("GET", "/v1/models/{model}"): INFER,
    ("POST", "/v1/chat/completions"): INFER,
    ("POST", "/v1/completions"): INFER,
    ("POST", "/v1/responses"): INFER,
    ("POST", "/v1/feedback"): FEEDBACK,
    ("GET", "/v1/feedback/{name}"): FEEDBACK,
    ("POST", "/v1/feedback/links"): FEEDBACK,
    ("POST", "/v1/feedback/links/{token}"): OPEN,
    ("OPTIONS", "/v1/feedback/links/{token}"): OPEN,
    ("POST", "/v1/comparisons"): FEEDBACK,
    ("GET", "/v1/comparisons/{name}"): FEEDBACK,
    ("POST", "/v1/end_users/forget"): FEEDBACK,
}
NOWHERE = "http://127.0.0.1:9"  # no engine: whoever is let in is told so


def test_every_route_of_the_api_has_a_scope():
    found = set()
    for route in create_app().routes:
        assert isinstance(route, Route), f"{route} is no plain route"
        found |= {(method, route.path) for method in (route.methods or {"GET"}) - {"HEAD"}}
    assert found == set(ROUTES)


@pytest.fixture
def running(start_gateway, project):
    with httpx.Client(base_url=start_gateway(NOWHERE).url, trust_env=False, timeout=30) as client:
        yield client


def ask(client, method, path, **options):
    # A proxy's header, for a metrics page that this machine may read without a key.
    headers = {"x-forwarded-for": "203.0.113.9", **options.pop("headers", {})}
    body = {"content": b"{}"} if method == "POST" else {}
    path = path.replace("{model}", "current").replace("{name}", "fb_1").replace("{token}", "a.b")
    return client.request(method, path, headers=headers, **body, **options)


@pytest.mark.parametrize("scopes", [[INFER], [FEEDBACK], [MANAGE], [INFER, FEEDBACK, MANAGE]])
def test_a_key_opens_what_its_scopes_say_and_no_more(running, project, alice, scopes):
    key, secret = keys.create(project, "app", scopes, alice)
    for (method, path), wanted in ROUTES.items():
        status = ask(running, method, path, headers={"authorization": f"Bearer {secret}"})
        if wanted == OPEN or wanted in scopes:
            assert status.status_code not in (401, 403, 500), (method, path)
        else:
            assert status.status_code == 403, (method, path)
            assert status.json()["error"]["code"] == "missing_scope"


def test_nothing_but_a_live_key_is_a_key(running, project, alice, client_for):
    """Nor a browser's session, a link's token, a key in the address or its prefix alone."""
    key, secret = keys.create(project, "app", list(keys.Scope.values), alice)
    gone, revoked = keys.create(project, "gone", list(keys.Scope.values), alice)
    gone.revoked_at = timezone.now()
    gone.save()
    late, expired = keys.create(
        project, "late", list(keys.Scope.values), alice, expires_at=timezone.now()
    )
    session = client_for(alice).cookies["sessionid"].value
    other = "A" if secret[-1] != "A" else "B"
    no_keys = {
        "nothing": {},
        "session": {"cookie": f"sessionid={session}"},
        "key as cookie": {"cookie": f"authorization=Bearer {secret}"},
        "basic": {"authorization": f"Basic {secret}"},
        "bare": {"authorization": secret},
        "x-api-key": {"x-api-key": secret},
        "prefix": {"authorization": f"Bearer plk_{key.prefix}"},
        "no secret": {"authorization": f"Bearer plk_{key.prefix}_"},
        "one character off": {"authorization": f"Bearer {secret[:-1]}{other}"},
        "longer": {"authorization": f"Bearer {secret}x"},
        "digest": {"authorization": f"Bearer {key.digest}"},
        "no word": {"authorization": "Bearer _"},
        "revoked": {"authorization": f"Bearer {revoked}"},
        "expired": {"authorization": f"Bearer {expired}"},
        "huge": {"authorization": "Bearer " + "k" * 20_000},
    }
    for (method, path), wanted in ROUTES.items():
        if wanted == OPEN:
            continue
        for what, headers in no_keys.items():
            answer = ask(running, method, path, headers=headers)
            assert answer.status_code in (401, 431), (method, path, what, answer.status_code)
        query = ask(running, method, path, params={"api_key": secret, "authorization": secret})
        assert query.status_code == 401, (method, path)
        assert secret not in query.text


def test_open_routes_say_nothing_of_any_project(running, project, alice):
    keys.create(project, "app", [INFER], alice)
    for (method, path), wanted in ROUTES.items():
        if wanted == OPEN:
            answer = ask(running, method, path)
            assert answer.status_code < 500 or path == "/ready"
            for word in ("alpha", "Alpha", "alice", "plk_"):
                assert word not in answer.text, (path, word)


def test_no_other_method_does_anything(running, project, alice):
    _, secret = keys.create(project, "app", list(keys.Scope.values), alice)
    known = {path for _, path in ROUTES}
    for path in known:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            if (method, path) in ROUTES:
                continue
            answer = ask(running, method, path, headers={"authorization": f"Bearer {secret}"})
            assert answer.status_code in (404, 405), (method, path, answer.status_code)


def test_the_api_has_a_policy_that_allows_nothing(running, project, alice):
    _, secret = keys.create(project, "app", list(keys.Scope.values), alice)
    for headers in ({}, {"authorization": f"Bearer {secret}"}):
        answers = [ask(running, *route, headers=headers) for route in ROUTES]
        answers.append(running.get("/nowhere", headers=headers))
        for answer in answers:
            said = answer.headers["content-security-policy"]
            assert said.startswith("default-src 'none';"), answer.url
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "text/html" not in answer.headers.get("content-type", "")
            assert not {"set-cookie", "x-powered-by"} & set(answer.headers)
