"""Candidates that a judge compares with their opponents, alone or corrected by people's votes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from plumbline.collect.models import Completion, Prompt
from plumbline.judges import verdicts
from plumbline.judges.kind import Said
from plumbline.loop import evaluation, face_offs, judging
from plumbline.loop.models import Evaluation, Round, Stage
from plumbline.policies.models import Policy
from tests.judges import planted
from tests.lab import laboratory as lab
from tests.loop.test_judged_rounds import person  # noqa: F401  # a fixture

pytestmark = pytest.mark.django_db


def faced(experiment_of, project, prompt_set, version, count: int = 40, **fields: Any) -> Round:
    """A round whose candidate and base have answered held-out prompts; the judge has spoken."""
    _further_questions(prompt_set, count - 12)
    experiment = experiment_of(judge="judge", heldout_prompts=count, **fields)
    experiment.evaluator = version.judge
    experiment.save()
    base = experiment.start
    candidate = _candidate(base)
    round = Round.objects.create(
        experiment=experiment, number=1, policy_in=base, policy_out=candidate,
        stage=Stage.EVALUATE, opponents={"current": str(base.pk), "base": str(base.pk)},
    )  # fmt: skip
    judging.pin(round)
    lab.answers(round, base, "An answer")
    lab.answers(round, candidate, "A better answer")
    same = Completion.objects.filter(policy=candidate).order_by("prompt_id").first()
    same.text = Completion.objects.get(policy=base, prompt=same.prompt).text
    same.save()
    verdicts.store(version, _said(round, candidate, base))
    return round


def _further_questions(prompt_set, count: int) -> None:
    for number in range(count):
        text = f"Further question {number}?"
        key = hashlib.sha256(text.encode()).hexdigest()
        messages = [{"role": "user", "content": text}]
        Prompt.objects.create(set=prompt_set, split="heldout", messages=messages, digest=key)


def _candidate(base: Policy) -> Policy:
    return Policy.objects.create(
        project=base.project,
        name="candidate",
        base_model=base.base_model,
        weights="lora",
        parent=base,
        path="/weights/candidate",
        sha256="ab" * 32,
    )


def _said(round: Round, candidate: Policy, base: Policy) -> list[Said]:
    """Three of four times for the candidate, and once nothing."""
    said = []
    theirs = {a.prompt_id: a for a in evaluation.answers(round, base)}
    for at, mine in enumerate(evaluation.answers(round, candidate)):
        q = 0.9 if at % 4 else 0.2
        other = theirs[mine.prompt_id]
        silent = at == 5
        said.append(Said(mine.pk, other.pk, None if silent else q, None if silent else 1 - q))
    return said


def record(round: Round) -> Evaluation:
    row = {"reward": None, "logps": {}, "token_logps": {}}
    ids = Completion.objects.values_list("pk", flat=True)
    evaluation.record(round, {str(pk): {"id": str(pk), **row} for pk in ids})  # type: ignore
    return round.evaluations.get(against="current")


def test_a_judge_compares_the_candidate_with_its_opponents(
    experiment_of, project, prompt_set
) -> None:
    round = faced(experiment_of, project, prompt_set, planted.judge(project))
    assert evaluation.judged(round)
    row = record(round)
    assert (row.wins, row.ties, row.losses) == (29, 1, 9)
    assert row.judge == "judge"
    assert round.figures["evaluated_by_judge"]["current"]["silent"] == 1
    assert face_offs.of_row(row).interval() == (row.low, row.high)


def test_peoples_votes_on_part_of_it_correct_the_judge(
    experiment_of,
    project,
    prompt_set,
    person,  # noqa: F811
) -> None:
    version = planted.judge(project)
    round = faced(experiment_of, project, prompt_set, version, count=80, face_off_percent=50)
    assert not evaluation.judged(round)  # people have been asked
    campaign = round.evaluation_campaign
    asked = campaign.comparisons.count()
    assert 25 < asked < 55
    made = planted.Ground(campaign)
    made.worth = {one.pk: -1.0 for one in campaign.comparisons.all()}  # they prefer the base
    planted.vote(made, person, right=0.9)
    assert evaluation.judged(round)
    row = record(round)
    told = round.figures["evaluated_by_judge"]["current"]
    assert told["people"] in (asked, asked - 1)
    assert told["judge_alone"] > 0.6
    assert row.rate == pytest.approx(told["people_alone"], abs=0.15)
    assert row.high < 0.5 < row.wins / (row.wins + row.ties + row.losses)
    gate = evaluation.gate(round)
    evidence = {check["name"]: check["evidence"] for check in gate["checks"]}
    assert f"{row.rate:.1%}" in evidence["win rate"]
    refused = {check["name"] for check in gate["checks"] if not check["passed"]}
    assert "judges apart" in refused
    assert "by people" in evidence["judges apart"]
