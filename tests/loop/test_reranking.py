"""After a new reward model: what waits for votes is asked in its order, and says so truly."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.utils import timezone

from plumbline.collect import queue
from plumbline.collect.models import Campaign, Comparison, Completion
from plumbline.judges.models import Score
from plumbline.loop import advance, campaigns, reranking
from plumbline.loop.models import Experiment, Round, Stage
from plumbline.policies.models import RewardModel
from tests.collect import crowd
from tests.comparisons import compare

pytestmark = pytest.mark.django_db

# Margins of two members by question: the further they are apart, the more a vote tells.
FIRST = {0: (3, -3), 1: (2, -2), 2: (0, 0), 3: (1, -1)}
SECOND = {0: (0, 0), 1: (1, -1), 2: (2, -2), 3: (3, -3)}


@pytest.fixture
def experiment(experiment_of):
    return experiment_of(rounds_wanted=2, selection="disagreement", pairs_from="reward_model")


def round_of(experiment: Experiment, number: int, stage: Stage) -> Round:
    made = Round.objects.create(
        experiment=experiment, number=number, policy_in=experiment.start, stage=stage
    )
    made.campaign = campaigns.open_campaign(made, Campaign.Purpose.TRAIN)
    made.save()
    return made


def model_of(project, campaign: Campaign, margins) -> RewardModel:
    """A reward model of two members with these opinions of the campaign's questions."""
    name = f"model-{uuid4().hex[:6]}"
    made = RewardModel.objects.create(project=project, name=name, path="/r", ballots_used=1)
    for comparison in campaign.comparisons.all():
        number = int(str(comparison.prompt).split()[1].rstrip("?"))
        for slot in comparison.slots.all():
            members = [float(margin) * (slot.slot == 0) for margin in margins[number]]
            Score.objects.create(
                completion=slot.completion, reward_model=made, value=0.0, members=members
            )
    return made


@pytest.fixture
def second_round(experiment, prompt_set, project):
    """A second round whose reward model is new; the first one's campaign is open again. It asks
    four pairs picked by disagreement and, between them, one picked by chance."""
    first = round_of(experiment, 1, Stage.DONE)
    for number in (0, 1, 9, 2, 3):
        part = "random" if number == 9 else "informed"
        compare(
            first.campaign, prompt_set, f"Number {number}?", [f"A{number}", f"B{number}"],
            strategy="disagreement", p_select=0.25, why={"part": part, "chance": 0.5, "rank": 1},
        )  # fmt: skip
    margins = {**FIRST, 9: (5, -5)}
    first.reward_model = model_of(project, first.campaign, margins)
    first.save()
    second = round_of(experiment, 2, Stage.SCORE)
    second.campaign.closed_at = timezone.now()
    second.campaign.save()
    second.reward_model = model_of(project, first.campaign, {**SECOND, 9: (5, -5)})
    second.save()
    return second


def asked(campaign: Campaign) -> list[int]:
    found = campaign.comparisons.order_by("-priority", "pk").select_related("prompt")
    return [int(str(one.prompt).split()[1].rstrip("?")) for one in found]


def opened(experiment: Experiment) -> Campaign:
    return experiment.rounds.get(number=1).campaign


def test_what_waits_is_asked_best_first_and_what_chance_picked_keeps_its_place(
    second_round, experiment, rater
):
    campaign = opened(experiment)
    assert asked(campaign) == [0, 1, 9, 2, 3]
    assert reranking.done(second_round)
    assert asked(campaign) == [3, 2, 9, 1, 0]
    assert str(queue.claim_next(rater, campaign).comparison.prompt) == "Number 3?"
    assert campaign.comparisons.order_by("-priority").first().priority == 0, "urgent ones go first"
    assert reranking.done(second_round)
    assert asked(campaign) == [3, 2, 9, 1, 0]


def test_why_and_how_likely_it_was_picked_stay_and_the_new_figures_stand_beside(
    second_round, experiment
):
    reranking.done(second_round)
    for one in opened(experiment).comparisons.all():
        assert (one.p_select, one.why["chance"], one.why["rank"]) == (0.25, 0.5, 1)
        if one.why["part"] == "random":
            assert reranking.RERANKED not in one.why
        else:
            assert one.why[reranking.RERANKED] == second_round.reward_model.name
            assert 0 <= one.why["information now"] <= 0.7


def test_what_has_answers_or_is_before_somebody_is_not_moved(second_round, experiment, rater, bob):
    campaign = opened(experiment)
    Campaign.objects.filter(pk=campaign.pk).update(overlap=3)
    campaign.refresh_from_db()
    first = campaign.comparisons.order_by("pk").first()
    crowd.vote(bob, first, [[0], [1]])
    reranking.done(second_round)
    assert asked(campaign) == [0, 3, 9, 2, 1]
    first.refresh_from_db()
    assert reranking.RERANKED not in first.why


def test_scores_of_another_model_are_never_read_and_missing_ones_are_asked_of_a_job(
    second_round, experiment
):
    unscored = Comparison.objects.get(prompt__messages__0__content="Number 3?")
    mine = Score.objects.filter(reward_model=second_round.reward_model)
    mine.filter(completion__in=unscored.candidates.all()).delete()
    assert not reranking.done(second_round), "a job scores what waits"
    job = second_round.jobs.get(purpose="rescore").job
    assert job.spec["reward_model"] == second_round.reward_model.path
    assert asked(opened(experiment)) == [0, 1, 9, 2, 3]
    assert advance.score_samples(second_round) is None, "the round waits for it"
    for answer in Completion.objects.filter(pk__in=unscored.candidates.all()):
        assert answer.scores.count() == 1
    assert reranking.rerank(opened(experiment), second_round.reward_model) == 3
    assert asked(opened(experiment)) == [2, 1, 9, 0, 3], "without a word of the new one it stays"


def test_nothing_moves_where_the_gate_kept_the_last_model_or_the_campaign_is_closed(
    second_round, experiment
):
    kept = experiment.rounds.get(number=1)
    second_round.reward_model, new = kept.reward_model, second_round.reward_model
    assert reranking.done(second_round)
    assert asked(kept.campaign) == [0, 1, 9, 2, 3]
    second_round.reward_model = new
    Campaign.objects.filter(pk=kept.campaign_id).update(closed_at=timezone.now())
    assert reranking.done(second_round)
    assert asked(kept.campaign) == [0, 1, 9, 2, 3]
