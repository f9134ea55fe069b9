"""What trains and judges policies: votes on comparisons asked in earnest, by people kept in."""

from __future__ import annotations

import random

import pytest

from plumbline.collect.models import Ballot, Campaign, Comparison, Completion
from plumbline.collect.quality import people, planting
from plumbline.loop import advance, campaigns, evaluation, examples, rounds, rows
from plumbline.loop.models import Experiment, Round, Stage
from tests.collect import crowd
from tests.loop.test_advance import at_label

pytestmark = pytest.mark.django_db

FIRST = [[0], [1]]


@pytest.fixture
def round(experiment_of):
    return at_label(rounds.begin(experiment_of()))


def special_votes(campaign: Campaign, user) -> list[Ballot]:
    """One vote each on a planted gold, on a gold made by hand, on a repeat and in training."""
    first = campaign.comparisons.order_by("pk").first()
    again = Comparison.objects.create(
        campaign=campaign, prompt=first.prompt, kind="repeat", repeats=first, only_for=user
    )
    training = Comparison.objects.create(
        campaign=campaign, prompt=first.prompt, kind="training", expected={"outcome": "all_bad"}
    )
    for copy in (again, training):
        for slot in first.slots.all():
            copy.slots.create(completion=slot.completion, slot=slot.slot)
    asked = [*planting.plant(campaign, 1, random.Random(0)), crowd.gold(campaign), again, training]
    return [crowd.vote(user, comparison, FIRST) for comparison in asked]


def close(round: Round) -> Round:
    rounds.close_labels(round)
    advance.advance(Round.objects.get(pk=round.pk))
    fresh = Round.objects.get(pk=round.pk)
    assert fresh.stage == Stage.REWARD, fresh.error
    return fresh


def test_a_round_freezes_and_trains_on_no_gold_no_repeat_and_no_training(round, rater):
    ordinary = [
        crowd.vote(rater, comparison, FIRST)
        for comparison in list(round.campaign.comparisons.order_by("pk"))
    ]
    special = special_votes(round.campaign, rater)
    fresh = close(round)
    frozen = set(fresh.ballots.all())
    assert frozen == set(ordinary)
    assert not frozen & set(special)
    learned = list(rows.comparison_rows(fresh.ballots.all()))
    of = {row["id"].removesuffix(":heldout") for row in learned}
    assert of == {str(ballot.comparison_id) for ballot in ordinary}
    assert all(row["heldout"] == row["id"].endswith(":heldout") for row in learned)


def test_planted_answers_reach_no_training_example(round, rater):
    for comparison in list(round.campaign.comparisons.order_by("pk")):
        crowd.vote(rater, comparison, FIRST)
    special_votes(round.campaign, rater)
    fresh = close(round)
    examples.freeze(fresh)
    used = Completion.objects.filter(pk__in=fresh.examples.values("answers__completion"))
    assert used.exists()
    assert not used.filter(origin__startswith=planting.ORIGIN).exists()
    assert not used.filter(text__startswith="Bad ").exists()


def test_votes_on_known_comparisons_alone_are_nothing_to_learn_from(round, rater):
    special_votes(round.campaign, rater)
    rounds.close_labels(round)
    advance.advance(Round.objects.get(pk=round.pk))
    fresh = Round.objects.get(pk=round.pk)
    assert fresh.stage == Stage.FAILED
    assert "Nobody ranked" in fresh.error


def test_an_excluded_persons_votes_are_left_out(round, rater, bob):
    asked = list(round.campaign.comparisons.order_by("pk"))
    mine = [crowd.vote(rater, comparison, FIRST) for comparison in asked[:4]]
    for comparison in asked[4:]:
        crowd.vote(bob, comparison, FIRST)
    people.exclude(round.campaign, bob, "Guesses.")
    assert set(close(round).ballots.all()) == set(mine)


def test_known_comparisons_judge_no_policy(round, rater):
    judging = campaigns.open_campaign(round, Campaign.Purpose.EVALUATE)
    for comparison in list(round.campaign.comparisons.order_by("pk")[:3]):
        face_off = Comparison.objects.create(campaign=judging, prompt=comparison.prompt)
        for slot in comparison.slots.all():
            face_off.slots.create(completion=slot.completion, slot=slot.slot)
        crowd.vote(rater, face_off, FIRST)
    special_votes(judging, rater)
    round.evaluation_campaign = judging
    found = evaluation._by_people(round, identical=0)
    assert (found.wins, found.ties, found.losses) == (3, 0, 0)


def test_a_set_that_was_only_tested_with_has_nothing_to_offer_an_offline_round(
    experiment_of, project, rater
):
    experiment = experiment_of(labels=Experiment.Labels.BALLOTS)
    prompt = experiment.prompt_set.prompts.filter(split="train").first()
    campaign = Campaign.objects.create(project=project, name="Tests")
    known = Comparison.objects.create(
        campaign=campaign, prompt=prompt, kind="gold", expected={"outcome": "all_bad"}
    )
    ballot = crowd.vote(rater, known, FIRST, shown=[0, 1])
    assert not campaigns.evidence(campaigns.offline(experiment)).exists()
    Comparison.objects.filter(pk=known.pk).update(kind="ordinary")
    assert list(campaigns.evidence(campaigns.offline(experiment))) == [ballot]
