"""Reading answers: differences, raw text, formulas, warnings."""

from __future__ import annotations

import pytest

from tests.browser.test_labelling import begin, say
from tests.comparisons import compare, open_campaign

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

RICH = """A **plumb line** hangs straight. Its period is

$$T = 2\\pi\\sqrt{\\frac{\\ell}{g}}$$

```python
def period(length, g=9.81):
    return 2 * pi * sqrt(length / g)  # seconds
```

| Length | Period |
|---|---|
| 1 m | 2.01 s |
"""
ARABIC = "خط الشاقول مستقيم لأن الجاذبية تسحبه إلى الأسفل."


def rich(project, *texts: str, ask: str = "Why does it hang straight?", **settings):
    campaign = open_campaign(project, comparisons=1, answers=len(texts), **settings)
    prompts = campaign.comparisons.get().prompt.set
    compare(campaign, prompts, ask, texts, priority=1)
    return campaign


def test_differences_raw_text_and_scrolling_are_a_key_away(site, browse, project, bob):
    campaign = rich(project, "It swings in two seconds.", "It swings in three seconds.")
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("d")
    page.locator(".diff mark").first.wait_for()
    assert sorted(page.locator(".diff mark").all_inner_texts()) == ["three", "two"]
    page.keyboard.press("r")
    assert page.locator(".raw:visible").count() == 2
    assert page.locator(".diff:visible").count() == 0
    page.keyboard.press("y")
    assert "together" in page.locator(".panes").get_attribute("class")
    page.keyboard.press("y")
    page.keyboard.press("r")
    assert page.locator(".rendered:visible").count() == 2


def test_answers_scroll_together_in_proportion(site, browse, project, bob):
    campaign = rich(project, "Short lines.\n\n" * 40, "Longer lines.\n\n" * 80)
    page = browse(bob)
    begin(page, campaign)
    page.keyboard.press("y")
    page.evaluate("document.querySelector('.pane-text').scrollTop = 1e6")
    page.wait_for_function(
        """() => { const b = document.querySelectorAll(".pane-text")[1];
        return b.scrollTop > 0 && b.scrollHeight - b.clientHeight - b.scrollTop < 2; }"""
    )


def test_formulas_code_and_right_to_left_text_are_drawn(site, browse, project, bob):
    campaign = rich(project, RICH, ARABIC)
    page = browse(bob)
    begin(page, campaign)
    assert page.locator(".prose math msqrt").count() == 1
    colours = "(one) => getComputedStyle(one).color"
    word = page.locator(".prose pre .k").first.evaluate(colours)
    assert word != page.locator(".prose pre").first.evaluate(colours)
    text = page.get_by_text(ARABIC).and_(page.locator("p"))
    right = text.evaluate(
        """(one) => { const words = document.createRange(); words.selectNodeContents(one);
        return one.getBoundingClientRect().right - words.getBoundingClientRect().right; }"""
    )
    assert right < 2


@pytest.mark.parametrize("scripts", [True, False])
def test_a_content_warning_blurs_until_it_is_lifted(site, browse, project, bob, scripts):
    campaign = open_campaign(project, comparisons=2, warning="Some texts speak of violence.")
    page = browse(bob, java_script_enabled=scripts)
    begin(page, campaign)
    blur = "getComputedStyle(document.querySelector('.rendered')).filter"
    if scripts:
        assert page.evaluate(blur) == "blur(9px)"
    page.get_by_text("Show the texts").click()
    assert page.locator("[data-warning][open]").count() == 1
    if scripts:
        assert page.evaluate(blur) == "none"
        say(page, "a", "Enter")
        assert page.evaluate(blur) == "none", "asked once, shown for as long as the tab is open"
