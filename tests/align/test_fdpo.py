"""f-DPO: four divergences, their slopes at the start, and the policies they are optimal for."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.dpo import DPO
from align.algorithms.fdpo import FDPO
from align.pairing import RULES, Answer, Judged, Vote

DIVERGENCES = ("reverse_kl", "forward_kl", "jensen_shannon", "alpha")
LN2 = math.log(2)


def row(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def at(algorithm: FDPO, chosen: Tensor, rejected: Tensor, p: float = 1.0) -> Tensor:
    """Losses where the log-ratios to the reference are these."""
    zero = torch.zeros_like(chosen)
    values = LogProbs(
        {
            "policy": {"chosen": chosen, "rejected": rejected},
            "reference": {"chosen": zero, "rejected": zero},
        }
    )
    return algorithm.loss(values, Labels(p=zero + p)).losses


def margin(divergence: str, chosen: float, rejected: float, alpha: float = 0.5) -> float:
    """f'(u_w) - f'(u_l), read back from the loss with beta 1."""
    algorithm = FDPO(divergence=divergence, alpha=alpha, beta=1.0)
    return -math.log(math.expm1(at(algorithm, row(chosen), row(rejected)).item()))


def slope(algorithm: FDPO, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    chosen, rejected = chosen.requires_grad_(True), rejected.requires_grad_(True)
    at(algorithm, chosen, rejected).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    return chosen.grad, rejected.grad


@pytest.mark.parametrize(
    ("divergence", "by_hand"),
    [
        ("reverse_kl", LN2 + LN2),  # log 2 - log 1/2
        ("forward_kl", -1 / 2 + 2),  # -1/u at u = 2 and u = 1/2
        ("jensen_shannon", math.log(4 / 3) - math.log(2 / 3)),  # log 2u / (1 + u)
        ("alpha", 2 * (math.sqrt(2) - math.sqrt(1 / 2))),  # (1 - u^(-1/2)) / (1/2)
    ],
)
def test_a_margin_worked_by_hand(divergence: str, by_hand: float) -> None:
    """An answer that became twice as likely, against one that became half as likely."""
    assert margin(divergence, LN2, -LN2) == pytest.approx(by_hand)


def test_a_loss_worked_by_hand() -> None:
    # Forward KL, beta 0.4: 0.4 * 1.5 = 0.6; e^-0.6 = 0.548812.
    found = at(FDPO(divergence="forward_kl", beta=0.4), row(LN2), row(-LN2))
    assert found.item() == pytest.approx(math.log(1.548812), abs=1e-6)


def test_the_logged_rewards_are_those_the_margin_is_made_of() -> None:
    values = LogProbs(
        {
            "policy": {"chosen": row(LN2), "rejected": row(-LN2)},
            "reference": {"chosen": row(0.0), "rejected": row(0.0)},
        }
    )
    found = FDPO(divergence="forward_kl", beta=0.4).loss(values, Labels(p=row(1.0))).metrics
    assert found["rewards/margins"].item() == pytest.approx(0.6)
    apart = found["rewards/chosen"] - found["rewards/rejected"]
    assert apart.item() == pytest.approx(0.6)
    assert found["rewards/chosen"].item() == pytest.approx(0.2)  # 0 where nothing has moved


def test_with_reverse_kl_it_is_dpo() -> None:
    chosen, rejected = row(0.3, -7.0, 40.0), row(-1.2, 2.0, 10.0)
    theirs = DPO(beta=0.2).loss(
        LogProbs(
            {
                "policy": {"chosen": chosen, "rejected": rejected},
                "reference": {"chosen": 0 * chosen, "rejected": 0 * rejected},
            }
        ),
        Labels(p=row(1.0, 1.0, 1.0)),
    )
    found = at(FDPO(divergence="reverse_kl", beta=0.2), chosen, rejected)
    assert torch.allclose(found, theirs.losses, rtol=1e-14)


@pytest.mark.parametrize(("divergence", "share"), [*zip(DIVERGENCES, (1, 1, 0.5, 1), strict=True)])
def test_at_the_start_the_gradient_is_dpos_and_half_of_it_for_jensen_shannon(
    divergence: str, share: float
) -> None:
    beta = 0.3
    chosen, rejected = slope(FDPO(divergence=divergence, beta=beta), row(0.0), row(0.0))
    assert chosen.item() == pytest.approx(-share * beta / 2)
    assert rejected.item() == pytest.approx(share * beta / 2)


def test_alpha_goes_from_reverse_to_forward_kl() -> None:
    for chosen, rejected in ((0.7, -0.4), (2.0, 3.0)):
        reverse, forward = (margin(name, chosen, rejected) for name in ("reverse_kl", "forward_kl"))
        assert margin("alpha", chosen, rejected, 1e-6) == pytest.approx(reverse, rel=1e-4)
        assert margin("alpha", chosen, rejected, 1 - 1e-9) == pytest.approx(forward, rel=1e-6)


def test_trls_alpha_is_one_less_ours() -> None:
    """TRL scores u^(a - 1) / (a - 1); at a = 0.7 that is our alpha of 0.3."""
    theirs = (math.exp(0.9 * -0.3) - math.exp(-0.2 * -0.3)) / -0.3
    assert margin("alpha", 0.9, -0.2, 0.3) == pytest.approx(theirs)
    assert margin("alpha", 0.9, -0.2, 0.7) != pytest.approx(theirs, rel=1e-3)


def test_jensen_shannon_never_scores_an_answer_above_log_two() -> None:
    assert margin("jensen_shannon", 500.0, 0.0) == pytest.approx(LN2)  # where f'(1) is 0
    assert margin("jensen_shannon", 3.0, 0.0) < LN2


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_score_never_falls_as_the_answer_gets_likelier(divergence: str) -> None:
    scores = [margin(divergence, rho / 4, 0.0) for rho in range(-12, 13)]
    assert all(a < b for a, b in zip(scores, scores[1:], strict=False))
    assert scores[12] == pytest.approx(0)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("rho", [-500.0, -60.0, 60.0, 500.0])
def test_far_away_loss_and_gradient_are_finite_in_fp32(divergence: str, rho: float) -> None:
    algorithm = FDPO(divergence=divergence, beta=0.1)
    chosen, rejected = row(rho, dtype=torch.float32), row(0.0, dtype=torch.float32)
    assert at(algorithm, chosen, rejected).isfinite().all()
    for grad in slope(algorithm, chosen, rejected):
        assert grad.isfinite().all()
        assert (grad**2).sum().isfinite()


def test_a_chosen_answer_that_fell_far_below_the_reference_is_still_pulled_up() -> None:
    """Cut off instead of continued, the exponential would have no gradient here."""
    for rho in (-31.0, -100.0):
        chosen, _ = slope(FDPO(divergence="forward_kl", beta=0.1), row(rho), row(0.0))
        assert chosen.item() == pytest.approx(-0.1 * math.exp(30))


def test_it_is_exact_up_to_where_the_exponential_is_continued() -> None:
    exact = 0.1 * (math.exp(29.0) - 1)  # of -1/u at u = e^-29, against u = 1
    found = at(FDPO(divergence="forward_kl", beta=0.1), row(-29.0), row(0.0))
    assert found.item() == pytest.approx(exact, rel=1e-12)


def test_soft_labels_ties_and_noise_are_those_of_any_margin() -> None:
    plain = FDPO(divergence="forward_kl", beta=1.0)
    one, other = at(plain, row(LN2), row(0.0)), at(plain, row(0.0), row(LN2))
    assert at(plain, row(LN2), row(0.0), 0.75).item() == pytest.approx(
        (0.75 * one + 0.25 * other).item()
    )
    flipped = FDPO(divergence="forward_kl", beta=1.0, noise="conservative", flip_rate=0.2)
    assert at(flipped, row(LN2), row(0.0)).item() == pytest.approx((0.8 * one + 0.2 * other).item())


def test_examples_are_the_votes() -> None:
    answers = tuple(Answer(str(k), f"text {k}", 10, False, None) for k in range(2))
    (found,) = FDPO().examples(Judged("p", answers, (Vote(0, 1, 0.25, 3.0, 0.5),)), "voted", 0)
    assert found.answers == {"chosen": 1, "rejected": 0}
    assert (found.p, found.weight, found.facts) == (0.75, 3.0, {"tie": 0.5})


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"divergence": "chi_square"}, "divergence must be one of reverse_kl, forward_kl"),
        ({"alpha": 0}, "alpha must be above 0"),
        ({"alpha": 1}, "alpha must be below 1"),
        ({"beta": 0}, "beta must be above 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FDPO.build(knobs)


@pytest.mark.parametrize("name", ["published", "theory"])
def test_both_presets_build(name: str) -> None:
    preset = FDPO.presets[name]
    FDPO.build(preset.knobs)
    assert preset.round["pair_rule"] in RULES


# u = pi / pi_ref where f'(u) = t, by hand from each f', and the t above which there is none.
INVERSE: dict[str, tuple[Callable[[float], float], float]] = {
    "reverse_kl": (math.exp, math.inf),
    "forward_kl": (lambda t: 1 / (1 - t), 1.0),
    "jensen_shannon": (lambda t: math.exp(t) / (2 - math.exp(t)), LN2),
    "alpha": (lambda t: (1 - 0.5 * t) ** -2, 2.0),
}


def optimum(divergence: str, reference: list[float], reward: list[float], beta: float) -> Tensor:
    """pi_ref * (f')^-1((r - c) / beta), with the c that makes it sum to 1, by bisection."""
    inverse, most = INVERSE[divergence]
    low, high = max(reward) - beta * min(most, 50.0) + 1e-12, max(reward) + 50.0
    for _ in range(200):
        c = (low + high) / 2
        mass = sum(q * inverse((r - c) / beta) for q, r in zip(reference, reward, strict=True))
        low, high = (c, high) if mass > 1 else (low, c)
    return row(*(q * inverse((r - c) / beta) for q, r in zip(reference, reward, strict=True)))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_bandit_reaches_the_divergences_optimum(divergence: str) -> None:
    """max E r - beta D_f(pi | pi_ref), from Bradley-Terry votes alone (arXiv:2309.16240)."""
    beta, q, r = 0.5, [0.4, 0.3, 0.2, 0.1], [0.0, 0.5, -0.3, 0.9]
    best = optimum(divergence, q, r, beta)
    assert best.sum().item() == pytest.approx(1)
    reference, reward = row(*q), row(*r)
    logits = reference.log().clone().requires_grad_(True)
    i, j = (torch.tensor(k) for k in zip(*permutations(range(4), 2), strict=True))
    labels = Labels(p=torch.sigmoid(reward[i] - reward[j]))
    frozen = {"chosen": reference.log()[i], "rejected": reference.log()[j]}
    algorithm = FDPO(divergence=divergence, beta=beta)
    solver = torch.optim.LBFGS([logits], tolerance_grad=1e-12, tolerance_change=0)

    def step() -> float:
        solver.zero_grad()
        mine = logits.log_softmax(0)
        values = LogProbs({"policy": {"chosen": mine[i], "rejected": mine[j]}, "reference": frozen})
        total = algorithm.loss(values, labels).losses.mean()
        total.backward()
        return total.item()

    for _ in range(20):
        solver.step(step)
    assert torch.allclose(logits.softmax(0).detach(), best, atol=1e-5)


def test_divergences_differ_in_their_optimum_and_forward_kl_keeps_what_is_unlikely() -> None:
    reward, reference = [0.0, -4.0], [0.5, 0.5]
    rare = {d: optimum(d, reference, reward, 0.5)[1].item() for d in DIVERGENCES}
    assert rare["reverse_kl"] < rare["alpha"] < rare["forward_kl"]
    assert rare["jensen_shannon"] < 2 * rare["reverse_kl"]
