"""A round's reward model as the experiment wants it: its objective, its members, its labels."""

from __future__ import annotations

import pytest

from align import jobs
from align.algorithm import Example
from align.ensemble import Ensemble
from plumbline.collect.models import Ballot, Completion
from plumbline.fleet.models import Job
from plumbline.judges.models import Score
from plumbline.loop import rewarding, rounds, rows
from plumbline.loop.agreement import Members
from plumbline.loop.models import Experiment, Stage
from plumbline.policies.models import RewardModel
from tests.loop.conftest import run_round

pytestmark = pytest.mark.django_db
MEMBERS = {"members": 3, "reading": "uncertainty"}


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


def test_a_round_with_members_keeps_what_each_said_and_tells_what_became_of_labels(
    experiment_of, rater
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


def test_comparison_rows_carry_every_ballot_as_it_was_cast(experiment_of, rater):
    experiment = experiment_of(judge="people", autopilot=False)
    round = run_round(rounds.begin(experiment), rater)
    made = list(rows.comparison_rows(rows.frozen_ballots(experiment)))
    cast = {one.comparison_id: one for one in round.ballots.filter(outcome="ranked")}
    assert {int(one["id"]) for one in made} == set(cast)
    for row in made:
        ballot = cast[int(row["id"])]
        assert row["votes"] == [
            {
                "rater": str(rater.pk), "ranking": ballot.ranking, "strength": ballot.strength,
                "p": None, "human": True, "age": 0,
            }
        ]  # fmt: skip


def test_a_ballot_grows_older_with_every_round_that_freezes_others(experiment_of, rater):
    experiment = experiment_of(judge="people", autopilot=False)
    first = run_round(rounds.begin(experiment), rater)
    experiment.rounds.filter(pk=first.pk).update(stage=Stage.DONE)
    second = rounds.begin(experiment)
    ballots = list(Ballot.objects.all())
    first.ballots.set(ballots)
    second.ballots.set(ballots[:2])  # frozen again: as old as when it was first
    assert {one.age for one in rows.frozen_ballots(experiment)} == {1}


def test_the_implicit_reward_is_the_rounds_own_policys(experiment_of):
    experiment = experiment_of(reward_objective="implicit", processes=2)
    spec = rewarding.spec(rounds.begin(experiment))
    assert spec.policy == experiment.start.ref
    assert spec.processes == 1
    plain = rewarding.spec(experiment_of(name="Plain").rounds.model(
        experiment=experiment_of(name="Third", processes=2), policy_in=experiment.start, number=1
    ))  # fmt: skip
    assert (plain.policy, plain.processes) == (None, 2)
    assert (plain.ensemble, plain.labels) == (Ensemble(), rewarding.Labels())


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
