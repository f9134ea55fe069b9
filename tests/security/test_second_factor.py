"""The second factor: on and off, asked for on every way in, and the ways out for who lost it."""

from __future__ import annotations

import json
import re

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command
from django.test import Client
from sesame.utils import get_query_string

from plumbline.accounts.models import Membership, Project, SecondFactorReset, User
from tests.security.totp import PASSWORD, code, secret_on, turn_on

pytestmark = pytest.mark.usefixtures("fast_passwords")


@pytest.fixture
def erin(project):
    user = User.objects.create_user("erin", password=PASSWORD)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


@pytest.fixture
def protected(erin, client_for):
    """(her browser, the secret of her app, her recovery codes)"""
    browser = client_for(erin)
    return browser, *turn_on(browser)


def signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def with_password(client: Client):
    return client.post("/accounts/login/", {"login": "erin", "password": PASSWORD})


def test_turning_it_on_asks_for_the_password_and_shows_ten_codes_once(erin, client_for):
    browser = client_for(erin)
    assert "/accounts/again/" in browser.get("/accounts/second-factor/")["Location"]
    _, codes = turn_on(browser)
    assert len(set(codes)) == 10
    page = browser.get("/accounts/recovery-codes/")
    assert not set(codes) & set(re.findall(r"\d{10}", page.content.decode()))
    assert "no-store" in page["Cache-Control"]


def test_the_codes_can_be_downloaded_from_the_page_that_shows_them(erin, client_for):
    browser = client_for(erin)
    browser.get("/accounts/second-factor/", follow=True)
    form = {"password": PASSWORD, "next": "/accounts/second-factor/"}
    page = browser.post("/accounts/again/", form, follow=True).content.decode()
    now = code(secret_on(page))
    page = browser.post("/accounts/second-factor/", {"code": now}, follow=True).content.decode()
    file = re.search(r'download="[^"]+" href="data:text/plain;charset=utf-8,([^"]+)"', page)[1]
    assert all(one in file for one in re.findall(r"<li>(\d{10})</li>", page))


def test_the_picture_has_no_style_of_its_own(erin, client_for):
    browser = client_for(erin)
    browser.get("/accounts/second-factor/", follow=True)
    form = {"password": PASSWORD, "next": "/accounts/second-factor/"}
    page = browser.post("/accounts/again/", form, follow=True).content.decode()
    picture = re.search(r"<svg class=\"qr\".*?</svg>", page, re.DOTALL)[0]
    assert "style" not in picture
    assert picture.count("M") > 200


def test_a_wrong_code_does_not_turn_it_on(erin, client_for):
    browser = client_for(erin)
    browser.get("/accounts/second-factor/", follow=True)
    form = {"password": PASSWORD, "next": "/accounts/second-factor/"}
    page = browser.post("/accounts/again/", form, follow=True)
    wrong = f"{(int(code(secret_on(page.content.decode()))) + 1) % 10**6:06}"
    page = browser.post("/accounts/second-factor/", {"code": wrong}).content.decode()
    assert "Incorrect code" in page
    assert not Authenticator.objects.exists()


def test_a_password_alone_signs_nobody_in(protected, client):
    assert with_password(client)["Location"] == "/accounts/code/"
    assert not signed_in(client)
    assert "login" in client.get("/p/alpha/")["Location"]
    client.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert signed_in(client)
    assert client.get("/p/alpha/").status_code == 200


def test_a_sign_in_link_alone_signs_nobody_in(protected, erin, client):
    link = "/sign-in/" + get_query_string(erin)
    assert client.post(link)["Location"] == "/accounts/code/"
    assert not signed_in(client)
    client.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert signed_in(client)


def test_an_app_code_is_good_for_once(protected, client):
    with_password(client)
    now = code(protected[1], ago=-1)
    assert client.post("/accounts/code/", {"code": now}).status_code == 302
    other = Client()
    with_password(other)
    spaced = f"{now[:3]} {now[3:]}"
    for again in (now, spaced):
        page = other.post("/accounts/code/", {"code": again}).content.decode()
        assert "used already" in page or "Incorrect" in page
    assert not signed_in(other)


def test_a_recovery_code_is_good_for_once(protected, client):
    with_password(client)
    client.post("/accounts/code/", {"code": protected[2][3]})
    assert signed_in(client)
    other = Client()
    with_password(other)
    other.post("/accounts/code/", {"code": protected[2][3]})
    assert not signed_in(other)
    other.post("/accounts/code/", {"code": protected[2][4]})
    assert signed_in(other)


def test_codes_are_not_guessed(protected, client):
    with_password(client)
    for number in range(6):
        page = client.post("/accounts/code/", {"code": f"{number:06}"}).content.decode()
    assert "Too many wrong codes" in page
    client.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert not signed_in(client)
    other = Client(REMOTE_ADDR="203.0.113.7")  # whoever has the password locks nobody out
    with_password(other)
    other.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert signed_in(other)


def test_the_code_page_lets_go_of_who_wants_to_be_somebody_else(protected, client):
    with_password(client)
    assert client.get("/accounts/code/").status_code == 200
    client.post("/accounts/logout/")
    assert client.get("/accounts/code/")["Location"] == "/accounts/login/"


def test_the_session_gets_a_new_key_with_the_code(protected, client):
    with_password(client)
    before = client.session.session_key
    client.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert client.session.session_key != before


def test_turning_it_off_asks_for_the_password_again(protected, erin, client):
    with_password(client)
    client.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert "/accounts/again/" in client.post("/accounts/second-factor/off/")["Location"]
    assert Authenticator.objects.filter(user=erin, type="totp").exists()
    client.post("/accounts/again/", {"password": "wrong", "next": "/accounts/second-factor/off/"})
    assert "/accounts/again/" in client.post("/accounts/second-factor/off/")["Location"]
    client.post("/accounts/again/", {"password": PASSWORD, "next": "/accounts/second-factor/off/"})
    client.post("/accounts/second-factor/off/")
    assert not Authenticator.objects.filter(user=erin).exists()


