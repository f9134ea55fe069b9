"""Blending policies by slider and keyboard, and looking at what came of it."""

from __future__ import annotations

import pytest

from plumbline.loop import blending
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_blend_by_keyboard(site, browse, project, dana, tmp_path):
    lab.adapters(project, tmp_path)
    lab.prompt_set(project)
    for width, dark in ((1280, False), (390, True)):
        page = browse(dana, width=width, dark=dark)
        page.goto("/p/alpha/lab/blends/new/")
        page.get_by_label("Name", exact=True).fill("Warm and brief")
        page.get_by_label("Policy 1", exact=True).select_option(label="alpha-0")
        page.get_by_label("Policy 2", exact=True).select_option(label="alpha-1")
        page.get_by_label("Steps between").fill("0")
        slider = page.get_by_role("slider", name="Share of policy 1")
        slider.focus()
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        page.locator("#preview").get_by_text("55% : 45%").wait_for()
        assert slider.get_attribute("aria-valuetext") == "55 %"
        page.get_by_label("Method").select_option("vector")
        page.locator("#preview").get_by_text("Task arithmetic takes three").wait_for()
        assert not slider.is_visible()
        assert page.get_by_label("How much is added").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_picture_is_read_without_seeing_it(site, browse, project, dana, tmp_path, faults):
    models = lab.reward_models(project, "helpful", "brief")
    one, other, _ = lab.adapters(project, tmp_path)
    found = blending.points("soup", [one, other], [[1, 0], [1, 1], [0, 1]], 0.0)
    blend = blending.launch(
        project, None, name="Between", method="soup", found=found, judge=models[0],
        prompt_set=lab.prompt_set(project), objectives=models,
    )  # fmt: skip
    blend.rounds.all().delete()
    for number, scores in enumerate([(1.0, 3.0), (2.0, 2.0), (1.5, 1.0)], 1):
        lab.measured_point(blend, number, models, [scores, (0.0, 0.0)])
    for width, dark in ((1280, False), (390, True)):
        page = browse(dana, width=width, dark=dark)
        page.goto(f"/p/alpha/lab/experiments/{blend.pk}/")
        page.get_by_role("group", name="Mean score of helpful across and brief up").wait_for()
        assert page.locator("#blend tbody tr").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not faults(page)
