"""Guessing passwords, links and invitations: it is stopped, and it stops nobody else."""

from __future__ import annotations

import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone
from sesame.utils import get_query_string

from plumbline.accounts import guesses, invitations
from plumbline.accounts.addresses import client_address
from plumbline.accounts.models import Invitation, Tally, User

PASSWORD = "a long enough secret"
BROWSER = Client()
HERE, ELSEWHERE = "203.0.113.7", "198.51.100.9"


@pytest.fixture
def erin(db, fast_passwords):
    return User.objects.create_user("erin", password=PASSWORD)


def sign_in(name: str, password: str, address: str, **headers: str):
    """(whether it signed in, the answer) of a fresh browser at an address."""
    form = {"login": name, "password": password}
    BROWSER.cookies.clear()
    response = BROWSER.post("/accounts/login/", form, REMOTE_ADDR=address, headers=headers or None)
    return "sessionid" in response.cookies, response


def addresses(count: int) -> list[str]:
    return [f"192.0.2.{number}" for number in range(1, count + 1)]


def body(response, *names: str) -> str:
    """A page without what differs by request: its tokens and the name that was typed."""
    text = re.sub(
        r'nonce="[^"]*"|csrfmiddlewaretoken" value="[^"]*"', "", response.content.decode()
    )
    text = re.sub(r"X-CSRFToken[^}]*", "", text)
    for name in names:
        text = text.replace(name, "NAME")
    return text


def test_a_thousand_wrong_passwords_lock_the_guesser_out(erin):
    for number in range(1000):
        assert not sign_in("erin", f"guess number {number}", ELSEWHERE)[0]
    came_in, response = sign_in("erin", PASSWORD, ELSEWHERE)
    assert not came_in
    assert "Too many failed" in response.content.decode()


def test_the_owner_comes_in_from_elsewhere_meanwhile(erin):
    for _ in range(20):
        sign_in("erin", "wrong", ELSEWHERE)
    assert sign_in("erin", PASSWORD, HERE)[0]


def test_the_answer_is_the_same_whether_the_name_exists_or_not(erin):
    for _ in range(8):
        known, unknown = sign_in("erin", "wrong", HERE)[1], sign_in("nina", "wrong", HERE)[1]
        assert body(known, "erin") == body(unknown, "nina")
        assert known.status_code == unknown.status_code
    assert "Too many failed" in known.content.decode()


def test_who_was_switched_off_is_told_what_an_unknown_name_is(erin):
    erin.is_active = False
    erin.save()
    known, unknown = sign_in("erin", PASSWORD, HERE)[1], sign_in("nina", PASSWORD, HERE)[1]
    assert body(known, "erin") == body(unknown, "nina")


def test_a_name_is_counted_however_it_is_written(erin):
    for name in ("erin", "Erin", "ERIN", "ｅｒｉｎ", "eRin"):
        sign_in(name, "wrong", HERE)
    assert not sign_in("erin", PASSWORD, HERE)[0]


def test_guessing_many_names_shuts_the_address_alone(erin):
    for number in range(guesses.ADDRESS.count):
        sign_in(f"name{number}", "wrong", ELSEWHERE)
    assert not sign_in("erin", PASSWORD, ELSEWHERE)[0]
    assert sign_in("erin", PASSWORD, HERE)[0]


def test_guessing_from_many_addresses_is_slowed_down(erin):
    many = addresses(60)
    for address in many[: guesses.NAME.count]:
        sign_in("erin", "wrong", address)
    looked_at = sum(
        "not correct" in sign_in("erin", "wrong", address)[1].content.decode()
        for address in many[guesses.NAME.count :]
    )
    assert looked_at <= 2  # one in ten seconds, from all of them together


def test_who_came_in_from_here_before_does_not_notice(erin):
    assert sign_in("erin", PASSWORD, HERE)[0]
    for address in addresses(60):
        sign_in("erin", "wrong", address)
    assert sign_in("erin", PASSWORD, HERE)[0]


def test_a_stranger_waits_but_is_never_locked_out(erin, monkeypatch):
    for address in addresses(60):
        sign_in("erin", "wrong", address)
    assert not sign_in("erin", PASSWORD, HERE)[0]
    now = timezone.now()
    later = now + timedelta(seconds=guesses.SLOWLY.seconds + 1)
    monkeypatch.setattr(guesses.timezone, "now", lambda: later)
    assert sign_in("erin", PASSWORD, HERE)[0]


def test_the_lock_ends_by_itself(erin, monkeypatch):
    for _ in range(10):
        sign_in("erin", "wrong", HERE)
    later = timezone.now() + timedelta(seconds=guesses.PAIR.seconds + 1)
    monkeypatch.setattr(guesses.timezone, "now", lambda: later)
    assert sign_in("erin", PASSWORD, HERE)[0]


def test_right_passwords_count_for_nothing(erin):
    assert all(sign_in("erin", PASSWORD, HERE)[0] for _ in range(3 * guesses.PAIR.count))


