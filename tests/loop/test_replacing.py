"""A retrained reward model is measured on votes it never saw, and judges only if it is no worse."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from align import jobs
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison, Completion
from plumbline.fleet.models import Job
from plumbline.judges.models import Score
from plumbline.loop import history, implicit, replacing, rows, unseen
from plumbline.loop.models import Example, Round, Stage
from plumbline.policies.models import Policy, RewardModel

pytestmark = pytest.mark.django_db


@pytest.fixture
def prompts(prompt_set):
    """Training prompts; the first four are held out from reward models, two of them for tests."""
    found = list(prompt_set.prompts.filter(split="train").order_by("pk"))
    for number, prompt in enumerate(found):
        bucket = number * 10 if number < 4 else number * 20 + 1
        prompt.digest = f"{bucket:08x}{prompt.digest[8:]}"
        prompt.save()
    return found


@pytest.fixture
def experiment(experiment_of):
    return experiment_of(rounds_wanted=2)


@pytest.fixture
def round_of(experiment, prompts, rater):
    """`round_of(number)`: a round with a vote for the first of two answers to every prompt."""

    def make(number: int) -> Round:
        made = Round.objects.create(
            experiment=experiment, number=number, policy_in=experiment.start, stage=Stage.REWARD
        )
        made.prompts.set(prompts)
        made.campaign = Campaign.objects.create(project=experiment.project, name=f"R{number}")
        made.save()
        for prompt in prompts:
            compared = Comparison.objects.create(campaign=made.campaign, prompt=prompt)
            for slot, words in enumerate(("good", "bad words")):
                text = f"{words} {number}"
                answer = Completion.objects.create(prompt=prompt, text=text, batch=uuid4())
                Candidate.objects.create(comparison=compared, completion=answer, slot=slot)
            now = timezone.now()
            made.ballots.add(
                Ballot.objects.create(
                    comparison=compared,
                    annotator=rater,
                    shown=[0, 1],
                    claimed_at=now,
                    expires_at=now + timedelta(minutes=5),
                    cast_at=now,
                    outcome="ranked",
                    ranking=[[0], [1]],
                )
            )
        return made

    return make


@pytest.fixture
def model_that(project):
    """`model_that(likes)`: a reward model that has scored every answer, those that begin with
    `likes` a point higher."""

    def make(likes: str) -> RewardModel:
        made = RewardModel.objects.create(
            project=project, name=f"likes-{likes}-{uuid4().hex[:6]}", path="/r", ballots_used=1
        )
        draw = random.Random(likes)
        for answer in Completion.objects.order_by("pk"):
            value = float(answer.text.startswith(likes)) + draw.gauss(0, 0.01)
            Score.objects.create(completion=answer, reward_model=made, value=value)
        return made

    return make


@pytest.fixture
def second_round(round_of, model_that):
    """The second round of an experiment whose first model knows what people like."""
    first = round_of(1)
    first.stage = Stage.DONE
    first.save()
    second = round_of(2)
    first.reward_model = model_that("good")
    first.save()
    return second


def test_the_first_model_judges_and_says_how_well_it_foretells(round_of, model_that):
    only = round_of(1)
    model = model_that("good")
    assert replacing.accepted(only, model) == model
    measured = model.metrics["measured"]
    votes = {one["name"]: one["votes"] for one in measured["slices"]}
    assert votes == {"people": 4, "test": 2, "prompts": 2, "fresh": 4, "shorter": 4}
    assert measured["slices"][0]["accuracy"] == {"value": 1, "low": 1, "high": 1, "prompts": 4}
    assert measured["length"]["value"] == pytest.approx(-1, abs=0.01)  # it likes the short answer
    assert measured["probe"]["answers"] == 24
    assert [one["name"] for one in only.figures["reward_gate"]["checks"]] == ["first model"]


def test_a_model_as_good_replaces_the_last_one(second_round, model_that):
    candidate = model_that("good")
    assert replacing.accepted(second_round, candidate) == candidate
    assert second_round.figures["reward_gate"]["passed"]
    previous = candidate.metrics["measured"]["previous"]
    assert previous["accuracy"]["value"] == 0
    assert previous["distance"]["value"] < 0.05


def test_a_worse_model_is_turned_down_and_the_last_one_judges_on(second_round, model_that):
    last = replacing.incumbent(second_round)
    candidate = model_that("bad")
    assert replacing.accepted(second_round, candidate) == last
    gate = second_round.figures["reward_gate"]
    assert not gate["passed"]
    by_name = {check["name"]: check for check in gate["checks"]}
    assert by_name["held-out accuracy"]["values"]["change"] == -1
    assert not by_name["length correlation"]["passed"]  # it likes the longer answers
    assert candidate.metrics["gate"] == {k: gate[k] for k in ("passed", "checks")}
    assert candidate.metrics["measured"]["previous"]["distance"]["value"] > 0.95


def test_the_last_model_is_measured_on_the_newest_votes_before_anything_trains_on_them(
    second_round, model_that
):
    replacing.accepted(second_round, model_that("good"))
    last = replacing.incumbent(second_round)
    assert last is not None
    assert last.metrics["on_policy"]["2"]["votes"] == 12
    assert last.metrics["on_policy"]["2"]["accuracy"]["value"] == 1


def test_only_answers_without_a_score_of_the_model_are_scored(second_round, model_that):
    candidate = model_that("good")
    forgotten = candidate.scores.first()
    forgotten.delete()
    assert replacing.accepted(second_round, candidate) is None
    job = Job.objects.get(asked_by__round=second_round)
    items = list(jobs.read_rows(job.folder / jobs.ITEMS))
    assert [row["id"] for row in items] == [str(forgotten.completion_id)]
    assert replacing.accepted(second_round, candidate) is None  # asked once
    assert Job.objects.count() == 1
    score = {
        "id": items[0]["id"], "reward": forgotten.value, "members": [forgotten.value],
        "spread": None, "logps": {}, "token_logps": {}, "tokens": 1,
    }  # fmt: skip
    jobs.write_rows(job.folder / jobs.SCORES, [score])
    Job.objects.update(state=Job.State.SUCCEEDED, result={"scored": 1})
    assert replacing.accepted(second_round, candidate) == candidate
    assert candidate.scores.filter(completion=forgotten.completion_id).exists()


def test_the_fixed_answers_stay_the_same_over_rounds(second_round):
    first = second_round.experiment.rounds.get(number=1)
    assert unseen.probe(first) == unseen.probe(second_round)
    assert len(unseen.probe(first)) == 24


def test_votes_of_held_out_annotators_and_prompts_never_train(second_round, rater):
    ballots = list(history.aged_ballots(second_round))
    usual = [row["heldout"] for row in rows.comparison_rows(ballots)]
    assert usual.count(True) == 8  # four prompts, two rounds
    assert len(usual) == 24
    assert all(row["heldout"] for row in rows.comparison_rows(ballots, apart=frozenset({rater.pk})))


def test_the_policys_implicit_reward_is_measured_beside_the_explicit_one(
    second_round, model_that, project
):
    """The round's first policy was trained, and likes what people do not."""
    trained = Policy.objects.create(
        project=project,
        name="trained",
        weights="lora",
        path="/w",
        base_model="/base",
        parent=second_round.experiment.start,
    )
    second_round.policy_in = trained
    second_round.save()
    candidate = model_that("good")
    assert replacing.accepted(second_round, candidate) is None
    job = Job.objects.get(asked_by__purpose="measure:implicit")
    policies = job.spec["policies"]
    assert policies["policy"]["adapter"] == "/w"
    rows_of_scores = [
        {
            "id": row["id"],
            "reward": None,
            "members": [],
            "spread": None,
            "logps": {"policy": -5.0 * row["response"]["text"].startswith("good"), "start": -2.0},
            "token_logps": {},
            "tokens": 2,
        }
        for row in jobs.read_rows(job.folder / jobs.ITEMS)
    ]
    jobs.write_rows(job.folder / jobs.SCORES, rows_of_scores)
    Job.objects.update(state=Job.State.SUCCEEDED, result={"scored": 1})
    assert replacing.accepted(second_round, candidate) == candidate
    last = replacing.incumbent(second_round)
    assert last is not None
    found = {(row["votes"], row["scorer"]): row for row in last.metrics["implicit"]["2"]["rows"]}
    assert found["outside", "explicit"]["accuracy"]["value"] == 1
    assert found["outside", "implicit"]["accuracy"]["value"] == 0
    assert found["outside", "implicit"]["less_explicit"]["value"] == -1
    assert found["outside", "explicit"]["count"] == 12
    assert found["inside", "explicit"]["count"] == 4  # those that were held out in round 1


def test_votes_that_trained_the_policy_say_nothing_of_it_in_distribution(second_round):
    votes = unseen.votes(second_round)
    assert len(implicit.never_trained(second_round, votes)) == 4
    first = second_round.experiment.rounds.get(number=1)
    held = next(vote.prompt for vote in votes if vote.part)
    Example.objects.create(round=first, prompt_id=held, rule="voted")
    assert len(implicit.never_trained(second_round, votes)) == 3


def test_a_policy_equal_to_its_start_has_no_implicit_reward(second_round):
    assert not implicit.applies(second_round)
