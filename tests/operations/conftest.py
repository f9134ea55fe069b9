"""A small project in which everything is as the database says, on a real engine."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align.jobs import ScoreJob
from plumbline.collect import queue
from plumbline.fleet import claims, dispatch
from plumbline.loop import rounds, rows
from plumbline.loop.models import Experiment, Round, Stage
from plumbline.policies import serving
from plumbline.policies.models import Policy, RewardModel
from plumbline.transfer import uploads
from tests.comparisons import open_campaign, shared_db  # noqa: F401  # a fixture
from tests.loop.conftest import experiment_of, prompt_set, rater  # noqa: F401  # fixtures

AGO = 3600.0 * 30


def age(path: Path, seconds: float = AGO) -> Path:
    """As if it had been written long ago."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


@pytest.fixture
def homes(settings: Any, tmp_path: Path) -> Path:
    """Folders of this test alone."""
    settings.HOME = tmp_path / "home"
    for name in ("runs", "scores", "rubrics", "uploads"):
        setattr(settings, f"{name.upper()}_DIR", settings.HOME / name)
        (settings.HOME / name).mkdir(parents=True, mode=0o700)
    settings.HOME.chmod(0o700)
    return settings.HOME


@pytest.fixture
def vote(bob: Any, carol: Any) -> Callable[..., Any]:
    """`vote(campaign, person=bob)`: one vote through the queue; None where nothing is left."""

    def cast(campaign: Any, person: Any = None) -> Any:
        ballot = queue.claim_next(person or bob, campaign)
        if ballot is None:
            return None
        return queue.cast(ballot, queue.Verdict("ranked", ranking=[[1], [0]]), uuid.uuid4())

    return cast


@pytest.fixture
def promoted(
    homes: Path, engine: Any, settings: Any, project: Any, alice: Any, commit_weights: Any
) -> Policy:
    """A policy of the base model, served."""
    settings.ENGINE_URL = engine.url
    base = serving.base_policy(project)
    made = commit_weights(11)
    policy = Policy.objects.create(
        project=project,
        name="alpha-e1-r1-aaaa",
        weights="lora",
        base_model=base.base_model,
        path=str(made.path),
        sha256=made.sha256,
        parent=base,
    )
    serving.promote(project, policy, actor=alice, reason="It is better", evidence={})
    return policy


@pytest.fixture
def reward(project: Any, promoted: Policy) -> RewardModel:
    return RewardModel.objects.create(
        project=project,
        name="alpha-rm-1",
        objective="bradley_terry",
        path=promoted.path,
        sha256=promoted.sha256,
        ballots_used=3,
    )


@pytest.fixture
def done_round(project: Any, promoted: Policy, vote: Any) -> Round:
    """Three votes, frozen, and the policy that was made of them."""
    campaign = open_campaign(project, comparisons=3)
    while vote(campaign):
        pass
    base = promoted.parent
    experiment = Experiment.objects.create(
        project=project,
        name="First",
        algorithm="dpo",
        start=base,
        prompt_set=campaign.comparisons.first().prompt.set,
    )
    round = Round.objects.create(experiment=experiment, number=1, policy_in=base, campaign=campaign)
    ballots = list(queue.standing(campaign.comparisons.all()))
    assert len(ballots) == 3
    round.ballots.set(ballots)
    Round.objects.filter(pk=round.pk).update(
        ballots_sha256=rows.ballots_digest(ballots), stage=Stage.DONE, policy_out=promoted
    )
    return Round.objects.get(pk=round.pk)


@pytest.fixture
def house(
    homes: Path,
    engine: Any,
    project: Any,
    alice: Any,
    promoted: Policy,
    reward: RewardModel,
    done_round: Round,
) -> dict[str, Any]:
    """A promoted policy, a reward model, a done round with frozen votes, a job, an upload."""
    job = dispatch.submit(project, ScoreJob(), "Scores", {"items.jsonl": []})
    upload = uploads.receive(project, alice, "votes.jsonl", [b"{}\n"], set_name="Mine")
    scores = homes / "scores" / f"{promoted.sha256}.jsonl"
    scores.write_text("")
    for path in [*(homes / "runs").iterdir(), *(homes / "uploads").iterdir(), scores]:
        age(path)
    return {
        "policy": promoted,
        "reward": reward,
        "campaign": done_round.campaign,
        "job": job,
        "upload": upload,
        "round": done_round,
        "engine": engine,
        "deployment": project.deployments.get(),
        "claims": claims,
        "rounds": rounds,
    }
