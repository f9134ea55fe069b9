"""A judge against people, and a judged round, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plumbline.loop import calibrating, judging, triaging
from plumbline.loop.models import Round
from tests.judges import planted
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SHOTS = os.environ.get("PLUMBLINE_SHOTS")  # a folder to look at afterwards


def test_nothing_serious_on_a_judge_against_people_or_a_judged_round(
    site, browse, project, alice, faults
) -> None:
    before = planted.ground(project, 160, planted.people(2), spread=3.0)
    version = planted.judge(project)
    planted.says(version, before, sharp=1.5, length=0.8, position=0.5, noise=1.0)
    calibrating.calibrate(version)
    quiet = planted.judge(project, "Unasked")
    experiment = lab.experiment(project, labels="judge_and_people", judge_errors=30)
    experiment.labellers.set([version.judge])
    made = planted.ground(project, 40, [], seed=2, spread=3.0)
    planted.says(version, made, sharp=1.5, silent=lambda at: at % 9 == 0)
    round = Round.objects.create(
        experiment=experiment, number=1, policy_in=experiment.start, stage="label",
        campaign=made.campaign,
    )  # fmt: skip
    judging.pin(round)
    assert triaging.go_on(round)
    addresses = {
        "calibration": f"/p/alpha/lab/judges/{version.judge_id}/calibration/",
        "empty": f"/p/alpha/lab/judges/{quiet.judge_id}/calibration/",
        "round": f"/p/alpha/lab/experiments/{experiment.pk}/rounds/1/",
        "launch": "/p/alpha/lab/experiments/new/",
    }
    for width, dark in ((1280, False), (390, True)):
        page = browse(alice, width=width, dark=dark)
        for name, address in addresses.items():
            assert page.goto(address).status == 200, address
            assert faults(page) == [], (address, width, dark)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
            if SHOTS:
                page.screenshot(path=Path(SHOTS) / f"{name}-{width}.png", full_page=True)
        page.context.close()
