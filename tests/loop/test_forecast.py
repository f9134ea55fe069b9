"""What a round will still take: by what runs, by earlier rounds, or honestly unknown."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.collect.models import Campaign
from plumbline.loop import campaigns
from plumbline.loop.forecast import (
    BEFORE,
    DEADLINE,
    OVERDUE,
    PACE,
    PERSON,
    SKIPPED,
    UNKNOWN,
    VOTING,
    Forecast,
    forecast,
)
from plumbline.loop.models import Round, RoundStage, Stage
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


@pytest.fixture
def experiment(project):
    return lab.experiment(project, autopilot=True)


def look(round: Round, at=None) -> Forecast:
    return forecast(round, list(round.stages.all()), round.jobs.select_related("job"), at)


def past(experiment, **seconds: float) -> Round:
    """A finished round whose stages took so long; those not named were not needed."""
    made = Round.objects.create(
        experiment=experiment,
        number=experiment.rounds.count() + 1,
        policy_in=experiment.start,
        stage=Stage.DONE,
    )
    at = timezone.now()
    for stage, took in seconds.items():
        RoundStage.objects.create(
            round=made, stage=stage, started_at=at, finished_at=at + took * SECOND
        )
    return made


def test_a_first_round_that_runs_nothing_knows_nothing(experiment):
    found = look(lab.round_at(experiment, Stage.SAMPLE))
    assert found.by_stage[Stage.SAMPLE].why == UNKNOWN
    assert found.seconds == 0
    assert found.unknown == [stage for stage in lab.STAGES if stage != Stage.PROMPTS]


def test_a_running_job_tells_its_stage(experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    lab.train_job(made, "running", progress={"done": 1, "total": 9, "unit": "steps", "left": 48.0})
    found = look(made)
    assert (found.by_stage[Stage.TRAIN].seconds, found.by_stage[Stage.TRAIN].why) == (48.0, PACE)
    assert Stage.EVALUATE in found.unknown


def test_a_job_that_waits_in_a_queue_has_no_pace(experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    lab.train_job(made, "queued")
    assert look(made).by_stage[Stage.TRAIN].seconds is None


def test_stages_to_come_take_what_they_took_in_earlier_rounds(experiment):
    for train in (60.0, 100.0, 80.0):
        past(experiment, train=train, evaluate=20.0, gate=0.5, promote=1.5)
    made = lab.round_at(experiment, Stage.PAIRS)
    found = look(made)
    assert found.by_stage[Stage.TRAIN].seconds == pytest.approx(80.0)
    assert found.by_stage[Stage.CHOOSE].why == SKIPPED
    assert found.unknown == [Stage.PAIRS]  # it takes 0 s as a rule, and has taken 10
    assert found.by_stage[Stage.PAIRS].why == OVERDUE
    assert found.seconds == pytest.approx(102.0)
    assert not found.waits


def test_a_stage_under_way_takes_what_is_left_of_its_usual_time(experiment):
    past(experiment, train=100.0)
    made = lab.round_at(experiment, Stage.TRAIN)
    began = made.stages.get(stage="train").started_at
    lab.train_job(made, "running", progress={"done": 1, "total": 9, "unit": "steps", "left": 30.0})
    early = look(made, began + 20 * SECOND).by_stage[Stage.TRAIN]
    assert (early.seconds, early.why) == (pytest.approx(80.0), BEFORE)
    late = look(made, began + 90 * SECOND).by_stage[Stage.TRAIN]
    assert (late.seconds, late.why) == (30.0, PACE)


def test_only_rounds_of_the_same_experiment_count(project, experiment):
    past(lab.experiment(project), train=100.0)
    assert look(lab.round_at(experiment, Stage.PAIRS)).by_stage[Stage.TRAIN].seconds is None


def test_a_promotion_by_hand_is_a_decision_and_not_an_unknown(project):
    experiment = lab.experiment(project, autopilot=False)
    past(experiment, gate=1.0)
    found = look(lab.round_at(experiment, Stage.EVALUATE))
    assert found.by_stage[Stage.PROMOTE].why == PERSON
    assert found.waits
    assert Stage.PROMOTE not in found.unknown


def labelling(experiment, votes: int, wanted: int, **fields) -> Round:
    """A round whose people have cast so many of the votes that are wanted, in 100 seconds."""
    made = lab.round_at(experiment, Stage.LABEL)
    made.campaign = open_campaign(experiment.project, comparisons=wanted)
    made.save()
    for comparison in made.campaign.comparisons.order_by("pk")[:votes]:
        lab.ballot(comparison)
    opened = timezone.now() - 100 * SECOND
    Campaign.objects.filter(pk=made.campaign.pk).update(created_at=opened, **fields)
    made.campaign.refresh_from_db()
    return made


def test_votes_tell_by_their_pace(experiment):
    made = labelling(experiment, votes=5, wanted=8)
    found = look(made, made.campaign.created_at + 100 * SECOND).by_stage[Stage.LABEL]
    assert (found.seconds, found.why) == (pytest.approx(60.0), VOTING)


def test_a_few_votes_have_no_pace_and_a_paused_campaign_neither(experiment, project):
    assert look(labelling(experiment, votes=4, wanted=8)).by_stage[Stage.LABEL].seconds is None
    other = lab.experiment(project)
    made = labelling(other, votes=6, wanted=8, paused_at=timezone.now())
    assert look(made).by_stage[Stage.LABEL].why == UNKNOWN


def test_a_deadline_ends_the_waiting(project):
    experiment = lab.experiment(project, deadline_minutes=2)
    made = labelling(experiment, votes=0, wanted=8)
    found = look(made, made.campaign.created_at + 100 * SECOND).by_stage[Stage.LABEL]
    assert (found.seconds, found.why) == (pytest.approx(20.0), DEADLINE)


def test_a_round_that_is_over_has_nothing_to_come(experiment):
    assert look(past(experiment)).by_stage == {}


def test_the_forecast_asks_as_much_of_the_database_after_many_rounds(
    experiment, django_assert_max_num_queries
):
    for _ in range(12):
        past(experiment, train=1.0)
    made = lab.round_at(experiment, Stage.LABEL)
    made.campaign = campaigns.open_campaign(made, Campaign.Purpose.TRAIN)
    with django_assert_max_num_queries(10):
        look(made)
