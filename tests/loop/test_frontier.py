"""What policies gained for their KL, from real rows: units, intervals, fitted curve, gate."""

from __future__ import annotations

import math

import pytest

from align.measure import best_of_n
from align.measure.overoptimisation import fit_means, gain
from plumbline.loop import best_of
from plumbline.loop.frontier import distances, frontier
from plumbline.loop.models import Evaluation, Round
from tests.lab import contest
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


def test_gains_are_log_odds_over_the_base_at_the_models_temperature(project):
    base, made, _ = contest.ladder(project)
    found = {one.key: one for one in frontier(project, made, base).series}
    points = found["gain"].points
    assert [one.policy for one in points] == [
        "alpha-base",
        *(f"alpha-rung-{n}" for n in (1, 2, 3, 4)),
    ]
    assert [one.kl for one in points] == [0, 4, 16, 36, 64]
    wobble = sum(0.3 * (place % 5 - 2) for place in range(24)) / 24
    assert points[2].value == pytest.approx((1.0 + wobble) / 2)  # temperature 2
    assert points[2].low < points[2].value < points[2].high
    assert points[2].count == 24
    assert found["doubt"].points[3].value == pytest.approx(0.3 / 2)


def test_win_rates_are_direct_where_they_met_and_through_others_where_not(project):
    base, made, _ = contest.ladder(project, rungs=2)
    far = lab.policy(project, "alpha-far", parent=base)
    experiment = Round.objects.first().experiment
    round = lab.round_at(experiment, "done", policy_out=far, number=9)
    lab.evaluation(round, "current", made[0], kl=90.0)
    for one in experiment.prompt_set.prompts.filter(split="heldout"):
        mine = contest.answer(one, far, "Far.")
        theirs = made[0].completions.get(prompt=one)
        contest.vote(mine, theirs, [[0], [1]] if one.pk % 3 else [[1], [0]])
    found = {one.key: one for one in frontier(project, [*made, far], base).series}
    people = {one.policy: one for one in found["people"].points}
    assert people["alpha-rung-1"].value == pytest.approx(16 / 24)
    assert people["alpha-rung-1"].direct
    assert not people["alpha-far"].direct
    assert people["alpha-far"].value > people["alpha-rung-1"].value
    assert people["alpha-base"].value == 0.5
    assert found["ai"].points == []
    assert found["ai"].why, "and it says why there is no curve"


def test_the_gates_kl_checkpoints_and_the_unmeasured_are_told(project):
    base, made, _ = contest.ladder(project, rungs=2)
    rows = [
        {"policy": "x", "name": "p", "step": step, "rate": 0.5 + step / 100, "low": 0.4,
         "high": 0.8, "kl": float(step), "kl_k3": 1.0, "tokens": 9.0} for step in (8, 4)
    ]  # fmt: skip
    Round.objects.filter(policy_out=made[0]).update(figures={"checkpoints": rows})
    Evaluation.objects.filter(round__policy_out=made[1]).update(kl=None)
    found = frontier(project, made, base)
    assert found.guards == [(30.0, "Ladder")]
    (checkpoints,) = found.checkpoints
    assert [one.policy for one in checkpoints.points] == ["step 4", "step 8"]
    assert found.unmeasured == [made[1]]


def test_noise_below_zero_is_no_distance(project):
    base, made, _ = contest.ladder(project, rungs=1)
    Evaluation.objects.filter(round__policy_out=made[0]).update(kl=-0.3)
    assert distances(made, base) == {base.pk: 0.0, made[0].pk: 0.0}


def test_a_curve_through_means_finds_a_planted_peak():
    d = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0]
    gains = [gain("training", 0.5, 0.25, x) for x in d]
    fit = fit_means("training", d, gains, [0.005] * 7)
    assert (fit.a, fit.b) == pytest.approx((0.5, 0.25))
    assert fit.peak == pytest.approx(math.exp(1))
    assert fit.identified
    assert fit.low < fit.peak < fit.high
    doubtful = fit_means("training", d[:4], gains[:4], [0.005] * 4)
    assert not doubtful.identified
    with pytest.raises(ValueError, match="two points"):
        fit_means("training", [0.0, 0.05], [0.0, 0.0], [1.0, 1.0])


def test_the_best_of_n_is_exact_and_judged_by_another_model(project):
    base = lab.policy(project)
    prompts = list(lab.prompt_set(project).prompts.all())[:3]
    picks, judges = contest.reward_model(project, "picks"), contest.reward_model(project, "judges")
    picks.temperature = 2.0
    picks.save()
    for one in prompts:
        for place in range(4):
            made = contest.answer(one, base, f"Answer {place}")
            contest.score(made, picks, float(place))
            contest.score(made, judges, float(-place))
    (found,) = best_of.frontiers([base])
    assert {found.model.name, found.other.name} == {"picks", "judges"}
    assert [row.n for row in found.rows] == [1, 2, 4]
    scale = found.model.temperature
    values = [float(place) for place in range(4)]
    assert found.rows[0].gain == pytest.approx(0)
    assert found.rows[1].gain == pytest.approx(
        (best_of_n.expected(values, values, 2) - 1.5) / scale
    )
    assert found.rows[2].kl == pytest.approx(best_of_n.kl_of_samples("abcd", values, 4))
    assert found.rows[2].kl < found.rows[2].bound == best_of_n.kl_bound(4)
    assert found.rows[2].other < 0, "what one picks the other dislikes"
    assert found.rows[2].win_rate < 0.5
    assert best_of.frontiers([lab.policy(project, "alpha-new", parent=base)]) == []
