"""Constitutions, reward models and generative models as judges; endpoints that cannot be."""

from __future__ import annotations

import math
import statistics
from datetime import timedelta

import pytest
from django.utils import timezone

from align import jobs
from plumbline.collect.models import Ballot, Completion
from plumbline.judges import asking, casting, constitutions, endpoints, judges, people, revising
from plumbline.judges.models import Revision, Verdict
from plumbline.loop import campaigns
from plumbline.policies.models import RewardModel
from tests.comparisons import open_campaign
from tests.scripted import Scripted, letters, shown

pytestmark = pytest.mark.django_db


@pytest.fixture
def constitution(project):
    made = constitutions.add(project, "House rules")
    constitutions.state(made, "Be brief.", 3)
    constitutions.state(made, "Be kind.", 1)
    return made


def pairs_of(campaign):
    return [pair for _, pair in casting.pairs(campaign.comparisons.all())]


def by_principle(body):
    """Brevity prefers the first answer that was made, kindness the second."""
    (one, first), (two, _) = shown(body)
    wants_first = "Be brief." in body["messages"][-1]["content"]
    best, worst = (one, two) if first.endswith(".0") == wants_first else (two, one)
    return letters(**{best: 0.9, worst: 0.1})


def test_all_principles_are_averaged_and_one_that_is_off_has_no_influence(
    project, endpoint, constitution, work, stub
):
    stub.answer = by_principle
    knobs = {"principles": "all", "labels": "random"}
    version = judges.make(
        project, "Con", "constitution", knobs, endpoint=endpoint, constitution=constitution
    )
    pairs = pairs_of(open_campaign(project, comparisons=1))
    asking.ask(version, pairs, "A pair")
    work()
    row = Verdict.objects.get()
    p = 1 / (1 + math.exp(-(0.75 - 0.25) * math.log(9)))
    first = pairs[0][0].pk == row.first_id
    assert row.p == pytest.approx(p if first else 1 - p)
    assert [one["weight"] for one in row.detail["principles"]] == [0.75, 0.25]
    assert len(stub.bodies) == 4

    kind = constitution.principles.get(text="Be kind.")
    constitutions.change(kind, "Be kind.", 1, active=False)
    assert constitutions.outdated(constitution) == [version.judge]
    newer = judges.revise(version.judge, knobs, endpoint=endpoint, constitution=constitution)
    assert newer.number == 2
    assert constitutions.outdated(constitution) == []
    asking.ask(newer, pairs, "A pair")
    work()
    again = Verdict.objects.get(version=newer)
    assert again.p == pytest.approx(0.9 if first else 0.1)
    assert not any("Be kind." in body["messages"][-1]["content"] for body in stub.bodies[4:])
    assert version.settings["principles"] != newer.settings["principles"]


def test_answers_are_revised_beside_their_originals_and_train_nothing_by_themselves(
    project, endpoint, constitution, work, stub
):
    def answer(body):
        if len(body["messages"]) == 1:
            return "It rambles."
        return "" if "Answer 1.0" in body["messages"][0]["content"] else "Briefly so."

    stub.answer = answer
    version = judges.make(
        project, "Con", "constitution", {}, endpoint=endpoint, constitution=constitution
    )
    open_campaign(project, comparisons=2)
    answers = list(Completion.objects.filter(text__endswith=".0").order_by("text"))
    made = revising.ask(version, answers, "Revised")
    work()
    made.refresh_from_db()
    (found,) = Revision.objects.all()
    assert (found.original, found.critique) == (answers[0], "It rambles.")
    assert (found.revised.text, found.revised.policy) == ("Briefly so.", None)
    assert found.revised.origin.startswith("Con v1, by principle ")
    ballot = Ballot.objects.get(comparison=found.comparison)
    assert (ballot.annotator, ballot.probability) == (version.judge.account, 0.95)
    assert made.campaign.purpose == "train"
    assert revising.gather(made) == 0

    assert not campaigns.evidence(made.campaign.comparisons.all()).exists()
    revising.include(made, included=True)
    assert campaigns.evidence(made.campaign.comparisons.all()).count() == 1
    revising.include(made, included=False)
    assert not campaigns.evidence(made.campaign.comparisons.all()).exists()


def reward_model(project, objective="bradley_terry", temperature=2.0):
    return RewardModel.objects.create(
        project=project, name="rm", objective=objective, path="/rm", sha256="ab", ballots_used=9,
        temperature=temperature,
    )  # fmt: skip


