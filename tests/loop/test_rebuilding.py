"""Rounds made again from their frozen votes, by the real loop: the same, or without some votes."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from plumbline.fleet.models import Job
from plumbline.loop import advance, decisions, lineage, rebuilding, retractions, rounds
from plumbline.loop.models import Experiment, Round, Stage
from plumbline.operations import retention
from plumbline.policies.models import Policy
from tests.loop.conftest import run_round

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


def run_all(experiment: Experiment, rater=None) -> list[Round]:
    """Let the loop begin and do each round, as often as there is one to begin."""
    for _ in range(experiment.rounds_wanted):
        advance.tick()
        latest = experiment.rounds.order_by("-number").first()
        assert latest is not None
        if latest.over:
            break
        done = run_round(latest, rater)
        assert done.stage in (Stage.DONE, Stage.PROMOTE), done.error
    return list(experiment.rounds.order_by("number"))


def tensors(policy):
    return {path.name: path.read_bytes() for path in Path(policy.path).glob("*.safetensors")}


@pytest.mark.sqlite
def test_a_rebuild_makes_the_same_weights_and_without_votes_others(experiment_of, rater, alice):
    experiment = experiment_of(rounds_wanted=2, replay="decay", pairs_from="reward_model")
    rounds.begin(experiment)
    first, second = run_all(experiment, rater)
    assert second.policy_in == first.policy_out

    again = rebuilding.begin(experiment, actor=alice, reason="Is it the same?", also=1)
    one, two = run_all(again)
    assert [one.number, two.number] == [1, 2]
    assert (one.stage, two.stage) == (Stage.DONE, Stage.PROMOTE), "a person promotes the last one"
    for new, old in ((one, first), (two, second)):
        assert new.replays == old
        assert new.ballots_sha256 == old.ballots_sha256
        assert new.figures["rebuilt"] == {"without": 0, "of": old.ballots.count()}
        assert new.reward_model.sha256 == old.reward_model.sha256
        assert rebuilding.same_weights(new), "nothing was left out"
    assert two.policy_in == one.policy_out != first.policy_out
    assert not new.jobs.filter(purpose__startswith="sample").exists(), "answers are the original's"
    assert decisions.reject(two.policy_out, actor=alice, reason="It was a test.")

    bad = first.ballots.order_by("pk")[:3]
    for ballot in bad:
        retractions.retract_vote(ballot, actor=alice, reason="Said at random.")
    tainted = {taint.round.pk: taint.votes for taint in lineage.tainted(experiment.project)}
    assert tainted[first.pk] == tainted[one.pk] == 3
    assert tainted[second.pk] == 0, "by way of its policy"
    cleaned = rebuilding.begin(experiment, actor=alice, reason="Without them.")
    one, two = run_all(cleaned)
    assert one.figures["rebuilt"] == {"without": 3, "of": first.ballots.count()}
    assert set(first.ballots.all()) - set(one.ballots.all()) == set(bad)
    assert two.figures["rebuilt"]["without"] == 0
    assert one.reward_model.sha256 != first.reward_model.sha256
    for new, old in ((one, first), (two, second)):  # few pairs, so they may come out as before
        same = tensors(new.policy_out) == tensors(old.policy_out)
        assert rebuilding.same_weights(new) is same
    assert one.reward_model.ballots_used == first.ballots.count() - 3
    assert two.policy_in == one.policy_out
    assert not {one.pk, two.pk} & {taint.round.pk for taint in lineage.tainted(experiment.project)}
    assert Policy.objects.get(pk=two.policy_out_id).state == Policy.State.CANDIDATE


@pytest.mark.sqlite
def test_a_rebuild_after_everything_that_may_go_is_gone_makes_the_same_weights(
    experiment_of, rater, alice, settings, tmp_path
):
    """Run folders, checkpoints, logs, scores and replies, all of them long past their time."""
    settings.SCORES_DIR, settings.RUBRICS_DIR = tmp_path / "scores", tmp_path / "rubrics"
    experiment = experiment_of(rounds_wanted=1, pairs_from="reward_model")
    rounds.begin(experiment)
    (first,) = run_all(experiment, rater)
    long_ago = timezone.now() - timedelta(days=400)
    Job.objects.filter(finished_at__isnull=False).update(finished_at=long_ago)
    for folder in (settings.RUNS_DIR, settings.SCORES_DIR, settings.RUBRICS_DIR):
        for path in Path(folder).rglob("*"):
            os.utime(path, (long_ago.timestamp(),) * 2)
    ages = dict.fromkeys(retention.AGES, 1)
    gone = retention.carry_out(retention.Rule(ages, rounds=1))
    assert gone.caches
    assert gone.logs
    assert not list(Path(settings.SCORES_DIR).glob("*.jsonl"))

    again = rebuilding.begin(experiment, actor=alice, reason="Is it the same?", also=1)
    (new,) = run_all(again)
    assert new.ballots_sha256 == first.ballots_sha256
    assert new.reward_model.sha256 == first.reward_model.sha256
    assert rebuilding.same_weights(new)
    assert lineage.tainted(experiment.project) == []
