"""Stages one by one: what ends one, what fails a round, and that looking twice is harmless."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from plumbline.collect.models import Ballot, Campaign, Completion
from plumbline.fleet.models import Job
from plumbline.loop import advance, rounds, rows
from plumbline.loop.models import Experiment, Round, RoundJob, Stage
from tests.loop.conftest import vote_on_everything

pytestmark = pytest.mark.django_db


@pytest.fixture
def round(experiment_of):
    return rounds.begin(experiment_of())


def at_label(round: Round) -> Round:
    """Put a round where people vote, as if its answers had been sampled."""
    advance.choose_prompts(round)
    job = Job.objects.create(project=round.experiment.project, kind="sample", queue="cpu", spec={})
    RoundJob.objects.create(round=round, purpose="sample:policy", job=job)
    for prompt in round.prompts.all():
        for draw, text in enumerate(("Yes.", "It is a very long story, my dear.")):
            Completion.objects.create(prompt=prompt, text=text, batch=job.pk, draw=draw)
    Round.objects.filter(pk=round.pk).update(stage=Stage.SELECT)
    round.refresh_from_db()
    advance.advance(round)
    round.refresh_from_db()
    assert round.stage == Stage.LABEL, round.error
    return round


def test_prompts_are_fixed_by_the_seed_and_unseen_first(round, experiment_of):
    advance.choose_prompts(round)
    chosen = list(round.prompts.order_by("pk"))
    advance.choose_prompts(round)
    assert list(round.prompts.order_by("pk")) == chosen
    assert len(chosen) == 10
    Round.objects.filter(pk=round.pk).update(stage=Stage.DONE)
    second = rounds.begin(round.experiment)
    advance.choose_prompts(second)
    unseen = set(round.experiment.prompt_set.prompts.filter(split="train")) - set(chosen)
    assert unseen <= set(second.prompts.all())


def test_an_engine_that_is_away_is_waited_for(round, settings):
    settings.ENGINE_URL = "http://127.0.0.1:9"
    advance.advance(round)
    round.refresh_from_db()
    assert round.stage == Stage.SAMPLE
    assert "engine" in round.error
    assert not Job.objects.exists()


def test_one_comparison_a_prompt_opens_however_often_it_is_looked_at(round):
    at_label(round)
    advance.advance(round)
    assert Campaign.objects.count() == 1
    assert round.campaign.comparisons.count() == 10


def test_comparisons_opened_just_before_a_crash_are_not_opened_again(round):
    at_label(round)
    assert advance.open_comparisons(round) == Stage.LABEL
    assert Campaign.objects.count() == 1


def test_prompts_with_nothing_to_compare_take_nobodys_place(experiment_of):
    round = rounds.begin(experiment_of(prompts_compared=2, pairs_from="reward_model"))
    advance.choose_prompts(round)
    job = Job.objects.create(project=round.experiment.project, kind="sample", queue="cpu", spec={})
    RoundJob.objects.create(round=round, purpose="sample:policy", job=job)
    for k, prompt in enumerate(round.prompts.order_by("pk")):
        for draw, text in enumerate(("Yes.", "No." if k in (3, 8) else "Yes.")):
            Completion.objects.create(prompt=prompt, text=text, batch=job.pk, draw=draw)
    assert advance.open_comparisons(round) == Stage.LABEL
    asked = list(round.prompts.order_by("pk").values_list("pk", flat=True))
    found = round.campaign.comparisons.order_by("pk").values_list("prompt_id", flat=True)
    assert list(found) == [asked[3], asked[8]]


def test_labelling_waits_for_every_vote(round, rater):
    at_label(round)
    advance.advance(round)
    round.refresh_from_db()
    assert round.stage == Stage.LABEL
    vote_on_everything(rater, round.campaign)
    advance.advance(round)
    round.refresh_from_db()
    assert round.stage == Stage.REWARD
    assert round.campaign.closed_at is not None
    assert round.ballots_sha256 == rows.ballots_digest(Ballot.objects.all())


def test_a_deadline_ends_labelling_with_the_votes_there_are(round, rater):
    at_label(round)
    ballot = vote_on_one(rater, round)
    Experiment.objects.update(deadline_minutes=5)
    Campaign.objects.update(created_at=timezone.now() - timedelta(minutes=6))
    fresh = Round.objects.get(pk=round.pk)
    advance.advance(fresh)
    fresh.refresh_from_db()
    assert fresh.stage == Stage.REWARD
    assert list(fresh.ballots.all()) == [ballot]


def test_closing_labels_without_a_vote_fails_the_round_in_words(round):
    at_label(round)
    rounds.close_labels(round)
    fresh = Round.objects.get(pk=round.pk)
    advance.advance(fresh)
    fresh.refresh_from_db()
    assert fresh.stage == Stage.FAILED
    assert "Nobody ranked" in fresh.error
    assert fresh.finished_at is not None


def test_a_failed_job_fails_the_round_with_its_last_words_and_can_be_tried_again(round, rater):
    at_label(round)
    vote_on_everything(rater, round.campaign)
    advance.advance(round)
    Job.objects.filter(kind="reward").update(state="failed", error="CUDA said no")
    advance.advance(Round.objects.get(pk=round.pk))
    round.refresh_from_db()
    assert round.stage == Stage.FAILED
    assert "CUDA said no" in round.error
    rounds.retry(round)
    round.refresh_from_db()
    assert round.stage == Stage.REWARD
    assert Job.objects.get(kind="reward").state == Job.State.QUEUED
    with pytest.raises(ValueError, match="Only a failed round"):
        rounds.retry(round)


def test_a_cancelled_round_takes_its_jobs_and_campaign_along(round, rater, alice):
    at_label(round)
    vote_on_everything(rater, round.campaign)
    advance.advance(round)
    rounds.cancel(round, alice)
    round.refresh_from_db()
    assert round.stage == Stage.CANCELLED
    assert "alice" in round.error
    assert Job.objects.get(kind="reward").state == Job.State.CANCELLED
    advance.tick()
    round.refresh_from_db()
    assert round.stage == Stage.CANCELLED
    assert round.experiment.rounds.count() == 1  # a cancelled round is not followed by another


def test_only_one_round_of_an_experiment_is_in_progress(round):
    with pytest.raises(ValueError, match="still in progress"):
        rounds.begin(round.experiment)
    with pytest.raises(IntegrityError):
        Round.objects.create(experiment=round.experiment, number=2, policy_in=round.policy_in)


def test_a_paused_experiment_stands_still(round):
    Experiment.objects.update(state=Experiment.State.PAUSED)
    advance.tick()
    round.refresh_from_db()
    assert round.stage == Stage.PROMPTS


def vote_on_one(rater, round):
    from uuid import uuid4

    from plumbline.collect import queue

    ballot = queue.claim_next(rater, round.campaign)
    return queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]], strength=2), uuid4())
