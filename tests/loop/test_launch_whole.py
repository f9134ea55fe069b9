"""Two experiments at once on one worker, an autopilot that ends one, and its round done again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align import jobs
from plumbline.loop import advance, autopilot, reproduce, rounds
from plumbline.loop.models import Experiment, PilotDecision, Round, Stage
from tests.loop.conftest import run_jobs, vote_on_everything

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


def drive(found: list[Round], rater) -> None:
    """Tick, work and vote until every one of these rounds is over."""
    for _ in range(80):
        advance.tick()
        worked = run_jobs()
        for round in found:
            round.refresh_from_db()
            for campaign in (round.campaign, round.evaluation_campaign):
                if campaign is not None and campaign.closed_at is None:
                    vote_on_everything(rater, campaign)
        if all(round.over for round in found):
            return
        if not worked and any(round.error for round in found):
            time.sleep(1)  # a busy engine; the loop would look again just like this
    raise AssertionError([(round.stage, round.error) for round in found])


def test_two_experiments_share_a_worker_and_an_autopilot_ends_one_of_them(
    experiment_of, rater, alice, tmp_path
):
    piloted = experiment_of(name="Piloted", rounds_wanted=3)
    beside = experiment_of(name="Beside", seed=1)
    wanted = {"on": True, "most_votes": 9, "most_kl": 50.0, "no_gain_rounds": 1}
    autopilot.change(piloted, alice, wanted)
    both = [rounds.begin(piloted), rounds.begin(beside)]
    drive(both, rater)

    assert [round.stage for round in both] == [Stage.DONE] * 2, [round.error for round in both]
    advance.tick()
    assert piloted.rounds.count() == 1
    decision = PilotDecision.objects.get(experiment=piloted)
    by_name = {one["name"]: one for one in decision.checks}
    assert set(by_name) == {"rounds", "votes", "no gain", "kl", "noise floor"}
    assert by_name["votes"]["stops"]
    assert not by_name["kl"]["stops"]
    assert "No vote has been asked a second time yet." in by_name["noise floor"]["evidence"]
    piloted.refresh_from_db()
    assert piloted.state == Experiment.State.ACTIVE  # it stands, and nothing of it is lost
    beside.refresh_from_db()
    assert beside.state == Experiment.State.FINISHED

    autopilot.change(piloted, alice, {"on": True, "most_votes": None, "no_gain_rounds": 0})
    advance.tick()
    assert piloted.rounds.get(number=2).policy_in == both[0].policy_out

    recorded_and_done_again(both[0], tmp_path)


def recorded_and_done_again(round: Round, folder: Path) -> None:
    asked = list(round.jobs.select_related("job").order_by("pk"))
    told = {one.label: one.values for one in reproduce.facts(round, asked)}
    assert set(told) == {
        "Seeds", "Commit", "Packages", "Ballots", "Data", "Base revision", "Chat template",
        "Hardware",
    }  # fmt: skip
    assert ("0", "experiment, reward, train") in told["Seeds"]
    assert len(told["Commit"]) == 1
    assert "torch 2." in told["Packages"][0][0]
    assert json.dumps(reproduce.download(round))
    command = reproduce.training_command(asked)
    assert command is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    paths = f"{ROOT / 'workers'}:{ROOT / 'platform'}"
    subprocess.run(
        command, shell=True, check=True, cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    again = json.loads((folder / "again" / jobs.RESULT).read_text())
    assert round.policy_out is not None
    assert again["sha256"] == round.policy_out.sha256
