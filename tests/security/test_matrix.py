"""Every URL, method and caller, on objects of one's own project, of another's, and on none."""

from __future__ import annotations

import pytest

from plumbline.accounts.models import Role
from plumbline.permissions import PUBLIC, SIGNED_IN, TABLE, allows
from tests.security.world import PLACES, ROLES, URLS, missing

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
CALLERS = (*ROLES, "member of another project", "superuser without a project", "nobody", "API key")
# Of an own object, pages that are not there before something else is: a campaign that writes
# live, curves that were chosen, a blend.
NOT_YET = {"live-write", "round-curves-csv", "job-curves-csv", "blend-csv", "sign-in-link"}
BY_ANSWER = {"objective-end": 422}  # its name is a form's value rather than a row's id


def addresses(name, own, other):
    """(whose objects, path): all one's own, each one replaced by a foreign and by a missing one,
    and all replaced."""
    mine = own.arguments(name, URLS[name])
    theirs = other.arguments(name, URLS[name])
    swapped = [one for one in mine if one not in PLACES]
    yield "own", own.path(name)
    for one in swapped:
        yield "other", own.path(name, **{one: theirs[one]})
        yield "missing", own.path(name, **{one: missing(name, one, mine[one])})
    if len(swapped) > 1:
        yield "other", own.path(name, **{one: theirs[one] for one in swapped})


def wrong(name, method, who, whose, response):
    """What is wrong with an answer, if anything."""
    least, status = TABLE[name][method], response.status_code
    if status >= 500:
        return f"{status}"
    if least == PUBLIC:
        return "" if status != 403 else "403 on a public page"
    if who in ("nobody", "API key"):
        there = response.get("Location", "")
        return "" if status == 302 and "/accounts/login/" in there else f"{status} without sign-in"
    if least == SIGNED_IN:
        return "" if status < 400 else f"{status}"
    if who not in ROLES:
        return "" if status == 404 else f"{status} to a stranger"
    if not allows(who, least):
        return "" if status == 403 else f"{status} to a lesser role"
    if whose != "own":
        return "" if status == BY_ANSWER.get(name, 404) else f"{status} for what is not theirs"
    owner = "annotator" if least == Role.ANNOTATOR else "researcher"
    if method == "GET" and who == owner and name not in NOT_YET and status >= 400:
        return f"{status} on an own page"
    return "" if status != 403 else "403 to a role that may"


@pytest.mark.parametrize("who", CALLERS)
def test_each_caller_gets_what_the_table_says_of_every_url(who, world, callers, undone):
    found, asked = {}, 0
    for name, methods in TABLE.items():
        for whose, path in addresses(name, *world):
            for method in methods:
                with undone():
                    response = callers[who]().generic(method, path)
                asked += 1
                if trouble := wrong(name, method, who, whose, response):
                    found[name, method, whose, path] = trouble
    assert not found
    assert asked > 400, "the table was walked"


@pytest.mark.parametrize("who", ["nobody", "admin", "superuser without a project"])
def test_a_method_that_no_row_has_is_refused_to_everybody(who, world, callers):
    found = {}
    for name, methods in TABLE.items():
        for method in set(METHODS) - set(methods):
            status = callers[who]().generic(method, world[0].path(name)).status_code
            if status != 405:
                found[name, method] = status
    assert not found


def test_parts_of_pages_are_given_to_nobody_else(world, callers, undone):
    """htmx's requests go by the same table."""
    found = {}
    for name in TABLE:
        for whose, path in addresses(name, *world):
            for who in ("researcher", "member of another project", "nobody"):
                if "GET" not in TABLE[name]:
                    continue
                with undone():
                    part = callers[who]().get(path, headers={"HX-Request": "true"})
                trouble = wrong(name, "GET", who, whose, part)
                if trouble:
                    found[name, who, whose] = trouble
    assert not found


def test_who_has_left_a_project_is_a_stranger_there_at_once(world, callers, undone):
    from plumbline.accounts.models import Membership

    alpha, _ = world
    with undone():
        browser = callers["researcher"]()
        assert browser.get(alpha.path("campaigns")).status_code == 200
        Membership.objects.filter(user=alpha.people["researcher"]).delete()
        assert browser.get(alpha.path("campaigns")).status_code == 404


def test_who_may_no_longer_sign_in_is_signed_out_at_once(world, callers, undone):
    alpha, _ = world
    with undone():
        browser = callers["researcher"]()
        alpha.people["researcher"].is_active = False
        alpha.people["researcher"].save()
        assert browser.get(alpha.path("campaigns")).status_code == 302
    alpha.people["researcher"].is_active = True
