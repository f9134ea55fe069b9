"""People's ratings by a campaign's own criteria, from the ballot to a trained reward model."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.collect import queue, versions
from plumbline.collect.models import Campaign
from plumbline.fleet import claims
from plumbline.fleet.supervise import supervise
from plumbline.loop import advance, campaigns, rounds, rows
from plumbline.loop.models import Round, Stage
from plumbline.policies.models import RewardModel
from tests.loop.conftest import SMALL
from tests.loop.test_advance import at_label

pytestmark = pytest.mark.django_db

SCALES = [
    {"name": "clarity", "question": "", "least": 1, "most": 5, "low": "", "high": ""},
    {"name": "truth", "question": "", "least": 0, "most": 10, "low": "", "high": ""},
]


@pytest.fixture
def asked_as(project):
    """A campaign that asks for ratings alone."""
    return Campaign.objects.create(
        project=project, name="Ratings", asks=["rate"], criteria=SCALES, guidelines="Be exact."
    )


@pytest.fixture
def experiment(experiment_of, asked_as):
    return experiment_of(
        asked_as=asked_as, pairs_from="reward_model", pair_rule="max_min",
        reward_objective="regression", reward_optimiser={**SMALL, "learning_rate": 3e-3},
    )  # fmt: skip


def rate(user, campaign: Campaign) -> int:
    """Rate everything through the queue: the longer an answer, the clearer."""
    count = 0
    while (ballot := queue.claim_next(user, campaign)) is not None:
        slots = {one.slot: one.completion.text for one in ballot.comparison.slots.all()}
        longest = max(slots, key=lambda slot: len(slots[slot]))
        ratings = {
            str(slot): {"clarity": 5 if slot == longest else 2, "truth": 5} for slot in slots
        }
        queue.cast(ballot, queue.Verdict("absolute", ratings=ratings), uuid4())
        count += 1
    return count


def after_labels(round: Round) -> Round:
    rounds.close_labels(round)
    advance.advance(Round.objects.get(pk=round.pk))
    return Round.objects.get(pk=round.pk)


def test_a_model_of_several_criteria_trains_on_what_people_rated(experiment, rater):
    round = at_label(rounds.begin(experiment))
    assert (round.campaign.asks, round.campaign.criteria) == (["rate"], SCALES)
    assert round.campaign.guidelines == "Be exact."
    assert rate(rater, round.campaign) == 10
    fresh = after_labels(round)
    assert fresh.stage == Stage.REWARD, fresh.error
    job = claims.claim("gpu", "here")
    assert (job.spec["kind"], job.spec["objective"]) == ("reward", "regression")
    supervise(job, lambda: False)
    job.refresh_from_db()
    assert job.state == "succeeded", job.error
    assert job.result["labels"]["reads"] == "ratings"
    apart = [one for one in rows.comparison_rows(fresh.ballots.all()) if one["heldout"]]
    assert job.result["trained_on"] == 4 * (10 - len(apart)), "two answers by two criteria each"
    advance.advance(fresh)
    model = RewardModel.objects.get()
    assert (model.objective, model.accuracy) == ("regression", None)
    assert Round.objects.get(pk=fresh.pk).stage in (Stage.SCORE, Stage.REWARD)


def test_a_rating_is_read_on_the_scale_its_voter_saw(project, alice, bob, asked_as, experiment):
    round = at_label(rounds.begin(experiment))
    campaign = round.campaign
    first = queue.claim_next(bob, campaign)
    told = {str(slot): {"clarity": 5, "truth": 5} for slot in first.shown}
    queue.cast(first, queue.Verdict("absolute", ratings=told), uuid4())
    wider = [{**SCALES[0], "most": 10}]
    versions.change(campaign, {"criteria": wider, "asks": ["compare", "rate"]}, alice)
    campaign = Campaign.objects.get(pk=campaign.pk)
    second = queue.claim_next(bob, campaign)
    told = {str(slot): {"clarity": 5} for slot in second.shown}
    best, worst = second.shown
    verdict = queue.Verdict("ranked", ranking=[[best], [worst]], strength=1, ratings=told)
    queue.cast(second, verdict, uuid4())
    old, new = rows.comparison_rows(campaigns.evidence(campaign.comparisons.all()))
    assert (old["preferences"], old["votes"][0]["ranking"]) == ([], [])
    assert old["votes"][0]["ratings"] == [
        (0, "clarity", 1.0), (0, "truth", 0.5), (1, "clarity", 1.0), (1, "truth", 0.5),
    ]  # fmt: skip
    assert new["votes"][0]["ratings"] == [(0, "clarity", 4 / 9), (1, "clarity", 4 / 9)]
    assert len(new["preferences"]) == 1


def test_a_round_without_ratings_says_that_its_objective_needs_them(experiment, rater):
    Campaign.objects.filter(pk=experiment.asked_as_id).update(asks=["compare"], criteria=[])
    experiment.asked_as.refresh_from_db()
    round = at_label(rounds.begin(experiment))
    while (ballot := queue.claim_next(rater, round.campaign)) is not None:
        verdict = queue.Verdict("ranked", ranking=[[slot] for slot in ballot.shown], strength=2)
        queue.cast(ballot, verdict, uuid4())
    fresh = after_labels(round)
    assert fresh.stage == Stage.FAILED
    assert "nobody rated an answer" in fresh.error


def test_an_evaluation_compares_whatever_else_people_were_asked(experiment):
    round = at_label(rounds.begin(experiment))
    judging = campaigns.open_campaign(round, Campaign.Purpose.EVALUATE)
    assert (judging.asks, judging.criteria) == (["compare"], [])
    assert judging.guidelines == "Be exact."
