"""A person asks on their page to be forgotten; an admin to whom they belong carries it out."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from plumbline.accounts.models import Membership, User
from plumbline.audit.models import AuditEntry
from plumbline.loop.models import Retraction
from plumbline.operations import diagnoses, farewells
from plumbline.operations.models import Farewell
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db
FORGET, STAY = "/accounts/data/forget/", "/accounts/data/stay/"
WISHES = "/p/alpha/members/forget/"
PASSWORD = "a long enough password"


def whats() -> list[str]:
    found = AuditEntry.objects.order_by("number").values_list("what", flat=True)
    return [what for what in found if what.startswith(("farewell", "person"))]


@pytest.fixture
def admins_browser(dana, settings, client):
    """An admin who has given the password once more a moment ago."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    dana.set_password(PASSWORD)
    dana.save()
    client.post("/accounts/login/", {"login": "dana", "password": PASSWORD})
    client.post("/accounts/again/", {"password": PASSWORD})
    return client


def test_a_wish_is_confirmed_by_the_name_of_who_has_no_password(bob, client_for):
    browser = client_for(bob)
    assert "Type bob to confirm" in browser.get(FORGET).content.decode()
    answer = browser.post(FORGET, {"confirm": "Bob"})
    assert answer.status_code == 422
    assert "That is not your user name" in answer.content.decode()
    assert not Farewell.objects.exists()
    assert browser.post(FORGET, {"confirm": "bob"}).status_code == 302
    wish = Farewell.objects.get()
    assert (wish.user, wish.asked_by_person, wish.withdraw_votes) == (bob, True, False)
    page = browser.get("/accounts/data/").content.decode()
    assert "You asked for it" in page
    assert f"by {wish.due:%-d %B %Y} at the latest" in page
    assert whats() == ["farewell.asked"]


