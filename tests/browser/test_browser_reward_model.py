"""A reward model's page in a real Chromium: what it answers, on wide and narrow screens, light and
dark; with everything measured, with nothing to measure by, and from before models were measured.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plumbline.loop.models import Round, Stage
from plumbline.policies.models import RewardModel
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PICTURES = os.environ.get("PICTURES")  # a folder for screenshots, for those who want to look
SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]

# Elements whose content is wider than they are and that do not scroll.
SPILLING = """() => [...document.querySelectorAll("main *")].filter((one) =>
    !one.closest("thead") && one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
    && getComputedStyle(one).overflowX === "visible"
    && getComputedStyle(one).display !== "inline").map((one) => one.outerHTML.slice(0, 120))"""
# The curve's words that leave the picture or lie on each other.
CROSSING = """() => { const box = (one) => one.getBoundingClientRect();
    const frame = box(document.querySelector(".reliability"));
    const words = [...document.querySelectorAll(".reliability text")].map(box);
    return words.some((one) => one.left < frame.left - 1 || one.right > frame.right + 1
        || one.bottom > frame.bottom + 1)
      || words.some((a, i) => words.some((b, j) => j > i && a.left < b.right && b.left < a.right
        && a.top < b.bottom && b.top < a.bottom)); }"""


def interval(value: float, low: float | None, high: float | None, prompts: int = 61) -> dict:
    return {"value": value, "low": low, "high": high, "prompts": prompts}


def slice_of(name: str, votes: float, accuracy: float, half: float) -> dict:
    return {
        "name": name,
        "votes": votes,
        "accuracy": interval(accuracy, accuracy - half, accuracy + half),
        "log_loss": interval(0.583, 0.541, 0.62),
        "ece": 0.041,
    }


def held_back() -> dict:
    """What the gate says of a model that leans more on length."""
    return {
        "passed": False,
        "checks": [
            {"name": "held-out accuracy", "passed": True, "values": {},
             "evidence": "On people's held-out votes accuracy changes by +2.1 points (95% "
             "interval -0.8 to +5.0, 61 prompts); a drop must not be certain."},
            {"name": "calibration", "passed": True, "values": {},
             "evidence": "The calibration error (ECE) on people's held-out votes changes by "
             "+0.4 points (95% interval -2.0 to +3.0, 61 prompts); a rise must not be "
             "certain."},
            {"name": "length correlation", "passed": False, "values": {},
             "evidence": "The correlation of score and length within prompts changes by +0.03 "
             "(95% interval +0.01 to +0.05, 300 prompts); a rise must not be certain."},
        ],
    }  # fmt: skip


def everything(previous: RewardModel) -> dict:
    row = {"votes": "inside", "title": "In distribution: held-out votes of earlier rounds"}
    far = {"votes": "outside", "title": "Out of distribution: newest votes, before they trained"}
    sure = interval(0.71, 0.64, 0.78)
    less = interval(-0.052, -0.11, 0.004)
    on_policy = slice_of("", 512, 0.67, 0.04)
    return {
        "trained_on": 1180,
        "heldout": 260,
        "measured": {
            "slices": [
                slice_of("people", 260, 0.72, 0.05),
                slice_of("test", 130, 0.7, 0.07),
                slice_of("prompts", 66, 0.76, 0.1),
                slice_of("fresh", 48, 0.69, 0.13),
                {**slice_of("shorter", 90, 0.48, 0.1), "log_loss": interval(0.7, None, None, 1)},
                slice_of("artificial", 400, 0.81, 0.03),
            ],
            "reliability": [
                {"confidence": c, "share": c + d, "weight": w}
                for c, d, w in [(0.53, 0.02, 71), (0.61, -0.04, 80), (0.7, 0.03, 60),
                                (0.78, 0.01, 30), (0.86, 0.06, 15), (0.93, -0.2, 4)]
            ],
            "reliability_raw": [
                {"confidence": c, "share": s, "weight": 50}
                for c, s in [(0.54, 0.52), (0.66, 0.58), (0.8, 0.68), (0.97, 0.8)]
            ],
            "temperature": 1.83, "ece": 0.031, "ece_raw": 0.094, "test_ece": 0.046,
            "test_ece_raw": 0.101,
            "length": interval(0.31, 0.22, 0.41, 300),
            "style": {"bold": interval(0.12, 0.04, 0.2, 41), "headings": None,
                      "list items": interval(-0.08, -0.2, 0.05, 80)},
            "previous": {
                "model": str(previous.pk), "name": previous.name,
                "accuracy": interval(0.021, -0.008, 0.05), "ece": interval(0.004, -0.02, 0.03),
                "length": interval(0.03, 0.01, 0.05), "distance": interval(0.22, 0.19, 0.25),
                "tau": 0.77,
            },
            "probe": {"answers": 2400, "prompts": 300, "sha256": "ab" * 32},
            "round": 2,
        },
        "gate": held_back(),
        "on_policy": {"3": on_policy, "4": {**on_policy, "log_loss": None, "ece": None}},
        "implicit": {"3": {"rows": [
            {**row, "scorer": "explicit", "count": 212, "accuracy": sure, "less_explicit": None},
            {**row, "scorer": "implicit", "count": 212, "accuracy": sure, "less_explicit": less},
            {**far, "scorer": "explicit", "count": 512, "accuracy": sure, "less_explicit": None},
            {**far, "scorer": "implicit", "count": 512, "accuracy": sure, "less_explicit": less},
        ]}},
    }  # fmt: skip


def model(project, name: str, metrics: dict, temperature: float = 1.0) -> RewardModel:
    return RewardModel.objects.create(
        project=project, name=name, objective="bradley_terry", path="/r", sha256="ef" * 32,
        ballots_used=1440, metrics=metrics, temperature=temperature,
    )  # fmt: skip


def nothing() -> dict:
    """What is measured of the first model of an experiment without held-out votes."""
    return {
        "measured": {
            "slices": [], "reliability": [], "reliability_raw": [], "temperature": 1.0,
            "ece": None, "ece_raw": None, "test_ece": None, "test_ece_raw": None, "length": None,
            "style": {}, "probe": {"answers": 0, "prompts": 0, "sha256": "ab" * 32}, "round": 1,
        },
        "gate": {"passed": True, "checks": [
            {"name": "first model", "passed": True, "values": {},
             "evidence": "There is no earlier reward model to compare with."}]},
    }  # fmt: skip


def look(page, name: str, width: int, dark: bool) -> None:
    """Nothing is wider than the screen or than what it stands in."""
    if PICTURES:
        where = Path(PICTURES) / f"{name}-{width}-{'dark' if dark else 'light'}.png"
        page.screenshot(path=where, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SPILLING) == []


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_a_reward_models_page_answers_on_every_screen(browse, project, alice, width, dark):
    experiment = lab.experiment(
        project, name="Warmer answers",
        reward_ensemble={"members": 5, "reading": "uncertainty", "sharing": "heads"},
    )  # fmt: skip
    last = model(project, "alpha-warmer-answers-r1-reward-77aa01bc", nothing())
    long = "alpha-an-experiment-with-a-rather-long-name-r2-reward-5b1e0c55"
    made = model(project, long, everything(last), temperature=2.1)
    gate = {**made.metrics["gate"], "candidate": str(made.pk), "name": made.name}
    lab.round_at(experiment, Stage.TRAIN, number=2, figures={"reward_gate": gate})
    Round.objects.update(reward_model=last)
    page = browse(alice, width=width, dark=dark)
    page.goto(f"/p/alpha/lab/reward-models/{made.pk}/")
    for question in (
        "Is it good?", "Gate", "Votes it never saw", "Calibration", "Does it like length or style?",
        "How far from the last one?", "Explicit and implicit reward, round 3",
    ):  # fmt: skip
        assert page.get_by_role("heading", name=question, exact=True).is_visible(), question
    assert page.locator(".gate [data-state=fail]").inner_text().startswith("Length correlation")
    assert page.locator(".reliability polyline").count() == 2
    assert not page.evaluate(CROSSING)
    look(page, "reward-model", width, dark)
    page.get_by_role("link", name=last.name).click()
    page.get_by_text("Nobody can say yet: no votes are held out.").wait_for()
    look(page, "reward-model-first", width, dark)


def test_a_model_from_before_says_so(browse, project, alice):
    old = model(project, "alpha-r1-reward", {"trained_on": 20})
    page = browse(alice, width=390)
    page.goto(f"/p/alpha/lab/reward-models/{old.pk}/")
    page.get_by_text("made before such models were measured").wait_for()
    look(page, "reward-model-old", 390, False)


@pytest.mark.parametrize("width", [1280, 390])
def test_another_objective_shows_its_own_words_and_knobs(browse, project, alice, width):
    lab.prompt_set(project)
    page = browse(alice, width=width)
    page.goto("/p/alpha/lab/experiments/new/")
    page.get_by_label("Members", exact=True).fill("5")
    for name, knob in (("davidson", "Nu"), ("general_preference", "Planes")):
        with page.expect_response(
            lambda answer, name=name: f"reward_objective={name}" in answer.url
        ):
            page.get_by_label("Reward objective").select_option(name)
        page.locator("#reward").get_by_label(knob, exact=True).wait_for()
    assert page.locator("#reward .about").inner_text().startswith("General preference model")
    assert page.get_by_label("Members", exact=True).input_value() == "5"
    look(page, "experiment-new", width, False)
