"""Nothing of one tenant comes out of another's pages, files or API, whatever ids are swapped."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumbline.accounts.models import Membership, Role, User
from plumbline.permissions import TABLE
from tests.security.test_forgery import writes
from tests.security.world import PLACES, URLS

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
FORMS = (
    *("name", "policy", "policy_out", "prompt_set", "prompts", "source", "start", "campaign"),
    *("judge", "judges", "evaluator", "endpoint", "constitution", "reward_model", "model", "vote"),
    *("person", "which", "user", "keys", "completion", "comparison", "experiment", "round", "do"),
    *("a", "b", "baseline", "against", "anchor", "opponent", "writer", "labellers", "pk", "id"),
    *("project", "project_id", "role", "is_staff", "is_superuser", "owner", "author"),
)


def content(response):
    return b"".join(response) if response.streaming else response.content


@pytest.mark.parametrize("who", ["annotator", "researcher", "admin"])
def test_no_page_of_one_tenant_holds_a_word_of_another(who, world, callers, undone):
    """Every text of theirs holds a mark, and so do the names of their people."""
    alpha, found = world[0], {}
    for name, methods in TABLE.items():
        if "GET" in methods:
            with undone():
                page = content(callers[who]().get(alpha.path(name)))
            if b"betazonly" in page or b"beta-" in page:
                found[name] = "a word of beta's"
    assert not found


def test_ids_of_another_tenant_in_forms_and_queries_give_nothing(world, callers, undone):
    """Each field that could name a row names each of theirs: nothing of it is shown or changed."""
    alpha, beta = world
    found = {}
    foreign = sorted({str(one) for one in beta.objects.values()} - {"frontier", "1"})
    for name, methods in TABLE.items():
        for method in methods:
            if name.startswith(("account", "sign-in")):
                continue
            for value in (str(beta.objects["policy"]), foreign):
                given = dict.fromkeys(FORMS, value)
                browser = callers["researcher" if methods[method] != Role.ADMIN else "admin"]()
                ask = browser.get if method == "GET" else browser.post
                with undone():
                    response = ask(alpha.path(name), given)
                if response.status_code >= 500:
                    found[name, method] = response.status_code
                elif b"betazonly" in content(response):
                    found[name, method] = "a word of beta's"
    assert not found


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_swapped_ids_never_reach_across(data, world, callers, undone):
    """Any URL, its arguments drawn from either tenant and from nowhere, asked by either."""
    name = data.draw(st.sampled_from(sorted(one for one in TABLE if "project" in URLS[one])))
    method = data.draw(st.sampled_from(sorted(TABLE[name])))
    alpha, beta = world
    arguments, swapped = {}, False
    for one, own in sorted(alpha.arguments(name, URLS[name]).items()):
        theirs = beta.arguments(name, URLS[name])[one]
        arguments[one] = own
        if one not in PLACES and data.draw(st.booleans()):
            arguments[one], swapped = theirs, swapped or own != theirs
    who = data.draw(st.sampled_from(["researcher", "admin"]))
    with undone(), writes() as written:
        response = callers[who]().generic(method, alpha.path(name, **arguments))
    assert response.status_code < 500
    if swapped:
        assert response.status_code in (404, 403) or name == "objective-end", (name, arguments)
        assert not written, (name, written)
        assert b"betazonly" not in content(response)


LOOKUPS = (
    *("password__startswith", "user__password__regex", "annotator__password__startswith"),
    *("created_by__password__contains", "project__members__password", "pk__in", "id__gt"),
    *("comparison__campaign__project__api_keys__digest__startswith", "_connector", "_negated"),
)


def test_queries_are_never_lookups_of_the_database(world, callers, undone):
    """`?password__startswith=a` filters nothing: the page is the same as for another letter."""
    alpha = world[0]
    for name, methods in TABLE.items():
        if "GET" not in methods or "pk" in URLS[name]:
            continue
        seen = set()
        for letter in ("a", "!"):
            query = dict.fromkeys(LOOKUPS, letter) | {"_connector": ") OR 1=1 OR ("}
            with undone():
                response = callers["researcher"]().get(alpha.path(name), query)
            assert response.status_code < 500, name
            seen.add(response.status_code)
        assert len(seen) == 1, name


def test_an_invitation_gives_its_own_role_whatever_a_form_adds(world, callers, undone):
    from plumbline.accounts import invitations

    alpha = world[0]
    with undone():
        _, token = invitations.create(alpha.project, "annotator", alpha.people["admin"])
        extra = {"role": "admin", "is_staff": "1", "is_superuser": "on", "kind": "ai", "id": "1"}
        secret = "a long and unusual sentence"
        named = {"username": "eve", "password1": secret, "password2": secret}
        answer = callers["nobody"]().post(f"/invitation/{token}/", {**named, **extra})
        assert answer.status_code == 302, answer.content
        eve = User.objects.get(username="eve")
        assert Membership.objects.get(user=eve).role == "annotator"
        assert (eve.is_staff, eve.is_superuser, eve.kind) == (False, False, "person")


def test_fields_that_a_form_has_not_change_nothing(world, callers, undone):
    """Also when a parameter is said twice, in the address and in the form."""
    from plumbline.accounts.models import ApiKey

    alpha, beta = world
    with undone():
        path = alpha.path("key-create") + f"?scopes=manage&project={beta.project.pk}"
        extra = {
            "project": beta.project.pk, "project_id": beta.project.pk, "digest": "0" * 64,
            "prefix": "known", "created_by": beta.people["admin"].pk, "revoked_at": "",
        }  # fmt: skip
        answer = callers["researcher"]().post(path, {"name": "own", "scopes": "infer", **extra})
        assert answer.status_code == 200, answer.content
        key = ApiKey.objects.get(name="own")
        assert (key.project, key.scopes) == (alpha.project, ["infer"])
        assert key.created_by == alpha.people["researcher"]
        assert key.prefix != "known"
        assert key.digest != "0" * 64
        twice = callers["researcher"]().post(
            alpha.path("key-create"), {"name": ["one", "two"], "scopes": ["infer", "root"]}
        )
        assert twice.status_code == 422
        assert not ApiKey.objects.filter(name__in=["one", "two"]).exists()


def test_exports_name_no_person_and_no_secret(world, callers, undone):
    """In no format a name, a hash of a password, a key or a row of somebody else's."""
    from plumbline.transfer import formats

    alpha, rows = world[0], 0
    people = [user.username for user in alpha.people.values()]
    for one in formats.exporters():
        with undone():
            got = callers["researcher"]().get(alpha.path("export-download"), {"format": one})
        written = content(got).decode()
        for word in (*people, "argon2", "plk_", "betazonly", alpha.objects["secret"], "@"):
            assert word not in written, (one, word)
        rows += sum(bool(json.loads(line)) for line in written.splitlines() if line[:1] == "{")
    assert rows > 0


def test_another_persons_link_is_not_there(world, callers):
    """What one person's page links to, another member of the same project does not get."""
    alpha, beta = world
    ballot = alpha.path("ballot")
    assert callers["annotator"]().get(ballot).status_code == 200
    for who in ("researcher", "admin", "member of another project"):
        assert callers[who]().get(ballot).status_code == 404
    assert callers["admin"]().post(alpha.path("runs-view-drop")).status_code == 404
    nobody = uuid.UUID(int=3)
    assert callers["annotator"]().get(alpha.path("ballot", ballot=nobody)).status_code == 404
