"""Every URL, method and role: the resolver is enumerated against the permission table."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from plumbline.permissions import PUBLIC, SIGNED_IN, TABLE, allows

pytestmark = pytest.mark.sqlite
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# A value for each converter; no row has these, so a request that gets in answers 404 or a form.
SAMPLES = {
    "project": "alpha",
    "int": "999999",
    "str": "nothing",
    "slug": "nothing",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def routes(patterns=None, prefix="") -> Iterator[tuple[str, str]]:
    """(URL name, path with samples filled in) of every pattern."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield pattern.name or "", "/" + re.sub(r"<([^>]+)>", _sample, route).lstrip("/")


def _sample(match: re.Match[str]) -> str:
    converter, _, name = match[1].rpartition(":")
    return SAMPLES.get(name) or SAMPLES[converter or "str"]


ROUTES = sorted(set(routes()))
PROJECT_ROUTES = [(name, path) for name, path in ROUTES if path.startswith("/p/")]


def test_every_url_has_a_row_and_every_row_a_url():
    assert {name for name, _ in ROUTES} == set(TABLE)


@pytest.mark.parametrize(("name", "path"), PROJECT_ROUTES)
@pytest.mark.django_db
def test_a_stranger_finds_no_project(name, path, project, charlie, client_for):
    client = client_for(charlie)
    for method in TABLE[name]:
        assert client.generic(method, path).status_code == 404, (method, path)


@pytest.mark.parametrize(("name", "path"), ROUTES)
@pytest.mark.django_db
def test_nobody_gets_in_without_signing_in(name, path, project, client):
    for method, least in TABLE[name].items():
        response = client.generic(method, path)
        if least == PUBLIC:
            assert response.status_code != 403
        else:
            assert response.status_code == 302, (method, path)
            assert "login" in response["Location"]


@pytest.mark.parametrize(("name", "path"), PROJECT_ROUTES)
@pytest.mark.django_db
def test_a_role_opens_what_its_row_says_and_no_more(
    name, path, project, alice, bob, dana, client_for
):
    roles = {"annotator": bob, "researcher": alice, "admin": dana}
    for method, least in TABLE[name].items():
        assert least not in (PUBLIC, SIGNED_IN), "a project page needs a role"
        for role, user in roles.items():
            status = client_for(user).generic(method, path).status_code
            assert (status == 403) != allows(role, least), (role, method, path, status)
            assert status < 500, (role, method, path)


@pytest.mark.parametrize(("name", "path"), ROUTES)
@pytest.mark.django_db
def test_a_method_without_a_row_is_refused(name, path, project, dana, client_for):
    client = client_for(dana)
    for method in set(METHODS) - set(TABLE[name]):
        assert client.generic(method, path).status_code == 405, (method, path)
