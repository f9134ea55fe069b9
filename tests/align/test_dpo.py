"""DPO by hand: numbers worked out on paper, and a bandit whose optimum has a closed form."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.dpo import DPO

LN2 = math.log(2)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logps(chosen: float, rejected: float, ref_chosen: float, ref_rejected: float) -> LogProbs:
    def row(value: float) -> Tensor:
        return torch.tensor([value], dtype=torch.float64, requires_grad=True)

    return LogProbs(
        {
            "policy": {"chosen": row(chosen), "rejected": row(rejected)},
            "reference": {"chosen": row(ref_chosen), "rejected": row(ref_rejected)},
        }
    )


def loss(algorithm: DPO, values: LogProbs, p: float = 1.0) -> float:
    return algorithm.loss(values, Labels(p=torch.tensor([p], dtype=torch.float64))).losses.item()


def at_margin(margin: float, algorithm: DPO, p: float = 1.0) -> float:
    """The loss at a margin, with beta 1."""
    return loss(algorithm, logps(margin, 0.0, 0.0, 0.0), p)


def test_at_the_start_the_loss_is_log_two_and_the_margin_zero() -> None:
    values = logps(-12.5, -31.0, -12.5, -31.0)
    found = DPO().loss(values, Labels(p=torch.ones(1, dtype=torch.float64)))
    assert found.losses.item() == LN2
    assert found.metrics["rewards/margins"].item() == 0
    assert found.metrics["rewards/accuracies"].item() == 0


def test_a_margin_worked_by_hand() -> None:
    # gap 4 under the policy, 1 under the reference, beta 0.1: margin 0.3.
    found = DPO(beta=0.1).loss(
        logps(-10, -14, -11, -12), Labels(p=torch.ones(1, dtype=torch.float64))
    )
    assert found.losses.item() == pytest.approx(math.log(1 + math.exp(-0.3)), abs=1e-12)
    assert found.metrics["rewards/chosen"].item() == pytest.approx(0.1)
    assert found.metrics["rewards/rejected"].item() == pytest.approx(-0.2)
    assert found.metrics["rewards/margins"].item() == pytest.approx(0.3)
    assert found.metrics["rewards/accuracies"].item() == 1


def test_conservative_labels_mix_in_the_flipped_loss() -> None:
    plain, turned = at_margin(0.7, DPO(beta=1)), at_margin(-0.7, DPO(beta=1))
    mixed = at_margin(0.7, DPO(beta=1, noise="conservative", flip_rate=0.2))
    assert mixed == pytest.approx(0.8 * plain + 0.2 * turned)


def test_the_robust_loss_is_unbiased_under_its_flip_rate() -> None:
    robust = DPO(beta=1, noise="robust", flip_rate=0.2)
    right, wrong = at_margin(0.7, robust), at_margin(-0.7, robust)
    plain, turned = at_margin(0.7, DPO(beta=1)), at_margin(-0.7, DPO(beta=1))
    assert right == pytest.approx((0.8 * plain - 0.2 * turned) / 0.6)
    assert 0.8 * right + 0.2 * wrong == pytest.approx(plain)


def test_a_flip_rate_is_read_only_when_noise_is_met() -> None:
    assert at_margin(0.7, DPO(beta=1, flip_rate=0.4)) == at_margin(0.7, DPO(beta=1))


def test_a_soft_label_weighs_both_outcomes() -> None:
    plain, turned = at_margin(0.7, DPO(beta=1)), at_margin(-0.7, DPO(beta=1))
    assert at_margin(0.7, DPO(beta=1), p=0.75) == pytest.approx(0.75 * plain + 0.25 * turned)


def test_without_soft_labels_a_majority_is_certain_and_a_tie_stays_a_tie() -> None:
    hard = DPO(beta=1, soft_labels=False)
    assert at_margin(0.7, hard, p=0.75) == at_margin(0.7, DPO(beta=1))
    assert at_margin(0.7, hard, p=0.5) == pytest.approx(at_margin(-0.7, hard, p=0.5))


def test_the_conservative_minimum_is_where_the_odds_are_matched() -> None:
    noisy = DPO(beta=0.25, noise="conservative", flip_rate=0.1)
    margin = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    adam = torch.optim.LBFGS([margin], tolerance_grad=1e-12, max_iter=100)

    def step() -> float:
        adam.zero_grad()
        values = LogProbs(
            {
                "policy": {"chosen": margin, "rejected": zero},
                "reference": {"chosen": zero, "rejected": zero},
            }
        )
        total = noisy.loss(values, Labels(p=torch.ones(1, dtype=torch.float64))).losses.sum()
        total.backward()
        return total.item()

    adam.step(step)
    assert 0.25 * margin.item() == pytest.approx(math.log(0.9 / 0.1), abs=1e-6)


def test_the_gradient_is_beta_times_the_chance_of_being_wrong() -> None:
    values = logps(-10, -14, -11, -12)
    DPO(beta=0.1).loss(values, Labels(p=torch.ones(1, dtype=torch.float64))).losses.sum().backward()
    chosen, rejected = values.of("policy", "chosen").grad, values.of("policy", "rejected").grad
    assert chosen is not None
    assert rejected is not None
    assert chosen.item() == pytest.approx(-0.1 * sigmoid(-0.3))
    assert rejected.item() == pytest.approx(0.1 * sigmoid(-0.3))


def test_huge_margins_stay_finite() -> None:
    for margin in (1e4, -1e4):
        assert math.isfinite(at_margin(margin, DPO(beta=1)))
    assert at_margin(-1e4, DPO(beta=1)) == pytest.approx(1e4)


def test_a_bandit_reaches_the_reference_tilted_by_the_reward() -> None:
    """pi* = pi_ref exp(r / beta) / Z when labels are Bradley-Terry (arXiv:2305.18290, eq. 4)."""
    beta = 0.5
    reference = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    reward = torch.tensor([0.0, 0.5, -0.3, 0.9], dtype=torch.float64)
    logits = reference.log().clone().requires_grad_(True)
    i, j = (torch.tensor(k) for k in zip(*permutations(range(4), 2), strict=True))
    labels = Labels(p=torch.sigmoid(reward[i] - reward[j]))
    frozen = {"chosen": reference.log()[i], "rejected": reference.log()[j]}
    solver = torch.optim.LBFGS([logits], tolerance_grad=1e-12, max_iter=500)

    def step() -> float:
        solver.zero_grad()
        mine = logits.log_softmax(0)
        values = LogProbs({"policy": {"chosen": mine[i], "rejected": mine[j]}, "reference": frozen})
        total = DPO(beta=beta).loss(values, labels).losses.mean()
        total.backward()
        return total.item()

    for _ in range(20):
        solver.step(step)
    optimum = reference * (reward / beta).exp()
    found = logits.softmax(0).detach()
    assert torch.allclose(found, optimum / optimum.sum(), atol=1e-6)
