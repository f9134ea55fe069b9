"""API keys: made once, shown once, refused from the moment they are revoked."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey


@pytest.fixture
def made(project, alice):
    return keys.create(project, "notebook", ["infer"], alice)


def test_a_key_is_found_by_its_secret_with_its_project(made, project):
    key, secret = made
    assert re.fullmatch(r"plk_[0-9a-f]{12}_[\w-]{43}", secret)
    assert keys.verify(secret) == key
    assert keys.verify(secret).project == project


def test_the_database_holds_no_usable_key(made):
    key, secret = made
    assert secret.split("_", 2)[2] not in str(vars(key))
    assert keys.verify(f"plk_{key.prefix}_{key.digest}") is None


def test_no_other_secret_opens_it(made):
    key, secret = made
    wrong = [
        secret[:-1],
        secret + "x",
        secret.upper(),
        "",
        "plk",
        f"plk_{key.prefix}",
        "plk__",
        "☃",
    ]
    wrong += [f"abc_{secret[4:]}", secret.replace(key.prefix, "0" * 12)]
    assert [keys.verify(other) for other in wrong] == [None] * len(wrong)


def test_a_revoked_or_expired_key_is_refused_at_once(made):
    key, secret = made
    for field in ("revoked_at", "expires_at"):
        ApiKey.objects.filter(pk=key.pk).update(**{field: timezone.now() - timedelta(seconds=1)})
        assert keys.verify(secret) is None
        ApiKey.objects.filter(pk=key.pk).update(**{field: None})
    assert keys.verify(secret) == key


def test_use_is_noted_but_not_on_every_request(made, django_assert_num_queries):
    key, secret = made
    keys.verify(secret)
    key.refresh_from_db()
    assert key.last_used_at is not None
    with django_assert_num_queries(1):
        keys.verify(secret)


@pytest.mark.parametrize("scopes", [[], ["root"], ["infer", "root"]])
def test_a_key_needs_scopes_that_exist(scopes, project, alice):
    with pytest.raises(ValueError, match="infer, feedback, manage"):
        keys.create(project, "bad", scopes, alice)


def test_the_page_shows_a_new_key_once(alice, client_for):
    client = client_for(alice)
    page = client.post("/p/alpha/keys/new/", {"name": "app", "scopes": ["infer", "feedback"]})
    secret = re.search(r"plk_[0-9a-f]{12}_[\w-]{43}", page.content.decode())[0]
    assert "no-store" in page["Cache-Control"]
    assert keys.verify(secret).scopes == ["feedback", "infer"]
    listed = client.get("/p/alpha/keys/").content.decode()
    assert "app" in listed
    assert secret not in listed


def test_a_key_without_a_name_comes_back_with_a_reason(alice, client_for):
    response = client_for(alice).post("/p/alpha/keys/new/", {"scopes": ["infer"]})
    assert response.status_code == 422
    assert not ApiKey.objects.exists()


def test_revoking_is_for_the_keys_of_ones_own_project(made, alice, charlie, client_for):
    key, secret = made
    assert client_for(charlie).post(f"/p/beta/keys/{key.pk}/revoke/").status_code == 404
    assert keys.verify(secret) == key
    page = client_for(alice).post(f"/p/alpha/keys/{key.pk}/revoke/", follow=True)
    assert "Revoked" in page.content.decode()
    assert keys.verify(secret) is None
