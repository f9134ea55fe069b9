"""RSO: who is accepted, how accepted answers are paired, and the loss with its own strength."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import permutations
from typing import Any

import pytest
import torch

from align.algorithm import Labels, LogProbs
from align.algorithms.dpo import DPO
from align.algorithms.rso import RSO, accepted
from align.pairing import RULES, Answer, Judged, Vote

PI = (0.4, 0.3, 0.2, 0.1)
REWARD = (0.0, 1.0, -0.5, 2.0)
WEIGHTS = [p * math.exp(r) for p, r in zip(PI, REWARD, strict=True)]  # at beta 1


def draws(count: int, seed: int) -> list[int]:
    return random.Random(f"draws:{seed}").choices(range(4), PI, k=count)


def judged(scores: list[float | None], votes: tuple[Vote, ...] = (), **fields: Any) -> Judged:
    answers = tuple(Answer(str(k), f"text {k}", 10, False, s) for k, s in enumerate(scores))
    return Judged("p", answers, votes, **fields)


def at(gap: float, reference: float, algorithm: RSO, p: float = 1.0) -> tuple[float, float]:
    """The loss, and its gradient with respect to the gap under the policy."""
    chosen = torch.tensor([gap], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    frozen = {"chosen": zero + reference, "rejected": zero}
    values = LogProbs({"policy": {"chosen": chosen, "rejected": zero}, "reference": frozen})
    losses = algorithm.loss(values, Labels(p=zero + p)).losses
    losses.sum().backward()
    assert chosen.grad is not None
    return losses.item(), chosen.grad.item()


def test_accepted_answers_follow_the_policy_tilted_by_the_reward() -> None:
    """Theorem 1: pi exp(r / beta) / Z; chi-square with 3 degrees of freedom, 99.9% below 16.27."""
    counts: Counter[int] = Counter()
    for seed in range(800):
        drawn = draws(100, seed)
        counts.update(drawn[k] for k in accepted([REWARD[y] for y in drawn], 5, 1.0, str(seed)))
    assert counts.total() == 4000
    expected = [4000 * w / sum(WEIGHTS) for w in WEIGHTS]
    assert sum((counts[y] - e) ** 2 / e for y, e in enumerate(expected)) < 16.27
    plain = [4000 * p for p in PI]
    assert sum((counts[y] - e) ** 2 / e for y, e in enumerate(plain)) > 1000


def test_the_acceptance_rate_is_the_mean_of_what_answers_fall_short_of_the_best_by() -> None:
    rate = sum(p * math.exp(r - 2.0) for p, r in zip(PI, REWARD, strict=True))
    assert rate == pytest.approx(0.2809, abs=1e-4)
    tries = 0
    for seed in range(3000):
        drawn = draws(60, seed)
        tries += 1 + accepted([REWARD[y] for y in drawn], 1, 1.0, str(seed))[0]
    assert 3000 / tries == pytest.approx(rate, rel=0.05)


def test_without_temperature_the_best_are_kept_and_with_a_high_one_anybody() -> None:
    assert accepted([0.3, 2.0, -1.0, 0.9], 2, 0.0, "s") == [1, 3]
    assert accepted([0.3, 2.0, -1.0, 0.9], 3, 1e9, "s") == [0, 1, 2]


def test_nobody_is_accepted_twice_and_few_candidates_are_all_taken() -> None:
    assert sorted(accepted([1.0, 2.0, -3.0], 8, 0.5, "s")) == [0, 1, 2]
    assert accepted([], 8, 0.5, "s") == []
    for seed in range(50):
        found = accepted([float(k % 5) for k in range(30)], 8, 0.5, str(seed))
        assert len(set(found)) == len(found) == 8
        assert found == accepted([float(k % 5) for k in range(30)], 8, 0.5, str(seed))


def test_an_answer_far_below_the_best_is_hardly_ever_accepted() -> None:
    kept = [accepted([0.0, -5.0] * 5, 4, 0.5, str(seed)) for seed in range(200)]
    assert all(k % 2 == 0 for found in kept for k in found)  # e^-10 each


def test_accepted_answers_are_paired_off_and_labelled_by_their_scores() -> None:
    scores: list[float | None] = [0.1, 2.0, -1.0, 1.5, 0.7, -3.0, 1.1, 0.2]
    found = RSO(accept=4, beta=0.5).examples(judged(scores), "pair_off", 3)
    assert len(found) == 2
    roles = [example.answers[role] for example in found for role in ("chosen", "rejected")]
    assert len(set(roles)) == 4
    for example in found:
        won, lost = scores[example.answers["chosen"]], scores[example.answers["rejected"]]
        assert won is not None
        assert lost is not None
        assert won > lost
        assert example.p == pytest.approx(1 / (1 + math.exp(lost - won)))
        assert example.weight == 1.0
    rewards = [s for s in scores if s is not None]
    assert set(roles) == set(accepted(rewards, 4, 0.5, "3:p:accept"))


def test_any_other_rule_works_among_the_accepted() -> None:
    scores: list[float | None] = [0.1, 2.0, -1.0, 1.5, 0.7, -3.0]
    found = RSO(accept=3, beta=0.0).examples(judged(scores), "max_min", 0)
    assert [dict(example.answers) for example in found] == [{"chosen": 1, "rejected": 4}]
    assert len(RSO(accept=3, beta=0.0).examples(judged(scores), "all_pairs", 0)) == 3


def test_people_decide_in_either_order_where_they_voted() -> None:
    for vote in (Vote(0, 1, 0.8, 1.0, 0.4), Vote(1, 0, 0.2, 1.0, 0.4)):
        (found,) = RSO().examples(judged([0.0, 3.0], (vote,)), "pair_off", 0)
        assert found.answers == {"chosen": 0, "rejected": 1}
        assert found.p == pytest.approx(0.8)
        (voted,) = RSO().examples(judged([0.0, 3.0], (vote,)), "voted", 0)
        assert voted.facts == {"tie": 0.4}


def test_equal_answers_and_single_ones_make_no_pair() -> None:
    assert RSO().examples(judged([1.0, 1.0]), "pair_off", 0) == []
    assert RSO().examples(judged([1.0]), "pair_off", 0) == []
    assert RSO(reward="baseline").examples(judged([]), "pair_off", 0) == []


def test_a_random_baseline_accepts_what_the_score_accepts() -> None:
    """logit P(y > y_b) = r(y) - r(y_b) under Bradley-Terry, and a shift changes no acceptance."""
    scores: list[float | None] = [0.1, 2.0, -1.0, 1.5, 0.7, -2.0, 1.1, 0.2]
    for seed in range(20):
        by_score = RSO(accept=4).examples(judged(scores), "pair_off", seed)
        assert by_score == RSO(accept=4, reward="baseline").examples(
            judged(scores), "pair_off", seed
        )


def test_certain_votes_make_a_finite_reward() -> None:
    votes = (Vote(0, 1, 1.0, 1.0), Vote(0, 2, 1.0, 1.0), Vote(1, 2, 0.5, 1.0))
    found = RSO(reward="baseline", accept=2, beta=0.0).examples(
        judged([None] * 3, votes), "all_pairs", 1
    )
    assert [example.answers["chosen"] for example in found] == [0]


def test_pairing_off_uses_every_answer_once() -> None:
    pairs = RULES["pair_off"](judged([0.1, 2.0, -1.0, 0.4, 0.9]), 0)
    assert len(pairs) == 2
    assert len({k for pair in pairs for k in (pair.chosen, pair.rejected)}) == 4
    met = {
        frozenset((pair.chosen, pair.rejected))
        for seed in range(60)
        for pair in RULES["pair_off"](judged([0.1, 2.0, -1.0, 0.4]), seed)
    }
    assert len(met) == 6


def test_a_loss_worked_by_hand() -> None:
    # gap 4 under the policy, 1 under the reference, gamma 0.05: margin 0.15; e^-0.15 = 0.860708.
    loss, slope = at(4.0, 1.0, RSO(gamma=0.05))
    assert loss == pytest.approx(math.log(1.860708), abs=1e-6)
    assert slope == pytest.approx(-0.05 * 0.860708 / 1.860708, abs=1e-7)
    assert at(4.0, 1.0, RSO(gamma=0.05, beta=5.0)) == (loss, slope)  # beta samples, no more
    assert at(4.0, 1.0, RSO(gamma=0.05, form="hinge")) == pytest.approx((0.85, -0.05))


def test_the_logistic_form_is_dpo_with_gamma_as_its_strength() -> None:
    policy = {"chosen": torch.tensor([-3.0, -9.0]), "rejected": torch.tensor([-4.0, -2.0])}
    frozen = {"chosen": torch.tensor([-5.0, -6.0]), "rejected": torch.tensor([-4.5, -3.0])}
    values = LogProbs({"policy": policy, "reference": frozen})
    labels = Labels(p=torch.tensor([1.0, 0.7]))
    mine, theirs = RSO(gamma=0.3).loss(values, labels), DPO(beta=0.3).loss(values, labels)
    assert torch.equal(mine.losses, theirs.losses)
    for name, figure in theirs.metrics.items():
        assert torch.equal(mine.metrics[name], figure)


def test_the_hinge_is_flat_once_the_margin_is_met() -> None:
    hinge = RSO(gamma=0.1, form="hinge")
    assert at(10.0, 0.0, hinge) == (0.0, 0.0)
    assert at(25.0, 0.0, hinge) == (0.0, 0.0)
    assert at(9.0, 0.0, hinge) == pytest.approx((0.1, -0.1))
    assert at(25.0, 0.0, RSO(gamma=0.1))[1] < 0


def test_in_the_hinge_a_soft_label_weighs_both_sides_and_a_tie_rests() -> None:
    hinge = RSO(gamma=0.1, form="hinge")
    assert at(5.0, 0.0, hinge, p=0.8) == pytest.approx((0.8 * 0.5 + 0.2 * 1.5, -0.06))
    assert at(5.0, 0.0, hinge, p=0.5) == pytest.approx((1.0, 0.0))
    assert at(15.0, 0.0, hinge, p=0.5) == pytest.approx((1.25, 0.05))


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"beta": -0.1}, "beta must be at least 0"),
        ({"gamma": 0}, "gamma must be above 0"),
        ({"accept": 1}, "accept must be at least 2"),
        ({"reward": "votes"}, "reward must be one of score, baseline"),
        ({"form": "square"}, "form must be one of sigmoid, hinge"),
        ({"form": "hinge", "ties": "davidson"}, "ties must be soft"),
    ],
)
def test_settings_out_of_bounds_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RSO.build(knobs)


def test_its_two_strengths_are_told_apart_by_their_help() -> None:
    helps = {one.name: one.help for one in RSO.knobs()}
    assert "rejection sampling" in helps["beta"]
    assert "reference" in helps["gamma"]
    assert [one.name for one in RSO.knobs()].count("beta") == 1


@pytest.mark.parametrize("name", ["published", "theory"])
def test_both_presets_build(name: str) -> None:
    preset = RSO.presets[name]
    assert RSO.build(preset.knobs).accept == 8
    assert preset.round["pair_rule"] in RULES


def test_a_bandit_reaches_the_reference_tilted_by_the_reward() -> None:
    """pi* = pi_ref exp(r / gamma) / Z, whatever the law of the pairs (arXiv:2309.06657, eq. 4)."""
    gamma = 0.5
    reference, reward = (torch.tensor(v, dtype=torch.float64) for v in (PI, REWARD))
    logits = reference.log().clone().requires_grad_(True)
    i, j = (torch.tensor(k) for k in zip(*permutations(range(4), 2), strict=True))
    tilted = reference * (reward / 1.0).exp()
    law = (tilted[i] * tilted[j]) / (tilted[i] * tilted[j]).sum()  # of accepted pairs, beta 1
    labels = Labels(p=torch.sigmoid(reward[i] - reward[j]))
    frozen = {"chosen": reference.log()[i], "rejected": reference.log()[j]}
    solver = torch.optim.LBFGS([logits], tolerance_grad=1e-12, max_iter=500)

    def step() -> float:
        solver.zero_grad()
        mine = logits.log_softmax(0)
        values = LogProbs({"policy": {"chosen": mine[i], "rejected": mine[j]}, "reference": frozen})
        total = (law * RSO(gamma=gamma).loss(values, labels).losses).sum()
        total.backward()
        return total.item()

    for _ in range(20):
        solver.step(step)
    optimum = reference * (reward / gamma).exp()
    assert torch.allclose(logits.softmax(0).detach(), optimum / optimum.sum(), atol=1e-5)