def test_new_recovery_codes_end_the_old_ones(protected, client):
    browser, _, old = protected
    page = browser.post("/accounts/recovery-codes/new/", follow=True).content.decode()
    new = re.findall(r"<li>(\d{10})</li>", page)
    assert len(new) == 10
    assert not set(new) & set(old)
    with_password(client)
    client.post("/accounts/code/", {"code": old[0]})
    assert not signed_in(client)
    client.post("/accounts/code/", {"code": new[0]})
    assert signed_in(client)


def test_the_database_holds_neither_the_secret_nor_the_codes(protected):
    _, secret, codes = protected
    held = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret.replace(" ", "") not in held
    assert not any(one in held for one in codes)


def test_a_new_secret_key_goes_on_with_the_old_one_listed(protected, client, settings, capsys):
    old, settings.SECRET_KEY = settings.SECRET_KEY, "n" * 64
    with pytest.raises(CommandError, match="SECRET_KEY_FALLBACKS"):
        call_command("reseal")
    settings.SECRET_KEY_FALLBACKS = [old]
    call_command("reseal")
    assert "2 sealed anew" in capsys.readouterr().out
    settings.SECRET_KEY_FALLBACKS = []
    with_password(client)
    client.post("/accounts/code/", {"code": code(protected[1], ago=-1)})
    assert signed_in(client)


@pytest.fixture
def dana_here(dana, client_for):
    dana.set_password(PASSWORD)
    dana.save()
    client = client_for(dana)
    client.post("/accounts/again/", {"password": PASSWORD})
    return client


def address(user: User) -> str:
    return f"/p/alpha/members/{user.pk}/second-factor/"


def test_an_admin_resets_it_with_a_reason_and_every_session_ends(
    protected, erin, dana, dana_here, client
):
    browser = protected[0]
    assert browser.get("/accounts/security/").status_code == 200
    assert dana_here.post(address(erin), {"reason": ""}).status_code == 422
    dana_here.post(address(erin), {"reason": "she lost her phone, I called her"})
    assert not Authenticator.objects.filter(user=erin).exists()
    row = SecondFactorReset.objects.get()
    assert (row.user, row.by, row.reason) == (erin, dana, "she lost her phone, I called her")
    assert browser.get("/accounts/security/").status_code == 302
    with_password(client)
    assert signed_in(client)
    assert "I called her" in client.get("/accounts/security/").content.decode()


def test_resetting_somebodys_asks_for_the_admins_own_password(protected, erin, dana, client_for):
    dana.set_password(PASSWORD)
    dana.save()
    answer = client_for(dana).post(address(erin), {"reason": "because I say so"})
    assert "/accounts/again/" in answer["Location"]
    assert Authenticator.objects.filter(user=erin).exists()


def test_whose_other_projects_are_not_ones_own_is_not_ones_to_reset(protected, erin, dana_here):
    other = Project.objects.create(name="Gamma", slug="gamma")
    Membership.objects.create(project=other, user=erin, role="annotator")
    assert dana_here.post(address(erin), {"reason": "because I say so"}).status_code == 403
    assert Authenticator.objects.filter(user=erin).exists()


def test_nobody_resets_their_own_this_way(dana, dana_here):
    turn_on(dana_here)
    assert dana_here.post(address(dana), {"reason": "because I say so"}).status_code == 403
    assert Authenticator.objects.filter(user=dana).exists()


def test_members_of_other_projects_are_not_there(charlie, dana_here):
    assert dana_here.post(address(charlie), {"reason": "because I say so"}).status_code == 404


def test_the_list_of_members_leads_there(protected, erin, bob, dana_here):
    page = dana_here.get("/p/alpha/members/").content.decode()
    assert address(erin) in page
    assert address(bob) not in page


def test_the_command_line_helps_the_last_admin(protected, erin, client):
    call_command("reset_second_factor", "erin", reason="the phone fell into the sea")
    assert SecondFactorReset.objects.get().by is None
    with_password(client)
    assert signed_in(client)
    with pytest.raises(CommandError, match="has no second factor"):
        call_command("reset_second_factor", "erin", reason="again")
    with pytest.raises(CommandError, match="Nobody"):
        call_command("reset_second_factor", "nobody", reason="why not")


def test_admins_are_led_to_it_where_the_site_asks_for_it(dana, erin, client_for, settings):
    settings.SECOND_FACTOR = "admins"
    browser = client_for(dana)
    for path in ("/p/alpha/", "/p/alpha/members/", "/p/alpha/keys/"):
        assert browser.get(path)["Location"] == "/accounts/security/"
    assert browser.post("/p/alpha/members/invite/", {"role": "admin"}).status_code == 302
    assert "need a second factor" in browser.get("/accounts/security/").content.decode()
    turn_on(browser)
    assert browser.get("/p/alpha/members/").status_code == 200
    assert client_for(erin).get("/p/alpha/").status_code == 200  # an annotator


def test_so_are_the_sites_staff(db, client_for, settings):
    settings.SECOND_FACTOR = "admins"
    staff = User.objects.create_superuser("root", password=PASSWORD)
    assert client_for(staff).get("/")["Location"] == "/accounts/security/"


def test_everybody_is_where_the_site_asks_everybody(erin, client_for, settings):
    settings.SECOND_FACTOR = "everyone"
    assert client_for(erin).get("/p/alpha/")["Location"] == "/accounts/security/"
