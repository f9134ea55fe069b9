"""Home, members, health and the pages that say no."""

from __future__ import annotations

import re

from django.test import Client

from plumbline.accounts import invitations
from plumbline.accounts.models import Invitation, Membership, User


def test_the_only_project_is_opened_at_once(bob, client_for):
    assert client_for(bob).get("/")["Location"] == "/p/alpha/"


def test_several_projects_are_listed(bob, charlie, client_for):
    beta = Membership.objects.get(user=charlie).project
    Membership.objects.create(project=beta, user=bob, role="researcher")
    page = client_for(bob).get("/").content.decode()
    assert "You are an annotator here" in page
    assert "You are a researcher here" in page


def test_no_project_is_explained(db, client_for):
    page = client_for(User.objects.create_user("erin")).get("/").content.decode()
    assert "No projects yet" in page


def test_an_admin_invites_with_a_link_that_is_shown_once(dana, bob, client_for):
    client = client_for(dana)
    page = client.post("/p/alpha/members/invite/", {"role": "researcher"}).content.decode()
    token = re.search(r"/invitation/([\w-]+)/", page)[1]
    assert invitations.find(token).role == "researcher"
    listed = client.get("/p/alpha/members/").content.decode()
    assert token not in listed
    assert "bob" in listed


def test_an_unknown_role_is_not_invited(dana, client_for):
    response = client_for(dana).post("/p/alpha/members/invite/", {"role": "owner"})
    assert response.status_code == 422
    assert not Invitation.objects.exists()


def test_health_says_ok_without_signing_in(client, db):
    assert client.get("/health/").json() == {"status": "ok"}


def test_a_page_that_is_not_there_looks_like_the_rest(client, db):
    response = client.get("/nowhere/")
    assert response.status_code == 404
    assert "Nothing here" in response.content.decode()


def test_a_role_that_is_too_low_is_told_so(bob, client_for):
    response = client_for(bob).get("/p/alpha/keys/")
    assert response.status_code == 403
    assert "another role" in response.content.decode()


def test_a_stale_form_is_told_so(bob, client_for):
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client_for(bob).cookies
    response = strict.post("/accounts/logout/")
    assert response.status_code == 403
    assert "too old" in response.content.decode()


def test_a_broken_server_still_answers_in_words(
    bob, client_for, monkeypatch, django_assert_num_queries
):
    from plumbline.accounts import views

    def broken(*_):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(views, "connection", broken)
    client = client_for(bob)
    client.raise_request_exception = False
    with django_assert_num_queries(0):  # it may be the database that broke
        response = client.get("/health/")
    assert response.status_code == 500
    assert "Something broke here" in response.content.decode()