def test_a_reward_model_is_sigma_of_the_difference_over_its_temperature(
    project, settings, tmp_path
):
    """Scores 3 and 1 at temperature 2 are sigma(1); members are read by hand in each way."""
    settings.RUNS_DIR = tmp_path
    model = reward_model(project)
    members = [[1.0, 3.0, 5.0], [0.0, 2.0, 1.0]]
    (pair,) = pairs_of(open_campaign(project, comparisons=1))
    by_hand = {
        "as trained": (3.0 - 1.0, {}),
        "mean": (3.0 - 1.0, {}),
        "worst": (1.0 - 0.0, {}),
        "uncertainty": (
            (3.0 - 0.5 * statistics.variance(members[0]))
            - (1.0 - 0.5 * statistics.variance(members[1])),
            {"penalty": 0.5},
        ),
    }
    for number, (reading, (difference, more)) in enumerate(by_hand.items()):
        knobs = {"reading": reading, **more}
        version = judges.make(project, reading, "reward_model", knobs, reward_model=model)
        assert version.settings["temperature"] == 2.0
        job = asking.ask(version, [pair], "Scores")
        rows = [
            {"id": str(answer.pk), "reward": score, "members": member}
            for answer, score, member in zip(pair, (3.0, 1.0), members, strict=True)
        ]
        jobs.write_rows(job.folder / jobs.SCORES, rows)
        job.state, job.result = "succeeded", {}
        job.save()
        assert asking.gather(version, job) == 1, number
        row = Verdict.objects.get(version=version)
        p = 1 / (1 + math.exp(-difference / 2))
        assert row.p == pytest.approx(p if row.first_id == pair[0].pk else 1 - p, abs=1e-12)
        assert row.q_first + row.q_second == 1.0
        assert row.consistent


def test_what_a_reward_model_cannot_score_has_no_verdict(project, settings, tmp_path):
    settings.RUNS_DIR = tmp_path
    version = judges.make(project, "RM", "reward_model", {}, reward_model=reward_model(project))
    (pair,) = pairs_of(open_campaign(project, comparisons=1))
    job = asking.ask(version, [pair], "Scores")
    rows = [{"id": str(one.pk), "reward": None, "members": []} for one in pair]
    jobs.write_rows(job.folder / jobs.SCORES, rows)
    job.state, job.result = "succeeded", {}
    job.save()
    asking.gather(version, job)
    row = Verdict.objects.get()
    assert (row.p, "could not score" in row.error) == (None, True)


def test_models_that_score_and_models_that_compare_are_kinds_of_their_own(project):
    model = reward_model(project, "pairwise_generative")
    with pytest.raises(ValueError, match="choose the generative kind"):
        judges.make(project, "RM", "reward_model", {}, reward_model=model)
    judges.make(project, "Gen", "generative", {}, reward_model=model)
    model.objective = "bradley_terry"
    model.save()
    with pytest.raises(ValueError, match="choose the kind reward model"):
        judges.make(project, "RM", "generative", {}, reward_model=model)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"url": "ftp://judge/v1"}, "https:// or http://"),
        ({"url": "file:///etc/passwd"}, "https:// or http://"),
        ({"url": "https://user:word@judge/v1"}, "name or a password"),
        ({"url": "https://judge/v1?key=1"}, "must be plain"),
        ({"url": "https://one/v1,https://two/v1"}, "must be plain"),
        ({"url": "https:///v1"}, "names no host"),
        ({"url": "https://judge:99999/v1"}, "names no host, or no port"),
        ({"url": "https://judge/v1/chat/completions"}, "without /chat/completions"),
        ({"key_variable": "SECRET_KEY"}, "must begin with PLUMBLINE_ENDPOINT_"),
        ({"key_variable": "PLUMBLINE_ENDPOINT_a b"}, "capitals, digits"),
        ({"model": " "}, "needs a model"),
        ({"name": "Stub"}, "called Stub already"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(project, endpoint, fields, sentence):
    values = {"name": "New", "url": "https://judge.example/v1", "model": "m", **fields}
    with pytest.raises(ValueError, match=sentence):
        endpoints.add(project, values.pop("name"), values.pop("url"), **values)


def test_an_endpoint_is_checked_by_a_question_and_a_retired_one_is_not_asked(
    version, endpoint, project, work, stub: Scripted
):
    stub.answer = lambda body: "ready"
    made = endpoints.check(endpoint)
    work()
    made.job.refresh_from_db()
    assert made.job.result["sample"] == "ready"
    endpoints.retire(endpoint)
    endpoint.refresh_from_db()
    with pytest.raises(ValueError, match="retired"):
        endpoints.check(endpoint)
    version.refresh_from_db()
    with pytest.raises(ValueError, match="retired"):
        asking.ask(version, pairs_of(open_campaign(project, comparisons=1)), "No")


def test_what_people_said_of_a_pair_is_told_beside_the_judge(version, project, work, bob, alice):
    campaign = open_campaign(project, comparisons=2, overlap=2)
    asking.ask(version, pairs_of(campaign), "Two pairs", campaign=campaign)
    work()
    first, second = campaign.comparisons.order_by("pk")
    for person, comparison, ranking in (
        (bob, first, [[0], [1]]), (alice, first, [[0], [1]]), (bob, second, [[1], [0]]),
    ):  # fmt: skip
        said(comparison, person, ranking)
    rows = list(Verdict.objects.order_by("pk"))
    told = people.said(rows)
    assert sorted(one.votes for one in told.values()) == [1.0, 2.0]
    (against,) = people.disagreeing(version)
    slots = [one.completion_id for one in first.slots.all()]
    assert {
        Verdict.objects.get(pk=against).first_id,
        Verdict.objects.get(pk=against).second_id,
    } == {*slots}


def said(comparison, person, ranking):
    now = timezone.now()
    Ballot.objects.create(
        comparison=comparison, annotator=person, shown=[0, 1], claimed_at=now, cast_at=now,
        expires_at=now + timedelta(minutes=1), outcome="ranked", ranking=ranking,
        seat=comparison.ballots.exclude(seat=None).count(),
    )  # fmt: skip
