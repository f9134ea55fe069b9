"""Rounds, policies and reward models beside each other, in a real Chromium on every screen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plumbline.loop.models import Round, SavedView
from tests.browser.test_browser_reward_model import SPILLING, everything
from tests.lab import contest
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PICTURES = os.environ.get("PICTURES")  # a folder for screenshots, for those who want to look
ACROSS = [(1280, False), (390, True)]
# Words of a picture that leave it; they are placed by their own lines, which SPILLING cannot tell.
OUTSIDE = """() => [...document.querySelectorAll(".panel svg")].flatMap((picture) => {
    const frame = picture.getBoundingClientRect();
    return [...picture.querySelectorAll("text")].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1
            || box.bottom > frame.bottom + 1;
    }).map((one) => one.textContent);
})"""


def look(page, name: str, width: int, faults) -> None:
    """Nothing is wider than the screen, and axe finds nothing serious."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    spilling = [one for one in page.evaluate(SPILLING) if not one.startswith("<text")]
    assert spilling == [], name
    assert faults(page) == [], name


@pytest.mark.parametrize(("width", "dark"), ACROSS)
def test_policies_are_compared_on_every_screen(browse, project, alice, faults, width, dark):
    base, made, model = contest.ladder(project, rungs=6)
    for prompt in base.completions.first().prompt.set.prompts.filter(split="heldout"):
        contest.score(contest.answer(prompt, base, f"Other {prompt.pk}"), model, 1.0)
    page = browse(alice, width=width, dark=dark)
    page.goto("/p/alpha/lab/compare/")
    assert page.locator(".panel svg").count() == 4
    assert page.evaluate(OUTSIDE) == []
    look(page, "compare", width, faults)
    page.get_by_label("Judged by").select_option("reward")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("heading", name="Ratings by reward models").wait_for()
    page.goto(f"/p/alpha/lab/reward-models/{model.pk}/disputes/")
    look(page, "disputes", width, faults)


@pytest.mark.parametrize(("width", "dark"), ACROSS)
def test_rounds_are_searched_pinned_kept_and_told_apart(
    browse, project, alice, faults, width, dark
):
    base = lab.policy(project)
    for number, name in enumerate(("Warmer answers", "Colder answers")):
        lab.finished_round(
            lab.experiment(project, name=name, start=base, knobs={"beta": 0.1 + number}), steps=2
        )
    page = browse(alice, width=width, dark=dark)
    page.goto("/p/alpha/lab/rounds/")
    page.get_by_role("searchbox", name="Search").fill("beta>0.5")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("heading", name="1 of 2 rounds").wait_for()
    page.get_by_label("Name", exact=True).fill("Strong pull")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The view Strong pull is saved.").wait_for()
    assert SavedView.objects.get().query.startswith("q=beta")
    page.goto("/p/alpha/lab/rounds/")
    page.get_by_label("Pin Warmer answers, 1 as the baseline").click()
    page.get_by_text("Deltas are against").wait_for()
    look(page, "rounds", width, faults)
    for one in Round.objects.all():
        page.locator(f"input[name=round][value='{one.pk}']").check()
    page.get_by_role("button", name="Compare settings of the chosen").click()
    page.get_by_role("heading", name="Settings that differ").wait_for()
    assert page.get_by_role("row", name="knobs.beta").is_visible()
    look(page, "differences", width, faults)


@pytest.mark.parametrize(("width", "dark"), ACROSS)
def test_reward_models_stand_in_a_list(browse, project, alice, faults, width, dark):
    last = contest.reward_model(project, "alpha-warmer-answers-r1-reward-77aa01bc")
    contest.reward_model(
        project, "alpha-an-experiment-with-a-rather-long-name-r2-reward-5b1e0c55",
        metrics=everything(last), temperature=1.83,
    )  # fmt: skip
    page = browse(alice, width=width, dark=dark)
    page.goto("/p/alpha/lab/reward-models/")
    look(page, "reward-models", width, faults)
