"""Where policies met: which votes and scores count, who is told apart, and what follows from it."""

from __future__ import annotations

import pytest

from align.measure.ratings import Meeting
from plumbline.collect.models import Campaign, Comparison, Enrolment
from plumbline.loop.meetings import AI, PEOPLE, REWARD, meetings
from plumbline.loop.standings import matrix, standings
from plumbline.loop.winrate import WinRate
from tests.lab import contest
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(project):
    """(base, tuned, an answer of each to one held-out prompt)."""
    base = lab.policy(project)
    tuned = lab.policy(project, "alpha-tuned", parent=base)
    prompt = lab.prompt_set(project).prompts.filter(split="heldout").first()
    return (
        base,
        tuned,
        contest.answer(prompt, base, "Short."),
        contest.answer(prompt, tuned, "A good deal longer."),
    )


def test_people_and_ai_judges_are_told_apart(two):
    base, tuned, plain, better = two
    contest.vote(better, plain, [[0], [1]])
    contest.vote(better, plain, [[0, 1]], kind="simulated")
    contest.vote(better, plain, [[1], [0]], kind="ai", probability=0.2)
    contest.vote(better, plain, [[0], [1]], kind="import", probability=0.9)
    contest.vote(better, plain, [[0], [1]], kind="import")  # by whom, nobody knows
    people = meetings([base, tuned], PEOPLE)
    assert sorted(one.p for one in people) == [0.5, 1.0]
    assert sorted(one.p for one in meetings([base, tuned], AI)) == [0.2, 0.9]
    assert people[0].first == tuned.pk
    assert people[0].longer == len("A good deal longer.") - len("Short.")
    assert people[0].group == plain.prompt_id


def test_what_does_not_count_is_left_out(two, project):
    base, tuned, plain, better = two
    contest.vote(better, plain, [[0], [1]], kind="person", strategy="mixed",
                 why={"part": "informed"})  # fmt: skip
    gold = contest.vote(better, plain, [[0], [1]])
    Comparison.objects.filter(pk=gold.pk).update(kind="gold", expected={"ranking": [[0], [1]]})
    out = contest.vote(better, plain, [[0], [1]])
    Enrolment.objects.create(
        campaign=Campaign.objects.get(pk=out.campaign_id),
        user=out.ballots.get().annotator,
        excluded_at=out.created_at,
    )
    assert meetings([base, tuned], PEOPLE) == []
    contest.vote(better, plain, [[0], [1]], strategy="mixed", why={"part": "random"})
    assert len(meetings([base, tuned], PEOPLE)) == 1
    assert meetings([base], PEOPLE) == []


def test_a_reward_model_judges_each_prompt_once_by_the_newest_answers(two, project):
    base, tuned, plain, better = two
    model = contest.reward_model(project)
    contest.score(plain, model, 1.0)
    contest.score(better, model, 0.0)
    newer = contest.answer(plain.prompt, tuned, "Newer.")
    contest.score(newer, model, 2.0)
    training = plain.prompt.set.prompts.filter(split="train").first()
    for policy, value in ((base, 9.0), (tuned, 0.0)):
        contest.score(contest.answer(training, policy, "Trained on."), model, value)
    other = contest.reward_model(project, "alpha-other")
    contest.score(plain, other, 5.0)  # it has not seen the other's: nothing to compare
    (one,) = meetings([base, tuned], REWARD)
    won = one.p if one.first == tuned.pk else 1 - one.p
    assert won == 1.0


def test_a_matrix_mirrors_and_counts_by_majority():
    from uuid import UUID

    a, b = UUID(int=1), UUID(int=2)
    found = matrix([
        Meeting(a, b, 0.6, 1, weight=5), Meeting(a, b, 0.5, 2), Meeting(b, a, 1.0, 3),
    ])  # fmt: skip
    assert found[a, b].outcome == WinRate(1, 1, 1)
    assert found[b, a].outcome == WinRate(1, 1, 1)
    assert found[a, b].votes == 7
    low, high = found[a, b].interval
    assert found[b, a].interval == pytest.approx((1 - high, 1 - low))


def test_standings_put_the_best_first_and_control_for_length(project):
    base, made, _ = contest.ladder(project)
    everybody = [base, *made]
    met = meetings(everybody, REWARD)
    found = standings(everybody, met, base)
    assert [row.policy.name for row in found.rows] == [
        "alpha-rung-4", "alpha-rung-3", "alpha-rung-2", "alpha-rung-1", "alpha-base",
    ]  # fmt: skip
    best, anchor = found.rows[0], found.rows[-1]
    assert anchor.rating is not None
    assert anchor.rating.value == 0
    assert anchor.controlled is None
    assert best.points > found.rows[1].points > 0
    assert best.meetings == 4 * 24
    by_people = standings(everybody, meetings(everybody, PEOPLE), base)
    controlled = by_people.rows[0].controlled
    assert controlled is not None
    assert 0 <= controlled.low <= controlled.rate <= controlled.high <= 1
    assert controlled.raw == pytest.approx(20 / 24)


def test_a_policy_that_met_nobody_stands_without_a_rating(project):
    base, made, _ = contest.ladder(project, rungs=1)
    alone = lab.policy(project, "alpha-alone", parent=base)
    everybody = [base, *made, alone]
    found = standings(everybody, meetings(everybody, PEOPLE), base)
    assert found.rows[-1].policy == alone
    assert found.rows[-1].rating is None
