"""The second factor as a person meets it: set up, come in with it, and turn it off, by keyboard."""

from __future__ import annotations

import pytest

from plumbline.accounts.models import Membership, User
from tests.security.totp import PASSWORD, code

pytestmark = pytest.mark.browser
SCREENS = [(1280, False), (390, True)]


@pytest.fixture
def erin(project):
    user = User.objects.create_user("erin", password=PASSWORD)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def send(page, text: str, field: str = "#id_code") -> None:
    """Type into the field, once it has the focus, and press Enter."""
    page.locator(f"{field}:focus").fill(text)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def send_password(page) -> None:
    send(page, PASSWORD, "#id_password")


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_from_off_to_on_to_a_sign_in_to_off_again(
    width, dark, site, browse, erin, faults, tmp_path
):
    def look(page) -> None:
        assert faults(page) == [], page.url
        assert fits(page), page.url

    page = browse(erin, width=width, dark=dark)
    page.goto("/accounts/security/")
    look(page)
    page.get_by_role("link", name="Turn it on").click()
    page.locator("#id_password").wait_for()
    look(page)
    send_password(page)
    look(page)
    assert page.locator("svg.qr").bounding_box()["width"] > 200
    secret = page.locator("#totp-secret").inner_text()
    send(page, code(secret))
    look(page)
    codes = page.locator("#codes li").all_inner_texts()
    assert len(codes) == 10
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "codes.txt")
    assert set(codes) < set((tmp_path / "codes.txt").read_text().splitlines())

    page = browse(None, width=width, dark=dark)
    page.goto("/accounts/login/")
    page.locator("#id_login:focus").fill("erin")
    page.keyboard.press("Tab")
    send_password(page)
    look(page)
    assert "Your code" in page.title(), page.locator("main").inner_text()
    send(page, "000000")
    look(page)
    send(page, codes[0])
    page.wait_for_url("**/p/alpha/")
    page.goto("/accounts/security/")
    assert "9 recovery codes left" in page.locator("main").inner_text()
    look(page)
    page.get_by_role("link", name="New recovery codes").click()
    send_password(page)
    look(page)
    page.goto("/accounts/security/")
    page.get_by_role("link", name="Turn it off").click()
    page.get_by_role("heading", name="Turn off the second factor?").wait_for()
    look(page)
    page.get_by_role("button", name="Turn it off").click()
    page.get_by_role("link", name="Turn it on").wait_for()


def test_an_admin_resets_it_for_who_lost_the_phone(site, browse, erin, dana, faults, client_for):
    from tests.security.totp import turn_on

    turn_on(client_for(erin))
    dana.set_password(PASSWORD)
    dana.save()
    page = browse(dana, width=390)
    page.goto("/p/alpha/members/")
    page.get_by_role("link", name="Reset second factor of erin").click()
    send_password(page)
    assert faults(page) == []
    assert fits(page)
    page.get_by_label("Reason").fill("she lost her phone, I called her")
    page.get_by_role("button", name="Reset it").click()
    page.get_by_text("erin signs in without a second factor now").wait_for()
    assert faults(page) == []
