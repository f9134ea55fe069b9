"""Pairs a reward model is disputed about: found from scores and votes, the worst of each prompt."""

from __future__ import annotations

import pytest

from align.measure.pairs import sigmoid
from plumbline.loop import holdout
from plumbline.loop.disputes import HELDOUT, MEMBERS, PEOPLE, WRONG, disputes, told
from tests.lab import contest
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def ground(project):
    """Two prompts with answers that a model at temperature 2 has scored."""
    base = lab.policy(project)
    model = contest.reward_model(project, temperature=2.0)
    prompts = list(lab.prompt_set(project, train=60).prompts.order_by("pk"))
    return base, model, prompts


def test_the_model_and_people_disagree_most_first(ground):
    base, model, (one, two, *_) = ground
    for prompt, gap, ranking in ((one, 1.0, [[0], [1]]), (two, 4.0, [[1], [0]])):
        first, second = (contest.answer(prompt, base, f"{side} {prompt.pk}") for side in "AB")
        contest.score(first, model, gap)
        contest.score(second, model, 0.0)
        contest.vote(first, second, ranking)
        contest.vote(first, second, [[0], [1]], kind="ai")
    worst, mild = disputes(model, PEOPLE)
    assert worst.prompt == two.pk
    assert worst.chance == pytest.approx(sigmoid(2.0))
    assert (worst.agree, worst.votes, worst.opposite) == (0.0, 1.0, True)
    assert worst.size == pytest.approx(sigmoid(2.0))
    assert mild.size == pytest.approx(1 - sigmoid(0.5))
    assert disputes(model, PEOPLE, WRONG) == [worst]
    (shown,) = told([worst])
    assert (shown.first.text, shown.prompt) == (f"A {two.pk}", two)


def test_members_disagree_and_only_a_prompts_worst_pair_is_shown(ground):
    base, model, (one, two, *_) = ground
    for prompt, rows in ((one, [(4, -4), (-4, 4), (0, 0)]), (two, [(1, 1), (0, 0)])):
        for place, members in enumerate(rows):
            made = contest.answer(prompt, base, f"{place} of {prompt.pk}")
            contest.score(made, model, sum(members) / 2, [float(value) for value in members])
    found = disputes(model, MEMBERS)
    assert [row.prompt for row in found] == [one.pk, two.pk]
    assert found[0].agree == 0.5
    assert found[0].size > 0.5
    assert found[1].size == pytest.approx(0)


def test_only_prompts_that_train_nothing(ground):
    base, model, prompts = ground
    apart = [one for one in prompts if holdout.of_prompt(one)]
    trains = [one for one in prompts if not holdout.of_prompt(one)]
    assert apart
    for prompt in (apart[0], trains[0]):
        first, second = (contest.answer(prompt, base, side) for side in "AB")
        contest.score(first, model, 1.0)
        contest.score(second, model, 0.0)
        contest.vote(first, second, [[0], [1]])
    assert [one.prompt for one in disputes(model, PEOPLE, HELDOUT)] == [apart[0].pk]
    assert len(disputes(model, PEOPLE)) == 2
    assert disputes(contest.reward_model(model.project, "another"), PEOPLE) == []
