"""The health page in a browser: everything well, a part that goes down while somebody looks, and
what `verify` found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from plumbline.fleet import presence
from plumbline.operations import signs
from plumbline.operations.models import Verification
from tests.fleet.house import redis  # noqa: F401  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
URL = "/p/alpha/health/"
SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]
POLL = 40_000  # the page asks every 15 s


@pytest.fixture(scope="module", autouse=True)
def _engine_of_the_pages(_engine: Any) -> Iterator[None]:
    """The server of these pages asks a real engine."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ENGINE_URL", _engine.url)
    yield
    patch.undo()


@pytest.fixture
def well(redis, site):  # noqa: F811
    """Redis, a loop and a worker are there, and everything was compared a moment ago."""
    signs.Watch().look()
    presence.report("w1", ["cpu", "gpu"], None)
    verified()
    return redis


def verified(*findings: dict[str, str]) -> None:
    Verification.objects.create(
        started_at=timezone.now(),
        seconds=1.0,
        quick=False,
        checked={"weights": 3, "votes": 9},
        findings=list(findings),
    )


def state(page: Any, name: str) -> str:
    """What stands by a service."""
    row = page.locator("tr").filter(has=page.get_by_role("rowheader", name=name, exact=True))
    return str(row.locator(".badge").inner_text())


def fits(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_where_everything_is_well_it_says_so(width, dark, well, browse, dana, faults):
    page = browse(dana, width=width, dark=dark)
    page.goto(URL)
    for name in ("Database", "Migrations", "Redis", "Loop", "Workers", "Wishes"):
        assert state(page, name) == "fine", name
    assert "are wrong" not in page.locator("#health").inner_text()
    assert "nothing found" in page.locator("#health").inner_text()
    page.get_by_role("rowheader", name="Engine", exact=True).wait_for()
    assert state(page, "Engine") == "fine"
    assert faults(page) == []
    assert fits(page)


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_a_part_that_goes_down_is_shown_without_a_reload(width, dark, well, browse, dana, faults):
    page = browse(dana, width=width, dark=dark)
    page.goto(URL)
    assert state(page, "Redis") == "fine"
    well.kill()
    page.get_by_text("1 of these is wrong").wait_for(timeout=POLL)
    assert state(page, "Redis") == "wrong"
    assert "Nothing is lost" in page.locator("#health").inner_text()
    assert "Start it, or correct REDIS_URL." in page.locator("#health").inner_text()
    assert faults(page) == []
    assert fits(page)
    well.start()
    page.get_by_text("1 of these is wrong").wait_for(state="detached", timeout=POLL)
    assert state(page, "Redis") == "fine"


def test_what_verify_found_is_read_by_keyboard_and_screen_reader(well, browse, dana, faults):
    sentence = "The policy p is away."
    verified({"check": "weights", "about": "p", "sentence": sentence, "remedy": "Look there."})
    page = browse(dana, width=390)
    page.goto(URL)
    assert sentence in page.locator("#health").inner_text()
    assert page.locator("#health [role=status]").count() == 1
    assert faults(page) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-link"
