"""Factors are ordered in a real browser, with the keyboard and without a script; nothing serious
for axe on these pages, nor on a reward model's that tells who has which taste."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plumbline.accounts.models import User
from plumbline.fleet.models import Job
from plumbline.judges.models import Judge
from tests.comparisons import compare, open_campaign
from tests.lab import laboratory as lab
from tests.lab.test_reward_tastes import told

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HIERARCHY = "/p/alpha/lab/judges/hierarchy/"
SCREENS = [(1280, False), (390, True)]
FOUND = {
    "weights": {"words": -0.84, "list_items": 0.41},
    "scales": {"words": 30.0, "list_items": 2.0},
    "intervals": {"words": [-1.2, -0.5], "list_items": [0.0, 0.9]},
    "fitted_on": 160,
    "heldout": 41,
    "accuracy": 0.88,
    "accuracy_low": 0.79,
    "accuracy_high": 0.95,
}


def answers(project) -> None:
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    for n in range(12):
        compare(campaign, prompts, f"Question {n}?", ["- a\n" * (n % 3), "word " * (3 + n)])


def add(page, words: str) -> None:
    page.get_by_label("Factor", exact=True).select_option(label=words)
    page.get_by_role("button", name="Add below").click()


def test_factors_are_ordered_with_the_keyboard(site, browse, project, alice, faults):
    answers(project)
    page = browse(alice)
    page.goto(HIERARCHY)
    for words in ("Words", "List items", "Reading ease"):
        add(page, words)
    up = page.get_by_role("button", name="Move Reading ease up")
    up.focus()
    page.keyboard.press("Enter")
    page.get_by_text("Tried on").wait_for()
    up = page.get_by_role("button", name="Move Reading ease up")
    assert up.evaluate("one => one === document.activeElement")  # one can go on pressing
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('input[name=factor]').value == 'reading_ease'"
    )
    page.get_by_label("Name").fill("Easy first")
    page.get_by_role("button", name="Make the judge").click()
    page.get_by_text("Easy first can judge now.").wait_for()
    knobs = Judge.objects.get().versions.get().settings["knobs"]
    assert [one["factor"] for one in knobs["levels"]] == ["reading_ease", "words", "list_items"]


def test_axe_finds_nothing_serious_on_pages_of_factors(site, browse, project, alice, faults):
    answers(project)
    raters = [User.objects.create_user(username=name) for name in ("ada", "ben", "cleo")]
    (model,) = lab.reward_models(project, "alpha-e1-r3-reward")
    shares = ([0.97, 0.03], [0.91, 0.09], [0.06, 0.94])
    figures = told({one.pk: row for one, row in zip(raters, shares, strict=True)}, differ=True)
    model.metrics = figures
    model.save()
    Job.objects.create(
        project=project, kind="fit", queue="cpu", title="Weigh 2 factors by 201 compared pairs",
        spec={"kind": "fit", "signs": {"words": 0, "list_items": 1}}, state=Job.State.SUCCEEDED,
        result=FOUND,
    )  # fmt: skip
    for width, dark in SCREENS:
        page = browse(alice, width=width, dark=dark)
        page.goto(HIERARCHY)
        add(page, "Words")
        add(page, "List items")
        look(page, faults, f"hierarchy-{width}")
        for name, address in (
            ("weights", "/p/alpha/lab/judges/weights/"),
            ("relevance", "/p/alpha/lab/judges/relevance/"),
            ("confidence", "/p/alpha/lab/judges/confidence/"),
            ("pool", "/p/alpha/lab/judges/pool/"),
            ("tastes", f"/p/alpha/lab/reward-models/{model.pk}/"),
        ):
            page.goto(address)
            look(page, faults, f"{name}-{width}")
        page.context.close()


def look(page, faults, name: str) -> None:
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    assert faults(page) == [], name
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
