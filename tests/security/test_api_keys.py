"""Keys of the API: what is stored of them, what is said of them, and when they stop."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta

import httpx
import pytest
from django.core.management import call_command
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey

NOWHERE = "http://127.0.0.1:9"  # no engine


@pytest.fixture
def made(project, alice):
    return keys.create(project, "app", ["infer"], alice)


def bits(secret: str) -> int:
    return 6 * len(secret.split("_", 2)[2])


def test_a_secret_has_256_bits_and_none_comes_twice(project, alice):
    made = [keys.create(project, str(k), ["infer"], alice)[1] for k in range(200)]
    assert len(set(made)) == 200
    assert min(map(bits, made)) >= 256


def test_a_copy_of_the_database_opens_nothing(made, client_for, alice, tmp_path):
    """Neither as it stands, nor with what somebody could make of it without SECRET_KEY."""
    key, secret = made
    rotated = keys.rotate(key, timedelta(hours=1))
    call_command("dumpdata", output=str(tmp_path / "dump.json"), verbosity=0)
    dump = (tmp_path / "dump.json").read_text()
    for one in (secret, rotated):
        assert one not in dump
        assert one.split("_", 2)[2] not in dump
    assert not re.search(r"plk_[0-9a-f]{12}_[\w-]{43}", dump)
    stored = next(row["fields"] for row in json.loads(dump) if row["model"] == "accounts.apikey")
    tries = [stored["digest"], stored["old_digest"], stored["prefix"]]
    assert not any(keys.verify(f"plk_{key.prefix}_{one}") for one in tries)


def test_the_copy_is_of_no_use_under_another_secret_key(made, settings):
    settings.SECRET_KEY = "n" * 60
    assert keys.verify(made[1]) is None


def test_a_key_outlives_a_new_secret_key_once_it_was_used(made, settings):
    key, secret = made
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 60
    assert keys.verify(secret) == key
    settings.SECRET_KEY_FALLBACKS = []
    assert keys.verify(secret) == key
    assert keys.verify(secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None


def test_digests_are_compared_in_constant_time(made, monkeypatch):
    compared = []
    compare = keys.hmac.compare_digest
    monkeypatch.setattr(
        keys.hmac, "compare_digest", lambda *pair: compared.append(pair) or compare(*pair)
    )
    key, secret = made
    keys.verify(secret)
    keys.verify(f"plk_{'0' * 12}_{secret.split('_', 2)[2]}")  # an unknown prefix
    assert len(compared) == 2
    assert {len(one) for pair in compared for one in pair} == {64}


@pytest.mark.django_db(transaction=True)
def test_a_key_that_the_page_calls_revoked_is_refused_by_every_gateway_at_once(
    start_gateway, made, alice, client_for, monkeypatch
):
    from plumbline.gateway import directory

    monkeypatch.setattr(directory, "FRESH", 2.0)  # as in production
    key, secret = made
    headers = {"authorization": f"Bearer {secret}"}
    asked = {"headers": headers, "trust_env": False, "timeout": 30}
    addresses = [start_gateway(NOWHERE).url + "/v1/models" for _ in range(2)]
    for _ in range(3):
        assert [httpx.get(one, **asked).status_code for one in addresses] != [401, 401]
    answer = client_for(alice).post(f"/p/alpha/keys/{key.pk}/revoke/")
    assert answer.status_code == 302
    assert [httpx.get(one, **asked).status_code for one in addresses] == [401, 401]


@pytest.mark.django_db(transaction=True)
def test_a_key_stops_when_it_expires(start_gateway, made):
    key, secret = made
    address = start_gateway(NOWHERE).url + "/v1/models"
    headers = {"authorization": f"Bearer {secret}"}
    asked = {"headers": headers, "trust_env": False, "timeout": 30}
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(seconds=2))
    assert httpx.get(address, **asked).status_code != 401
    time.sleep(2.2)
    assert httpx.get(address, **asked).status_code == 401


@pytest.mark.django_db(transaction=True)
def test_no_log_line_holds_a_secret(start_gateway, made, alice, client_for, caplog, monkeypatch):
    monkeypatch.setattr(keys, "REMEMBERED", 0.1)
    caplog.set_level("DEBUG")
    key, secret = made
    page = client_for(alice).post(f"/p/alpha/keys/{key.pk}/rotate/", {"overlap": "0"})
    new = re.search(r"plk_[0-9a-f]{12}_[\w-]{43}", page.content.decode())[0]
    address = start_gateway(NOWHERE).url
    body = {"model": "current", "messages": [{"role": "user", "content": "hello"}]}
    for one in (secret, new):
        headers = {"authorization": f"Bearer {one}"}
        with httpx.Client(base_url=address, headers=headers, trust_env=False) as client:
            client.get("/v1/models")
            client.post("/v1/chat/completions", json=body)
            client.post("/v1/chat/completions", content=b"{")
    said = "\n".join(f"{line.getMessage()} {line.exc_text}" for line in caplog.records)
    assert said
    assert not re.search(r"plk_[0-9a-f]{12}_", said)
    assert new.split("_", 2)[2] not in said


def test_a_page_shows_a_key_once_and_keeps_it_from_caches(alice, client_for):
    client = client_for(alice)
    page = client.post("/p/alpha/keys/new/", {"name": "app", "scopes": ["infer"]})
    secret = re.search(r"plk_[0-9a-f]{12}_[\w-]{43}", page.content.decode())[0]
    assert "no-store" in page["Cache-Control"]
    key = ApiKey.objects.get()
    for path in ("/p/alpha/keys/", f"/p/alpha/keys/{key.pk}/", "/p/alpha/audit/"):
        assert secret not in client.get(path, follow=True).content.decode()
