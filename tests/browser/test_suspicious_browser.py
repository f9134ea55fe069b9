"""The panel of suspicions in a real Chromium: it fits every screen, and one click excludes."""

from __future__ import annotations

import pytest

from plumbline.collect.models import Enrolment
from tests.browser.test_quality_browser import SCREENS, fits
from tests.collect.poisoned import crowd
from tests.collect.test_suspicious_panel import stored

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_who_is_suspected_is_seen_on_every_screen_and_excluded_by_a_click(browse, project, alice):
    campaign, _ = stored(project, crowd(2, trigger=0.1, comparisons=220, people=12))
    path = f"/p/alpha/campaigns/{campaign.pk}/quality/"
    for width, dark in SCREENS:
        page = browse(alice, width=width, dark=dark)
        page.goto(path)
        panel = page.locator("#suspicious")
        panel.get_by_text("Prefers answers with").first.wait_for()
        assert fits(page)
        assert panel.locator("svg[role=img]").count() >= 2
        page.close()
    page = browse(alice)
    page.goto(path)
    page.get_by_role("button", name="Exclude person-").first.click()
    page.get_by_text("is excluded;").wait_for()
    place = Enrolment.objects.get(excluded_at__isnull=False)
    assert place.user.username in ("person-101", "person-102", "person-103")
    assert place.pause_reason.startswith("Suspected of poisoning: ")
