"""A session from its first prompt to a winner, killed anywhere, with jobs of its own processes."""

from __future__ import annotations

import pytest

from plumbline.evolve import advance
from plumbline.evolve.models import Evolution, Program, Stage
from tests.evolve.conftest import programs, run

pytestmark = pytest.mark.django_db


def test_a_session_goes_from_its_task_to_a_winner(evolution_of, rater):
    evolution = run(evolution_of(), rater)
    assert evolution.state == Evolution.State.FINISHED, evolution.ended
    assert evolution.ended == "All 2 generations are done."
    first, second = evolution.generations.order_by("number")
    assert first.stage == second.stage == Stage.DONE
    assert first.good is not None
    assert first.bad is not None
    assert evolution.best == second.good
    assert first.programs.filter(status="good").count() in (1, 2)
    assert {one.status for one in first.programs.all()} <= {"good", "bad", "neutral", "invalid"}
    assert first.prompt_sha256 != second.prompt_sha256
    assert second.programs.first().good_parent == first.good
    third = second.messages[2]["content"]
    assert third.index("GOOD") < third.index("BAD")
    assert first.figures["hidden"]["pairs"] > 0
    assert first.campaign.closed_at is not None
    report = first.good.report
    assert report["points"] == [1, 2, 4, 8]
    assert report["total"]["rankings"] > 0
