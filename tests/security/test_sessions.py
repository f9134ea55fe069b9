"""Sessions: a new key at every sign-in, seen by their owner, ended by them and by what changes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from sesame.utils import get_query_string

from plumbline.accounts import guesses, invitations, visits
from plumbline.accounts.models import Membership, User, Visit

pytestmark = pytest.mark.usefixtures("fast_passwords")
PASSWORD, OTHER = "a long enough secret", "another long secret"


@pytest.fixture
def erin(project):
    user = User.objects.create_user("erin", password=PASSWORD)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def browser_of(name: str, password: str = PASSWORD, agent: str = "Firefox") -> Client:
    client = Client(headers={"user-agent": agent})
    client.post("/accounts/login/", {"login": name, "password": password})
    return client


def inside(client: Client) -> bool:
    return client.get("/accounts/security/").status_code == 200


def test_a_planted_session_key_is_not_the_one_that_signs_in(erin):
    client = Client()
    planted = client.session  # what an attacker made the victim's browser hold
    planted["anything"] = 1
    planted.save()
    client.cookies["sessionid"] = planted.session_key
    client.post("/accounts/login/", {"login": "erin", "password": PASSWORD})
    assert client.session.session_key != planted.session_key
    thief = Client()
    thief.cookies["sessionid"] = planted.session_key
    assert not inside(thief)


def test_signing_out_ends_the_session_on_the_server(erin):
    client = browser_of("erin")
    thief = Client()
    thief.cookies["sessionid"] = client.session.session_key
    assert inside(thief)
    client.post("/accounts/logout/")
    assert not inside(thief)


def test_a_changed_password_ends_all_other_sessions(erin, client_for):
    here, there, unlisted = browser_of("erin"), browser_of("erin"), client_for(erin)
    before = here.session.session_key
    form = {"old_password": PASSWORD, "new_password1": OTHER, "new_password2": OTHER}
    assert here.post("/accounts/password/", form).status_code == 302
    assert inside(here)
    assert here.session.session_key != before
    assert not inside(there)
    assert not inside(unlisted)
    assert [one.session_key for one in visits.of(erin)] == [here.session.session_key]


def test_a_session_is_listed_and_ended_by_its_owner(erin):
    here, there = browser_of("erin"), browser_of("erin", agent="Opera <b>Mobile")
    page = here.get("/accounts/security/").content.decode()
    assert "Firefox" in page
    assert "Opera &lt;b&gt;Mobile" in page
    which = Visit.objects.get(session_key=there.session.session_key).pk
    here.post("/accounts/security/sessions/", {"which": str(which)})
    assert inside(here)
    assert not inside(there)
    assert "Opera" not in here.get("/accounts/security/").content.decode()


def test_all_others_end_at_once_even_those_on_no_list(erin, client_for):
    here, there, unlisted = browser_of("erin"), browser_of("erin"), client_for(erin)
    here.post("/accounts/security/sessions/", {"which": "others"})
    assert inside(here)
    assert not inside(there)
    assert not inside(unlisted)


@pytest.mark.parametrize("which", ["", "x", "-1", "9" * 30, "999999", "②"])
def test_what_is_no_session_of_ones_own_ends_nothing(which, erin, bob, client_for):
    theirs, here = browser_of("erin"), client_for(bob)
    which = which if which != "999999" else str(Visit.objects.get(user=erin).pk)
    assert here.post("/accounts/security/sessions/", {"which": which}).status_code == 302
    assert inside(theirs)


def test_sessions_from_before_the_update_go_on(erin):
    """Their digest is Django's own until somebody ends them all."""
    from django.contrib.auth.base_user import AbstractBaseUser

    assert erin.get_session_auth_hash() == AbstractBaseUser.get_session_auth_hash(erin)
    visits.end_all(erin)
    erin.refresh_from_db()
    assert erin.sessions_ended == 1


def test_a_session_ends_by_itself(erin):
    client = browser_of("erin")
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert not inside(client)
    guesses.Watch().look()
    assert not Session.objects.exists()
    assert not Visit.objects.exists()


def test_a_sign_in_link_is_good_for_a_day(erin, client, monkeypatch):
    link = "/sign-in/" + get_query_string(erin)
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 23 * 3600)
    assert client.get(link).status_code == 200
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert client.get(link).status_code == 404


def test_the_link_of_somebody_switched_off_is_not_valid(erin, client):
    link = "/sign-in/" + get_query_string(erin)
    erin.is_active = False
    erin.save()
    assert client.post(link).status_code == 404


@pytest.mark.parametrize("password", ["password1234", "elevenchars", "123456789012"])
def test_short_and_breached_passwords_are_refused(password, project, dana, client):
    _, token = invitations.create(project, "annotator", dana)
    form = {"username": "frank", "password1": password, "password2": password}
    answer = client.post(f"/invitation/{token}/", form)
    assert answer.status_code == 422
    assert not User.objects.filter(username="frank").exists()
