"""Coming in: by password, by link, by invitation; and going out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from sesame.utils import get_query_string

from plumbline.accounts import invitations
from plumbline.accounts.models import Invitation, Membership, User

PASSWORD = "a long enough secret"


@pytest.fixture
def erin(db):
    return User.objects.create_user("erin", password=PASSWORD)


def signed_in(client) -> bool:
    return "_auth_user_id" in client.session


def test_a_password_signs_in_and_goes_on_to_where_one_wanted(client, erin):
    form = {"login": "erin", "password": PASSWORD, "next": "/p/alpha/"}
    assert client.post("/accounts/login/", form)["Location"] == "/p/alpha/"
    assert signed_in(client)


def test_a_foreign_next_address_is_ignored(client, erin):
    form = {"login": "erin", "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post("/accounts/login/", form)["Location"] == "/"


@pytest.mark.parametrize(("name", "password"), [("erin", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_name_and_a_wrong_password_read_the_same(name, password, client, erin):
    response = client.post("/accounts/login/", {"login": name, "password": password})
    assert response.status_code == 200
    assert "not correct" in response.content.decode()
    assert not signed_in(client)


def test_guessing_is_slowed_down(client, erin):
    for _ in range(6):
        response = client.post("/accounts/login/", {"login": "erin", "password": "wrong"})
    assert "Too many failed" in response.content.decode()


def test_somebody_who_was_switched_off_cannot_sign_in(client, erin):
    erin.is_active = False
    erin.save()
    response = client.post("/accounts/login/", {"login": "erin", "password": PASSWORD})
    assert response.status_code == 200
    assert not signed_in(client)


def test_opening_a_sign_in_link_does_not_sign_in_but_its_button_does(client, bob):
    link = "/sign-in/" + get_query_string(bob)
    page = client.get(link)
    assert "Sign in as bob" in page.content.decode()
    assert not signed_in(client)
    assert client.post(link)["Location"] == "/"
    assert client.get("/")["Location"] == "/p/alpha/"


@pytest.mark.parametrize("query", ["", "?sesame=", "?sesame=AAAA", "?sesame=%00"])
def test_a_made_up_link_signs_nobody_in(query, client, bob):
    for method in (client.get, client.post):
        assert method("/sign-in/" + query).status_code == 404
    assert not signed_in(client)


def test_a_link_ends_when_the_password_changes(client, bob):
    link = "/sign-in/" + get_query_string(bob)
    bob.set_password("another long secret")
    bob.save()
    assert client.post(link).status_code == 404


def test_there_is_no_open_sign_up(client, db):
    assert client.get("/accounts/signup/").status_code == 404


def test_signing_out_takes_a_post(bob, client_for):
    client = client_for(bob)
    assert client.get("/accounts/logout/").status_code == 200
    assert signed_in(client)
    client.post("/accounts/logout/")
    assert not signed_in(client)


def test_who_came_by_link_can_choose_a_password_and_stays_signed_in(bob, client_for):
    bob.set_unusable_password()
    bob.save()
    client = client_for(bob)
    form = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    assert client.post("/accounts/password/", form).status_code == 302
    bob.refresh_from_db()
    assert bob.check_password(PASSWORD)
    assert signed_in(client)


def test_changing_a_password_asks_for_the_old_one(erin, client_for):
    form = {"old_password": "wrong", "new_password1": "x" * 14, "new_password2": "x" * 14}
    assert client_for(erin).post("/accounts/password/", form).status_code == 422
    erin.refresh_from_db()
    assert erin.check_password(PASSWORD)


@pytest.fixture
def invitation(project, dana):
    return invitations.create(project, "annotator", dana)


def join(client, token: str, **form):
    given = {"username": "frank", "password1": PASSWORD, "password2": PASSWORD, **form}
    return client.post(f"/invitation/{token}/", given)


def test_an_invitation_makes_a_member_and_works_once(invitation, client):
    row, token = invitation
    assert join(client, token)["Location"] == "/p/alpha/"
    member = Membership.objects.get(user__username="frank")
    assert (member.project, member.role) == (row.project, "annotator")
    assert client.get(f"/invitation/{token}/").status_code == 404


def test_opening_an_invitation_uses_nothing_up(invitation, client):
    for _ in range(2):
        assert "dana invites you" in client.get(f"/invitation/{invitation[1]}/").content.decode()


@pytest.mark.parametrize(
    "form", [{"password1": "short", "password2": "short"}, {"username": "bob"}]
)
def test_a_weak_password_or_a_taken_name_is_refused(form, invitation, bob, client):
    assert join(client, invitation[1], **form).status_code == 422
    assert not User.objects.filter(username="frank").exists()


def test_an_old_invitation_is_not_valid(invitation, client):
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert join(client, invitation[1]).status_code == 404
    assert not User.objects.filter(username="frank").exists()


def test_who_is_signed_in_joins_as_themselves(invitation, charlie, client_for):
    client_for(charlie).post(f"/invitation/{invitation[1]}/")
    assert Membership.objects.get(project=invitation[0].project, user=charlie).role == "annotator"


def test_a_member_does_not_use_up_an_invitation(invitation, bob, client_for):
    client_for(bob).post(f"/invitation/{invitation[1]}/")
    assert Membership.objects.get(user=bob).role == "annotator"
    assert invitations.find(invitation[1]) is not None


def test_the_database_holds_no_usable_token(invitation):
    row, token = invitation
    assert token not in str(vars(row))
