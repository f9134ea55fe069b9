"""A key's own page: its limits, its last day, and a new secret without a gap."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey

SECRET = re.compile(r"plk_[0-9a-f]{12}_[\w-]{43}")
EMPTY = dict.fromkeys(
    [
        "expires_at",
        "requests_per_minute",
        "tokens_per_minute",
        "tokens_per_day",
        "tokens_per_month",
        "most_choices",
        "most_tokens",
        "longest_prompt",
    ],
    "",
)


@pytest.fixture
def made(project, alice):
    return keys.create(project, "app", ["infer"], alice)


@pytest.fixture
def page(made):
    return f"/p/alpha/keys/{made[0].pk}/"


def test_a_rotated_key_answers_to_both_secrets_until_the_old_one_dies(made):
    key, old = made
    new = keys.rotate(key, timedelta(hours=1))
    assert (keys.verify(old), keys.verify(new)) == (key, key)
    assert new.split("_")[1] == old.split("_")[1] == key.prefix
    ApiKey.objects.update(old_until=timezone.now() - timedelta(seconds=1))
    assert (keys.verify(old), keys.verify(new)) == (None, key)


def test_a_second_rotation_ends_the_first_secret_at_once(made):
    key, first = made
    second = keys.rotate(key, timedelta(hours=1))
    third = keys.rotate(key, timedelta(hours=1))
    assert [keys.verify(one) for one in (first, second, third)] == [None, key, key]


def test_rotation_without_overlap_ends_the_old_secret_now(made):
    key, old = made
    new = keys.rotate(key, timedelta())
    assert (keys.verify(old), keys.verify(new)) == (None, key)


def test_a_revoked_key_gets_no_new_secret(made, alice, page, client_for):
    key, old = made
    ApiKey.objects.update(revoked_at=timezone.now())
    with pytest.raises(ValueError, match="no longer in use"):
        keys.rotate(key, timedelta())
    answer = client_for(alice).post(page + "rotate/", {"overlap": "0"}, follow=True)
    assert "no longer in use" in answer.content.decode()
    assert keys.verify(old) is None


def test_the_page_shows_the_new_secret_once(made, alice, page, client_for):
    client = client_for(alice)
    answer = client.post(page + "rotate/", {"overlap": "24"})
    new = SECRET.search(answer.content.decode())[0]
    assert "no-store" in answer["Cache-Control"]
    assert keys.verify(new) == made[0]
    assert "works until" in answer.content.decode()
    assert not SECRET.search(client.get(page).content.decode())


def test_a_key_expires_after_the_days_that_were_chosen(alice, client_for):
    client = client_for(alice)
    client.post("/p/alpha/keys/new/", {"name": "app", "scopes": ["infer"], "expires": "7"})
    key = ApiKey.objects.get()
    assert timedelta(days=6, hours=23) < key.expires_at - timezone.now() <= timedelta(days=7)
    assert "Until" in client.get("/p/alpha/keys/").content.decode()
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "Expired" in client.get("/p/alpha/keys/").content.decode()


def test_limits_are_saved_and_an_empty_field_takes_one_away(made, alice, page, client_for):
    client = client_for(alice)
    wanted = {"requests_per_minute": "60", "tokens_per_month": "9000000000", "most_choices": "2"}
    assert client.post(page, EMPTY | wanted).status_code == 302
    key = ApiKey.objects.get()
    assert (key.requests_per_minute, key.tokens_per_month, key.most_choices) == (60, 9 * 10**9, 2)
    assert 'value="60"' in client.get(page).content.decode()
    client.post(page, EMPTY)
    key.refresh_from_db()
    assert (key.requests_per_minute, key.tokens_per_month, key.most_choices) == (None,) * 3


def test_the_last_day_counts_to_its_end_and_keeps_its_hour_when_left_alone(
    made, alice, page, client_for
):
    client = client_for(alice)
    client.post(page, EMPTY | {"expires_at": "2030-05-01"})
    key = ApiKey.objects.get()
    assert key.expires_at.isoformat().startswith("2030-05-01T23:59:59")
    exact = key.expires_at.replace(hour=9)
    ApiKey.objects.update(expires_at=exact)
    client.post(page, EMPTY | {"expires_at": "2030-05-01"})
    key.refresh_from_db()
    assert key.expires_at == exact


@pytest.mark.parametrize(
    "wrong", [{"most_tokens": "0"}, {"requests_per_minute": "-1"}, {"expires_at": "someday"}]
)
def test_what_makes_no_sense_comes_back_with_a_reason(wrong, made, alice, page, client_for):
    answer = client_for(alice).post(page, EMPTY | wrong)
    assert answer.status_code == 422
    assert "errorlist" in answer.content.decode()


def test_keys_of_other_projects_are_not_there(page, charlie, client_for):
    client = client_for(charlie)
    other = page.replace("alpha", "beta")
    assert client.get(other).status_code == 404
    assert client.post(other + "rotate/", {"overlap": "0"}).status_code == 404
