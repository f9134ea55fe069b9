"""A round's reward model as the experiment wants it: its objective, its members, its labels."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from align import jobs, objectives
from align.algorithm import Example
from align.ensemble import Ensemble
from align.labels import Labels
from align.measure import pairs
from plumbline.collect.models import Ballot, Completion
from plumbline.fleet.models import Job
from plumbline.judges.models import Score
from plumbline.loop import history, quality, rewarding, rounds, rows, unseen
from plumbline.loop.agreement import Members
from plumbline.loop.models import Example as TrainingExample
from plumbline.loop.models import Experiment, Stage
from plumbline.policies.models import RewardModel
from tests.comparisons import open_campaign
from tests.loop.conftest import run_round

pytestmark = pytest.mark.django_db


def cast(comparison, who, **fields) -> Ballot:
    now = timezone.now()
    return Ballot.objects.create(
        comparison=comparison, annotator=who, seat=0, shown=[0, 1], outcome="ranked",
        claimed_at=now, expires_at=now + timedelta(minutes=1), cast_at=now, **fields,
    )  # fmt: skip


MEMBERS = {"members": 3, "reading": "uncertainty"}


@pytest.fixture
def served(engine, settings):
    settings.ENGINE_URL = engine.url


@pytest.mark.sqlite
def test_a_round_with_members_keeps_what_each_said_and_tells_what_became_of_labels(
    experiment_of, rater, served
):
    experiment = experiment_of(
        reward_form="probe",
        reward_ensemble=MEMBERS,
        reward_labels={"raters": True, "newest": 2.0},
        agreement=Experiment.Agreement.WEIGHT,
        pairs_from=Experiment.Pairs.REWARD_MODEL,
        pair_rule="max_min",
    )
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    scores = Score.objects.filter(reward_model=round.reward_model)
    assert scores.count() > 0
    assert all(len(one.members) == 3 and one.spread >= 0 for one in scores)
    agreed = round.figures["agreement"]
    assert agreed["pairs"] >= agreed["kept"] == round.examples.count()
    assert all(example.weight < 1 for example in round.examples.all())
    told = round.reward_model.metrics["labels"]
    assert told["votes"] == round.ballots.filter(outcome="ranked").count()
    assert list(told["raters"]) == [str(rater.pk)]
    job = jobs.from_json(Job.objects.get(kind="reward").spec)
    assert job.ensemble == Ensemble(**MEMBERS)


@pytest.mark.sqlite
def test_no_reward_model_learns_from_labels_that_a_model_made(experiment_of, rater, served):
    """A round paired by scores: what its reward model learned from are the ballots, and neither
    scores nor the pairs made of them change a vote of the next one's."""
    experiment = experiment_of(
        reward_form="probe",
        samples_per_prompt=4,
        pairs_from=Experiment.Pairs.REWARD_MODEL,
        pair_rule="max_min",
    )
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    job = Job.objects.get(kind="reward")
    learned = list(jobs.read_rows(job.folder / jobs.COMPARISONS))
    cast = Ballot.objects.filter(rounds=round, outcome="ranked")
    assert {
        (row["id"].removesuffix(":heldout"), vote["rater"], str(vote["ranking"]))
        for row in learned
        for vote in row["votes"]
    } == {(str(one.comparison_id), str(rater.pk), str(one.ranking)) for one in cast}
    voted_on = [{answer["id"] for answer in row["responses"]} for row in learned]
    made = [
        {str(answer.completion_id) for answer in example.answers.all()}
        for example in round.examples.all()
    ]
    by_scores_alone = [pair for pair in made if not any(pair <= some for some in voted_on)]
    assert by_scores_alone
    Score.objects.update(value=-F("value"))
    TrainingExample.objects.update(p=1 - F("p"))
    assert (
        json.loads(json.dumps(list(rows.comparison_rows(history.aged_ballots(round))))) == learned
    )


@pytest.mark.sqlite
def test_the_temperature_of_a_new_model_starts_from_what_its_folds_found(
    experiment_of, rater, served
):
    experiment = experiment_of(reward_form="probe", pairs_from=Experiment.Pairs.REWARD_MODEL)
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    model = round.reward_model
    believed = pairs.Belief.of(model.metrics)
    assert believed != pairs.UNKNOWN
    untrained = [vote for vote in unseen.votes(round) if vote.part]
    scores = dict(Score.objects.filter(reward_model=model).values_list("completion_id", "value"))
    assert model.temperature == quality.temperature(untrained, scores, believed)
    assert model.temperature != quality.temperature(untrained, scores)


