"""Launching in a real Chromium: presets, the live estimate, clones, autopilot, doing it again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plumbline.loop import autopilot
from plumbline.loop.models import Autopilot, Experiment, PilotDecision
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PARTS = ("presets", "estimate", "clone", "autopilot", "reproduce")
NEW = "/p/alpha/lab/experiments/new/"
CHECKS = [
    {"name": "rounds", "stops": False, "evidence": "1 of 5 rounds are done."},
    {"name": "votes", "stops": True, "evidence": "412 votes are given of 600; a round like the "
     "last one takes 206 more, which is more than is left."},
    {"name": "no gain", "stops": False, "evidence": "1 of the 2 measured rounds that this rule "
     "looks at have ended: round 1 67.2% (55.3% to 77.0%)."},
]  # fmt: skip


@pytest.fixture
def piloted(project, alice) -> Experiment:
    made = lab.experiment(project, name="Warmer answers", rounds_wanted=5)
    done = lab.finished_round(made, steps=5)
    job = done.jobs.get(purpose="train").job
    packages = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.17.0"}
    hardware = {
        "processor": "AMD EPYC 9654", "cores": 16, "memory_gib": 128.0,
        "gpus": ["NVIDIA H200"], "system": "Linux 6.8",
    }  # fmt: skip
    job.result = {
        "ran": {
            "commit": "9e8980b" + "0" * 33, "packages": packages, "hardware": hardware,
            "data_sha256": "da" * 32, "template_sha256": "7e" * 32, "base_revision": "ba" * 32,
        }
    }  # fmt: skip
    job.save()
    autopilot.change(made, alice, {"on": True, "most_votes": 600, "rounds_wanted": 5})
    version = Autopilot.objects.get(experiment=made).version
    PilotDecision.objects.create(
        experiment=made, round=done, version=version, goes_on=False, checks=CHECKS
    )
    return made


def look(page, name: str) -> None:
    """Pictures for whoever wants to see the page's new parts (SCREENSHOTS names a folder)."""
    if folder := os.environ.get("SCREENSHOTS"):
        for part in PARTS:
            for one in page.locator(f"#{part}").all():
                one.screenshot(path=str(Path(folder) / f"{name}-{part}.png"))


def test_the_estimate_and_the_presets_follow_the_form(browse, project, alice):
    lab.prompt_set(project, train=40, heldout=20)
    page = browse(alice)
    page.goto(NEW)
    page.get_by_text("48 to 80").wait_for()
    page.get_by_label("Rounds", exact=True).fill("4")
    page.get_by_text("96 to 160").wait_for()
    page.get_by_role("button", name="Quick").click()
    page.get_by_text("Quick is filled in.").wait_for()
    assert page.get_by_label("Rounds", exact=True).input_value() == "1"


def test_a_clone_says_what_differs_as_it_is_changed(browse, project, alice, piloted):
    page = browse(alice)
    page.goto(f"{NEW}?like={piloted.pk}")
    page.get_by_text("So far no setting differs.").wait_for()
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_text("It differs in 1 setting:").wait_for()


def test_a_stopped_autopilot_is_read_changed_and_switched_off(browse, project, alice, piloted):
    page = browse(alice)
    page.goto(f"/p/alpha/lab/experiments/{piloted.pk}/")
    page.get_by_text("After round 1 it began no other").wait_for()
    page.get_by_label("Votes, at most").fill("900")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The autopilot is on.").wait_for()
    page.get_by_role("button", name="Switch off").click()
    page.get_by_text("Each round waits for you.").wait_for()
    page.get_by_label("Rounds", exact=True).fill("0")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Rounds must be between 1 and 100.").wait_for()
    browse.troubles[:] = [one for one in browse.troubles if "422" not in one]


def test_every_screen_is_readable_and_within_its_width(browse, project, alice, piloted, faults):
    lab.prompt_set(project, train=40, heldout=20)
    here = f"/p/alpha/lab/experiments/{piloted.pk}/"
    pages = {
        "new": f"{NEW}?algorithm=dpo&preset=published",
        "clone": f"{NEW}?like_round={piloted.rounds.get().pk}",
        "experiment": here,
        "round": f"{here}rounds/1/",
    }
    found = {}
    for width, dark in ((1280, False), (390, True)):
        page = browse(alice, width=width, dark=dark)
        for name, address in pages.items():
            assert page.goto(address).status == 200
            look(page, f"{name}-{width}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            if wrong := faults(page):
                found[name, width] = wrong
    assert not found
