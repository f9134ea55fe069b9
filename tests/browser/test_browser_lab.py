"""The researcher's pages in a real Chromium: curves under the strict CSP, live, light and dark."""

from __future__ import annotations

import pytest

from plumbline.loop.models import Round, Stage
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Charts whose canvas has something drawn on it.
INKED = """() => [...document.querySelectorAll(".plot canvas")].filter((canvas) => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, at) => at % 4 === 3 && value > 0);
}).length"""


def address(round: Round) -> str:
    return f"/p/alpha/lab/experiments/{round.experiment_id}/rounds/{round.number}/"


def test_two_thousand_steps_are_drawn_on_every_screen_without_a_csp_violation(
    browse, project, alice
):
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"), steps=2000)
    for width in (1280, 390):
        for dark in (False, True):
            page = browse(alice, width=width, dark=dark)
            page.goto(address(made))
            page.wait_for_selector(".plot canvas")
            assert page.locator("figure.chart").count() == page.evaluate(INKED) == 6
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_running_round_draws_what_arrives_and_moves_on_without_a_reload(browse, project, alice):
    made = lab.round_at(lab.experiment(project), Stage.TRAIN)
    page = browse(alice)
    page.goto(address(made))
    page.get_by_text("Curves appear with the first training step.").wait_for()
    progress = {"done": 10, "total": 40, "unit": "steps", "rate": 1.0, "left": 30.0}
    job = lab.train_job(made, "running", progress=progress)
    lab.log_training(job, 10)
    page.wait_for_selector(".plot canvas")
    page.get_by_text("10 of 40 steps · about 30 s left").wait_for()
    Round.objects.filter(pk=made.pk).update(stage=Stage.EVALUATE)
    page.locator("#round-head .badge", has_text="Evaluate").wait_for()


def test_a_link_keeps_the_focus_while_the_page_is_polled(browse, project, alice):
    made = lab.round_at(lab.experiment(project), Stage.TRAIN)
    lab.train_job(made, "running")
    page = browse(alice)
    page.goto(address(made))
    page.get_by_role("link", name="Train policy").focus()
    with page.expect_response(lambda answer: "seen=train" in answer.url):
        pass
    page.wait_for_timeout(200)
    assert page.evaluate("document.activeElement.textContent") == "Train policy"


def test_nothing_is_polled_once_the_round_is_over(browse, project, alice):
    made = lab.round_at(lab.experiment(project), Stage.TRAIN)
    page = browse(alice)
    page.goto(address(made))
    page.wait_for_load_state("networkidle")
    Round.objects.filter(pk=made.pk).update(stage=Stage.DONE)
    page.locator("#round-head .badge", has_text="Done").wait_for()
    page.wait_for_timeout(2500)  # the curves' own poll learns of it, too
    asked = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.wait_for_timeout(4500)
    assert asked == []


def test_a_promotion_asks_why_and_says_when_the_engine_is_away(browse, project, alice):
    made = lab.finished_round(lab.experiment(project), steps=1)
    page = browse(alice)
    page.goto(address(made))
    page.get_by_role("button", name="Promote", exact=True).click()
    page.get_by_role("textbox", name="Reason").fill("Better on held-out prompts")
    page.get_by_role("button", name="Promote to current").click()
    page.get_by_text("Not promoted:").wait_for()
    assert page.url.endswith(address(made))


def test_switching_the_algorithm_keeps_what_was_typed(browse, project, alice):
    lab.prompt_set(project)
    page = browse(alice)
    page.goto("/p/alpha/lab/experiments/new/")
    page.get_by_label("Name").fill("Warmer answers")
    with page.expect_response(lambda answer: "algorithm=dpo" in answer.url):
        page.locator("#id_algorithm").dispatch_event("change")
    assert page.get_by_label("Name").input_value() == "Warmer answers"
    assert page.get_by_label("Beta").input_value() == "0.1"


def test_enter_in_a_field_launches_and_fills_in_no_preset(browse, project, alice):
    page = browse(alice)
    page.goto("/p/alpha/lab/experiments/new/")
    page.fill("[name=name]", "Warmer answers")
    with page.expect_request(lambda asked: asked.is_navigation_request()) as sent:
        page.route("**/new/**", lambda route: route.fulfill(body="received"))
        page.press("[name=name]", "Enter")
    page.get_by_text("received").wait_for()
    assert sent.value.method == "POST"
    assert "name=Warmer+answers" in sent.value.post_data
    assert "preset=" not in sent.value.post_data
