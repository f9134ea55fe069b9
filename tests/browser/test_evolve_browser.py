"""Sessions of reward programs in a real browser: nothing serious for axe, nothing too wide, and the
whole set-up by keyboard."""

from __future__ import annotations

import pytest

from plumbline.evolve.models import Evolution, Program
from tests.evolve import laboratory
from tests.evolve.conftest import evolution_of, policy, prompt_set, rater  # noqa: F401  # fixtures

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
HOME = "/p/alpha/evolve/"


def test_axe_finds_nothing_serious_and_nothing_is_too_wide(
    site, browse, evolution_of, rater, dana, faults  # noqa: F811
):  # fmt: skip
    evolution = evolution_of()
    laboratory.ranked(evolution, rater)
    evolution.generations.update(stage="rank")
    one, other = Program.objects.filter(status__in=("good", "bad"))[:2]
    here = f"{HOME}{evolution.pk}/"
    addresses = [
        *(HOME, f"{HOME}new/", here, f"{here}lineage/", f"{here}generations/1/"),
        *(f"{here}compare/?a={one.pk}&b={other.pk}", f"{here}programs/{one.pk}/"),
    ]
    found = {}
    for width, dark in ((1280, False), (390, True)):
        page = browse(dana, width=width, dark=dark)
        for address in addresses:
            assert page.goto(address).status == 200, address
            if wrong := faults(page):
                found[address, width] = wrong
            if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
                found[address, width, "wide"] = True
        page.context.close()
    assert not found


def test_a_session_is_set_up_by_keyboard(site, browse, prompt_set, policy, dana):  # noqa: F811
    page = browse(dana)
    page.goto(HOME)
    page.get_by_role("link", name="New session").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name").focus()
    page.keyboard.type("Calm answers")
    page.get_by_label("Hidden prompts").fill("5")
    page.get_by_label("Fresh prompts").fill("0")
    page.get_by_label("Prompts ranked").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".errorlist")
    assert "nothing else to go by" in page.locator(".errorlist.nonfield").inner_text()
    page.get_by_label("What is wanted").fill("Calm ones.")
    page.get_by_role("button", name="Begin").press("Enter")
    page.wait_for_selector("text=Calm answers is under way")
    assert Evolution.objects.get().name == "Calm answers"
    browse.troubles[:] = [one for one in browse.troubles if "422" not in one]  # as it should be
