"""A person asks to be forgotten and thinks better of it, by keyboard; an admin carries it out."""

from __future__ import annotations

import json

import pytest

from plumbline.accounts.models import User
from plumbline.operations import farewells
from plumbline.operations.models import Farewell
from tests.security.totp import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SCREENS = [(1280, False), (390, True)]


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_a_wish_is_made_and_withdrawn_by_keyboard(
    width, dark, site, browse, bob, dana, faults, tmp_path
):
    def look() -> None:
        assert faults(page) == [], page.url
        assert fits(page), page.url

    page = browse(bob, width=width, dark=dark)
    page.goto("/")
    page.locator("details.menu summary").click()
    page.get_by_role("link", name="Your data").click()
    look()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download a copy").click()
    download.value.save_as(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text())["account"]["username"] == "bob"
    page.get_by_role("link", name="Ask to be forgotten").press("Enter")
    look()
    page.get_by_label("Type bob to confirm").fill("bop")
    page.keyboard.press("Enter")
    page.wait_for_selector(".errorlist")
    look()
    page.get_by_label("Take my votes").press("Space")
    page.get_by_label("Type bob to confirm").fill("bob")
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/data/")
    look()
    assert "your votes leave all training" in page.locator("main").inner_text()
    page.get_by_role("button", name="Withdraw it").press("Enter")
    page.get_by_text("Everything stays as it is").wait_for()
    assert Farewell.objects.get().withdrawn_at is not None
    browse.troubles[:] = [one for one in browse.troubles if "422" not in one]  # the wrong name


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_an_admin_carries_it_out(width, dark, site, browse, bob, dana, faults):
    farewells.ask(bob)
    dana.set_password(PASSWORD)
    dana.save()
    page = browse(dana, width=width, dark=dark)
    page.goto("/p/alpha/members/")
    page.get_by_role("link", name="To be forgotten").click()
    page.get_by_role("link", name="Carry out for bob").wait_for()
    assert faults(page) == []
    assert fits(page)
    page.get_by_role("link", name="Carry out for bob").press("Enter")
    page.locator("#id_password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_label("Reason").fill("They asked")
    page.get_by_label("Type bob to confirm").fill("bob")
    assert faults(page) == []
    assert fits(page)
    page.keyboard.press("Enter")
    page.get_by_text("Nobody asks for it").wait_for()
    assert User.objects.get(pk=bob.pk).username == f"forgotten-{bob.pk}"