def test_the_counts_need_neither_a_cache_nor_redis_nor_the_process(erin, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1"
    for _ in range(6):
        cache.clear()
        sign_in("erin", "wrong", HERE)
    assert not sign_in("erin", PASSWORD, HERE)[0]


@pytest.mark.django_db(transaction=True)
def test_parallel_guesses_pass_no_limit_together(fast_passwords):
    def guess(number: int) -> bool:
        request = RequestFactory().post("/", REMOTE_ADDR=HERE)
        try:
            guesses.secret(request, "erin")
        except guesses.TooMany:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(guess, range(60))) == guesses.PAIR.count


def test_a_forged_forwarded_address_changes_nothing(erin):
    for number in range(6):
        sign_in("erin", "wrong", ELSEWHERE, x_forwarded_for=f"192.0.2.{number}")
    assert not sign_in("erin", PASSWORD, ELSEWHERE, x_forwarded_for=HERE)[0]


@pytest.mark.parametrize(
    ("proxies", "heard", "address"),
    [
        (0, "192.0.2.1", "10.0.0.1"),
        (1, "192.0.2.66, 192.0.2.1", "192.0.2.1"),
        (2, "192.0.2.66, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (2, "192.0.2.66", "10.0.0.1"),  # it came round a proxy
        (1, "", "10.0.0.1"),
        (1, "not an address", "unknown"),
        (1, "2001:db8:1:2:3::4", "2001:db8:1:2::"),
        (1, "::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_only_our_own_proxies_are_believed(proxies, heard, address, settings):
    settings.TRUSTED_PROXIES = proxies
    headers = {"HTTP_X_FORWARDED_FOR": heard} if heard else {}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", **headers)) == address


def test_addresses_and_names_cannot_be_read_from_the_counts(erin):
    sign_in("erin", "wrong", HERE)
    held = str(list(Tally.objects.values()))
    assert "erin" not in held
    assert HERE not in held


@pytest.mark.sqlite
def test_a_known_name_takes_as_long_as_an_unknown_one(db):
    """Argon2 runs once either way, whatever the account: one with a password, without one, or
    none at all."""
    User.objects.create_user("erin", password=PASSWORD)
    User.objects.create_user("link")  # comes by link, has no password
    spent: dict[str, list[float]] = {"erin": [], "link": [], "nina": []}
    for number in range(9):
        for name, times in spent.items():
            start = time.perf_counter()
            sign_in(name, "wrong", f"192.0.{number}.{len(name)}")
            times.append(time.perf_counter() - start)
    medians = [statistics.median(times) for times in spent.values()]
    assert max(medians) < 1.5 * min(medians), medians


def test_the_old_password_is_not_guessed_by_who_finds_a_browser_open(erin, client_for):
    client = client_for(erin)
    new = {"new_password1": "x" * 20, "new_password2": "x" * 20}
    for _ in range(6):
        client.post("/accounts/password/", {"old_password": "wrong", **new})
    answer = client.post("/accounts/password/", {"old_password": PASSWORD, **new})
    assert "Too many wrong passwords" in answer.content.decode()
    erin.refresh_from_db()
    assert erin.check_password(PASSWORD)


@pytest.mark.parametrize("path", ["/sign-in/?sesame=AAAA", "/invitation/x/", "/campaign/x/"])
def test_guessing_links_is_refused_after_some_tries(path, bob, dana, project):
    guesser, other = Client(REMOTE_ADDR=ELSEWHERE), Client(REMOTE_ADDR=HERE)
    assert {guesser.get(path).status_code for _ in range(guesses.LINKS.count)} == {404}
    refused = guesser.post(path)
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    _, token = invitations.create(project, "annotator", dana)
    for good in (f"/invitation/{token}/", "/sign-in/" + get_query_string(bob)):
        assert guesser.get(good).status_code == 429
        assert other.get(good).status_code == 200


def test_good_links_may_be_opened_as_often_as_one_likes(bob, client):
    link = "/sign-in/" + get_query_string(bob)
    assert {client.get(link).status_code for _ in range(2 * guesses.LINKS.count)} == {200}


def test_nobody_makes_invitations_without_end(dana, client_for, monkeypatch):
    monkeypatch.setattr(guesses, "INVITING", guesses.Limit(3, 3600))
    client = client_for(dana)
    made = [
        client.post("/p/alpha/members/invite/", {"role": "annotator"}).status_code for _ in range(5)
    ]
    assert made == [200, 200, 200, 429, 429]
    assert Invitation.objects.count() == 3


def test_counts_that_have_ended_are_forgotten(erin, monkeypatch):
    sign_in("erin", "wrong", HERE)
    sign_in("erin", PASSWORD, HERE)
    guesses.Watch().look()
    assert Tally.objects.exists()
    later = timezone.now() + timedelta(days=31)
    monkeypatch.setattr(guesses.timezone, "now", lambda: later)
    guesses.Watch().look()
    assert not Tally.objects.exists()