def test_it_is_confirmed_by_the_password_and_nobody_guesses_that(bob, client_for, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    bob.set_password(PASSWORD)
    bob.save()
    browser = client_for(bob)
    for _ in range(5):
        answer = browser.post(FORGET, {"confirm": "bob"})
        assert "That is not your password" in answer.content.decode()
    answer = browser.post(FORGET, {"confirm": PASSWORD})
    assert "Too many wrong passwords" in answer.content.decode()
    assert not Farewell.objects.exists()


def test_a_wish_can_be_withdrawn_until_it_is_done(bob, alice, client_for):
    browser = client_for(bob)
    browser.post(FORGET, {"confirm": "bob", "withdraw_votes": "on"})
    assert Farewell.objects.get().withdraw_votes
    browser.post(STAY)
    assert not farewells.open_wishes().exists()
    browser.post(STAY)
    assert whats() == ["farewell.asked", "farewell.withdrawn"]
    with pytest.raises(ValueError, match="does not ask for it any more"):
        farewells.forget(bob, actor=alice, reason="They asked", asked=True)
    assert User.objects.get(pk=bob.pk).username == "bob"


def test_an_admin_carries_out_what_was_asked(bob, vote, project, client_for, admins_browser, dana):
    vote(open_campaign(project))
    theirs = client_for(bob)
    theirs.post(FORGET, {"confirm": "bob", "withdraw_votes": "on"})
    page = admins_browser.get(WISHES).content.decode()
    assert "leave all training to come" in page
    there = f"/p/alpha/members/{bob.pk}/forget/"
    assert there in page
    said = {"reason": "They asked", "confirm": "dana", "withdraw_votes": "on"}
    answer = admins_browser.post(there, said)
    assert answer.status_code == 422
    assert "not the member&#x27;s user name" in answer.content.decode()
    assert admins_browser.post(there, {**said, "confirm": "bob"}).status_code == 302
    gone = User.objects.get(pk=bob.pk)
    assert (gone.username, gone.is_active) == (f"forgotten-{bob.pk}", False)
    assert Retraction.objects.get().annotator == gone
    done = Farewell.objects.get()
    assert (done.actor, done.asked_by_person) == ("dana", True)
    assert whats() == ["farewell.asked", "person.forgotten"]
    assert AuditEntry.objects.get(what="person.forgotten").who == f"user:{dana.pk}"
    assert "/accounts/login/" in theirs.get("/accounts/data/").headers["Location"]
    assert "Nobody asks for it" in admins_browser.get(WISHES).content.decode()


def test_the_wish_for_the_votes_holds_whatever_the_form_says(
    bob, vote, project, client_for, admins_browser
):
    vote(open_campaign(project))
    client_for(bob).post(FORGET, {"confirm": "bob", "withdraw_votes": "on"})
    said = {"reason": "They asked", "confirm": "bob"}
    admins_browser.post(f"/p/alpha/members/{bob.pk}/forget/", said)
    assert Retraction.objects.count() == 1


def test_the_password_is_asked_for_again(bob, dana, client_for):
    dana.set_password(PASSWORD)
    dana.save()
    farewells.ask(bob)
    answer = client_for(dana).get(f"/p/alpha/members/{bob.pk}/forget/")
    assert answer.status_code == 302
    assert "/accounts/again/" in answer.headers["Location"]


def test_nobody_is_forgotten_who_does_not_ask(bob, admins_browser):
    there = f"/p/alpha/members/{bob.pk}/forget/"
    assert "does not ask for it" in admins_browser.get(there).content.decode()
    admins_browser.post(there, {"reason": "I want it", "confirm": "bob"})
    assert User.objects.get(pk=bob.pk).username == "bob"


def test_who_belongs_to_other_projects_is_for_an_operator(bob, charlie, project, admins_browser):
    Membership.objects.create(
        project=charlie.membership_set.get().project, user=bob, role="annotator"
    )
    farewells.ask(bob)
    assert "For an operator" in admins_browser.get(WISHES).content.decode()
    there = f"/p/alpha/members/{bob.pk}/forget/"
    answer = admins_browser.post(there, {"reason": "They asked", "confirm": "bob"})
    assert answer.status_code == 403
    assert User.objects.get(pk=bob.pk).username == "bob"


def test_nobody_carries_out_their_own_wish(dana, admins_browser, project):
    other = User.objects.create_user("eric")
    Membership.objects.create(project=project, user=other, role="admin")
    farewells.ask(dana)
    there = f"/p/alpha/members/{dana.pk}/forget/"
    answer = admins_browser.post(there, {"reason": "I want it", "confirm": "dana"})
    assert answer.status_code == 403


def test_the_only_admin_reads_what_hinders(dana, admins_browser):
    assert "only admin of Alpha; make another" in admins_browser.get(FORGET).content.decode()
    admins_browser.post(FORGET, {"confirm": PASSWORD})
    assert "only admin of Alpha; make another" in admins_browser.get(WISHES).content.decode()


def test_the_operator_finds_wishes_and_when_they_are_due(bob, carol, homes):
    farewells.ask(bob, withdraw_votes=True)
    out = io.StringIO()
    call_command("forget", stdout=out)
    due = Farewell.objects.get().due
    assert out.getvalue() == f"bob: by {due:%Y-%m-%d}, and take their votes along\n"
    out = io.StringIO()
    call_command("forget", "--json", stdout=out)
    assert json.loads(out.getvalue())[0]["username"] == "bob"
    with pytest.raises(CommandError, match="Say who does it and why"):
        call_command("forget", "bob")
    assert diagnoses.EVERY["wishes"]().level == "look"
    Farewell.objects.update(asked_at=timezone.now() - timedelta(days=31))
    late = diagnoses.EVERY["wishes"]()
    assert late.level == "wrong"
    assert "1 person waits to be forgotten" in late.sentence


def test_what_an_operator_begins_is_no_wish_of_the_person(bob, alice):
    farewells.forget(bob, actor=alice, reason="By letter")
    assert not Farewell.objects.get().asked_by_person
