"""What a gate found, on the round's page in a real Chromium: tables, examples, both widths."""

from __future__ import annotations

import pytest

from plumbline.loop import gates, hacking, probing
from tests.browser.test_accessibility import ACROSS
from tests.browser.test_browser_lab import address
from tests.lab import laboratory as lab
from tests.loop.test_probes import PROBED

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MARK = {"value": 0.1, "low": 0.01, "high": 0.2, "mark": "cut off", "broken": True,
        "mine": 0.15, "theirs": 0.05}  # fmt: skip
DRIFT = {
    "prompts": 80,
    "length": {"value": 1.6, "low": 1.41, "high": 1.85},
    "equal": {"raw": 0.72, "rate": 0.49, "low": 0.3, "high": 0.68, "slope": 4.2, "pairs": 80,
              "explained": 1.0},
    "marks": [MARK, {**MARK, "mark": "with list items", "broken": False}],
    "apart": {"value": 0.4, "low": 0.25, "high": 0.55, "first": "an AI judge", "second": "people",
              "prompts": 40, "mine": 0.9, "theirs": 0.5},
}  # fmt: skip


def test_what_a_gate_found_is_read_at_both_widths(browse, project, alice, faults):
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"), steps=5)
    made.figures = {"drift": DRIFT, "probes": PROBED}
    found = [*hacking.checks(made, low=0.62), *probing.checks(made)]
    made.gate = gates.record(found)
    made.save()
    for width, dark in ACROSS:
        page = browse(alice, width=width, dark=dark)
        page.goto(address(made))
        page.locator("#round-probes summary").first.wait_for()
        assert "Were answers as long as current's, 49.0% would win" in page.inner_text(".gate")
        assert "Answers cut off" in page.inner_text("#round-hacking")
        assert "Look it up next time." in page.inner_text("#round-probes"), "an alarm is open"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert faults(page) == []
        page.context.close()
