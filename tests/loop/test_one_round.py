"""One round, from prompts to a promoted policy, with real jobs and a real engine."""

from __future__ import annotations

import pytest

from align import jobs
from plumbline.collect.models import Ballot
from plumbline.fleet.models import Job
from plumbline.loop import advance, rounds
from plumbline.loop.models import OVER, Experiment, Stage
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy
from tests.loop.conftest import run_round

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


def test_a_round_goes_from_prompts_to_a_promoted_policy(experiment_of, rater, project):
    experiment = experiment_of()
    serving.promote(project, experiment.start, actor=None, reason="the first policy", evidence={})
    round = run_round(rounds.begin(experiment), rater)

    assert round.stage == Stage.DONE, round.error
    assert list(round.stages.values_list("stage", flat=True)) == [
        stage for stage in Stage.values if stage not in OVER
    ]
    assert all(stage.finished_at for stage in round.stages.all())
    deployment = Deployment.objects.get(project=project, alias="current")
    assert deployment.policy == round.policy_out
    assert deployment.previous == experiment.start
    assert round.policy_out.state == Policy.State.PROMOTED
    assert round.policy_out.parent == experiment.start
    # Every vote is frozen into the round, and the round's hash is of exactly these.
    compared = round.campaign.comparisons.count()  # of 10 prompts, those with different answers
    assert round.ballots.count() == Ballot.objects.count() == compared
    assert 5 <= compared <= 10
    assert len(round.ballots_sha256) == 64
    assert 0 < round.examples.count() <= 10
    against = round.evaluations.get(against="current")
    assert against.wins + against.ties + against.losses == 6
    assert against.low <= against.rate <= against.high
    assert against.kl is not None
    assert round.gate["passed"]
    experiment.refresh_from_db()
    advance.tick()
    experiment.refresh_from_db()
    assert experiment.state == Experiment.State.FINISHED


@pytest.mark.sqlite
def test_people_may_judge_the_candidate_blind(experiment_of, rater, project):
    experiment = experiment_of(judge="people", autopilot=False)
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.PROMOTE, round.error  # waits for a researcher
    assert round.reward_model is None
    assert round.evaluation_campaign.closed_at is not None
    assert round.evaluations.get().judge == "people"
    serving.promote(project, round.policy_out, actor=None, reason="I looked", evidence={})
    round.refresh_from_db()
    assert run_round(round, rater).stage == Stage.DONE


@pytest.mark.sqlite
def test_the_next_round_starts_from_the_promoted_policy_and_replays_its_pairs(experiment_of, rater):
    experiment = experiment_of(rounds_wanted=2, replay="all")
    first = run_round(rounds.begin(experiment), rater)
    assert first.stage == Stage.DONE, first.error
    advance.tick()
    second = experiment.rounds.get(number=2)
    second = run_round(second, rater)
    assert second.stage == Stage.DONE, second.error
    assert second.policy_in == first.policy_out
    trained = Job.objects.get(asked_by__round=second, kind="train")
    rows = list(jobs.read_rows(trained.folder / jobs.EXAMPLES))
    assert len(rows) == first.examples.count() + second.examples.count()
    assert set(first.prompts.all()) != set(second.prompts.all())


@pytest.mark.sqlite
def test_the_reward_model_can_make_the_pairs(experiment_of, rater):
    experiment = experiment_of(
        pairs_from="reward_model",
        pair_rule="max_min",
        samples_per_prompt=3,
        weights={"mode": "full"},
    )
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    assert round.policy_out.weights == Policy.Weights.FULL
    assert {example.rule for example in round.examples.all()} == {"max_min"}
    assert round.examples.count() > 0
