"""What client apps say reaches no training job until a person has voted on it."""

from __future__ import annotations

import random
from typing import Any
from uuid import uuid4

import pytest

from align import algorithms
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Comparison, Completion, PromptSet
from plumbline.collect.origins import CLIENT_TEXT
from plumbline.gateway import review
from plumbline.loop import advance, campaigns, examples, rounds, rows
from tests.comparisons import open_campaign
from tests.gateway.clients import compared, feedback, stored

pytestmark = pytest.mark.django_db
TEACHERS = sorted(name for name, one in algorithms.discover().items() if one.teacher)


@pytest.fixture
def said(project: Any) -> Any:
    """A campaign with a correction, a regenerated answer and a client's own comparison."""
    campaign = open_campaign(project, comparisons=0)
    feedback(stored(project, "Lyon."), score=0, correction="Paris.")
    first, second = (stored(project, text, question="And of Italy?") for text in ("Pisa.", "Rome."))
    feedback(first, "regenerated", other=second.completion_id)
    compared(project, [[0], [1]], "It is Paris.", "It is Lyon.")
    assert review.fill(campaign, 10, random.Random(1)).made == 3
    return campaign


def offline(experiment_of: Any, algorithm: str, **fields: Any) -> Any:
    from_clients = PromptSet.objects.get(name=review.SET_NAME)
    return experiment_of(labels="ballots", prompt_set=from_clients, algorithm=algorithm, **fields)


def vote(user: Any, campaign: Any) -> Ballot:
    ballot = queue.claim_next(user, campaign)
    assert ballot is not None
    verdict = queue.Verdict("ranked", ranking=[[0], [1]], strength=2)
    return queue.cast(ballot, verdict, uuid4())


def test_unvoted_it_is_no_evidence_and_a_round_finds_nothing_to_learn(
    said: Any, experiment_of: Any
) -> None:
    experiment = offline(experiment_of, "dpo")
    assert Comparison.objects.count() == campaigns.offline(experiment).count() == 3
    assert not campaigns.evidence(campaigns.offline(experiment)).exists()
    round = rounds.begin(experiment)
    advance.tick()
    round.refresh_from_db()
    assert (round.stage, round.examples.count()) == ("failed", 0)
    assert "no training prompts" in round.error


@pytest.mark.parametrize("algorithm", TEACHERS)
def test_a_correction_is_no_teachers_answer(
    said: Any, experiment_of: Any, bob: Any, algorithm: str
) -> None:
    """Algorithms that imitate a teacher take imported answers unvoted, but no client's."""
    assert TEACHERS
    assert Completion.objects.filter(policy=None, origin=CLIENT_TEXT).count() == 3
    round = rounds.begin(offline(experiment_of, algorithm))
    round.prompts.set(PromptSet.objects.get(name=review.SET_NAME).prompts.all())
    assert not Completion.objects.filter(examples.taught(round)).exists()
    known = list(examples.judged_prompts(round, algorithms.get(algorithm).build({})))
    assert known == []


def test_a_vote_trains_on_what_was_voted_on_and_not_on_what_the_client_preferred(
    said: Any, experiment_of: Any, bob: Any
) -> None:
    cast = vote(bob, said)
    experiment = offline(experiment_of, "dpo")
    found = campaigns.evidence(campaigns.offline(experiment))
    assert list(found) == [cast]
    (row,) = rows.comparison_rows(found)
    shown = [one.completion.text for one in cast.comparison.slots.select_related("completion")]
    assert [one["text"] for one in row["responses"]] == shown
    round = rounds.begin(experiment)
    round.prompts.set(experiment.prompt_set.prompts.all())
    round.ballots.set([cast])
    examples.freeze(round)
    (made,) = round.examples.all()
    assert made.p == pytest.approx(1.0)
    answers = {one.role: one.completion.text for one in made.answers.select_related("completion")}
    assert answers == {"chosen": shown[0], "rejected": shown[1]}