def test_a_new_experiments_model_is_folded_and_one_fold_is_refused(experiment_of):
    usual = Experiment._meta.get_field("reward_folds").get_default()
    spec = rewarding.spec(rounds.begin(experiment_of(reward_folds=usual)))
    assert spec.folds == usual == 3
    objective = objectives.get("bradley_terry")
    (refused,) = rewarding.refusals(objective, {"reward_folds": 1, "agreement": "none"})
    assert refused == (
        "reward_folds",
        "One fold leaves no other to learn from; ask for two or more, or 0.",
    )


def test_comparison_rows_carry_every_ballot_as_it_was_cast(experiment_of, project, alice):
    round = rounds.begin(experiment_of())
    campaign = open_campaign(project, comparisons=2)
    for comparison, fields in zip(
        campaign.comparisons.order_by("pk"),
        (
            {"ranking": [[1], [0]], "strength": 3},
            {"ranking": [[0], [1]], "probability": 0.8},
        ),
        strict=True,
    ):
        round.ballots.add(cast(comparison, alice, **fields))
    made = list(rows.comparison_rows(history.aged_ballots(round)))
    mine = {"rater": str(alice.pk), "age": 0}
    assert [row["votes"] for row in made] == [
        [{**mine, "ranking": [[1], [0]], "strength": 3, "p": None, "human": True}],
        [{**mine, "ranking": [[0], [1]], "strength": None, "p": 0.8, "human": False}],
    ]
    assert [row["preferences"] for row in made] == [[(0, 1, 0.0, 1.0)], [(0, 1, 0.8, 1.0)]]


def test_a_ballot_grows_older_with_every_round_that_freezes_others(experiment_of, project, alice):
    experiment = experiment_of()
    first = rounds.begin(experiment)
    experiment.rounds.update(stage=Stage.DONE)
    second = rounds.begin(experiment)
    campaign = open_campaign(project, comparisons=3)
    old, again, new = (
        cast(comparison, alice, ranking=[[0], [1]])
        for comparison in campaign.comparisons.order_by("pk")
    )
    first.ballots.set([old, again])
    second.ballots.set([again, new])  # frozen again: as old as when it was first
    ages = {ballot.pk: ballot.age for ballot in history.aged_ballots(second)}
    assert ages == {old.pk: 1, again.pk: 1, new.pk: 0}


def test_the_implicit_reward_is_the_rounds_own_policys(experiment_of):
    experiment = experiment_of(reward_objective="implicit", processes=2)
    spec = rewarding.spec(rounds.begin(experiment))
    assert spec.policy == experiment.start.ref
    assert spec.processes == 1
    plain = rewarding.spec(rounds.begin(experiment_of(name="Plain", processes=2)))
    assert (plain.policy, plain.processes) == (None, 2)
    assert (plain.ensemble, plain.labels) == (Ensemble(), Labels())


@pytest.mark.parametrize(
    ("rule", "members", "weight"),
    [
        ("none", ([1.0] * 5, [0.0] * 5), 1.0),
        ("keep", ([1, 1, 1, 1, 0], [0, 0, 0, 0, 1]), 1.0),
        ("keep", ([1, 1, 1, 0, 0], [0, 0, 0, 1, 1]), None),
        ("weight", ([1.0, -1.0], [-1.0, 1.0]), None),
        ("weight", ([9.0, 9.0], [-9.0, -9.0]), pytest.approx(1, abs=1e-6)),
        ("keep", ([], []), 1.0),  # of an answer that no member could score nothing is known
    ],
)
def test_a_pair_stays_as_far_as_members_agree_on_it(
    experiment_of, prompt_set, rule, members, weight
):
    experiment = experiment_of(agreement=rule)
    round = rounds.begin(experiment)
    round.reward_model = RewardModel.objects.create(
        project=experiment.project, name="several", objective="bradley_terry", path="/", sha256="",
        ballots_used=1,
    )  # fmt: skip
    answers = [
        Completion.objects.create(prompt=prompt_set.prompts.first(), text=text) for text in "ab"
    ]
    for answer, said in zip(answers, members, strict=True):
        Score.objects.create(
            completion=answer, reward_model=round.reward_model, value=0, members=said
        )
    asked = Members(round)
    found = asked.settle([one.pk for one in answers], Example({"chosen": 0, "rejected": 1}))
    assert (found.weight if found else None) == weight
    if rule != "none" and members[0]:
        assert asked.figures() == {"pairs": 1, "kept": int(found is not None)}
