"""Nash-MD by hand, and its rounds on the cyclic game, driven through the real loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from align import algorithms
from align.algorithm import Draws, Labels, LogProbs
from align.algorithms.inpo import INPO
from align.algorithms.nash_md import NashMD
from align.pairing import Answer, Judged, Vote

# P(row beats column): 1 beats 2, 2 beats 3, 3 beats 1.
CYCLE = torch.tensor([[0.5, 0.9, 0.3], [0.1, 0.5, 0.6], [0.7, 0.4, 0.5]], dtype=torch.float64)
FIRST = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


Gap = tuple[float, float]  # log-probabilities of chosen and rejected


def given(policy: Gap, start: Gap, first: Gap) -> LogProbs:
    models = {"policy": policy, "round_start": start, "initial": first}
    values = {
        name: {"chosen": row(one).requires_grad_(), "rejected": row(other).requires_grad_()}
        for name, (one, other) in models.items()
    }
    return LogProbs(values)


def test_a_loss_worked_by_hand() -> None:
    # c = 0.1 / 0.4 = 1/4; gaps 3 (policy), 2 (start), -2 (first): h = 3 - 0.75 * 2 + 0.25 * 2 = 2.
    # eta h^2 - h = 0.4 * 4 - 2 = -0.4; raw: (2 - 1.25)^2 = 0.5625.
    logps = given((-5, -8), (-6, -8), (-9, -7))
    found = NashMD(eta=0.4, tau=0.1).loss(logps, Labels(p=row(1.0)))
    assert found.losses.item() == pytest.approx(-0.4)
    assert found.metrics["h"].item() == pytest.approx(2)
    assert found.metrics["raw"].item() == pytest.approx(0.5625)
    # p = 3/4 halves the pull: 1.6 - 0.5 * 2 = 0.6.
    half = NashMD(eta=0.4, tau=0.1).loss(logps, Labels(p=row(0.75)))
    assert half.losses.item() == pytest.approx(0.6)


def test_the_gradient_is_that_of_the_formula() -> None:
    logps = given((-5, -8), (-6, -8), (-9, -7))
    NashMD(eta=0.4, tau=0.1).loss(logps, Labels(p=row(1.0))).losses.sum().backward()
    chosen, rejected = (logps.of("policy", role).grad for role in ("chosen", "rejected"))
    assert chosen is not None
    assert rejected is not None
    # 2 eta h - (2p - 1) = 1.6 - 1
    assert chosen.item() == pytest.approx(0.6)
    assert rejected.item() == pytest.approx(-0.6)


def test_the_pull_ends_at_half_the_inverse_step() -> None:
    for gap, side in ((1.2, -1), (1.25, 0), (1.3, 1)):
        logps = given((gap, 0), (0, 0), (0, 0))
        NashMD(eta=0.4, tau=0.1).loss(logps, Labels(p=row(1.0))).losses.sum().backward()
        grad = logps.of("policy", "chosen").grad
        assert grad is not None
        assert grad.item() == pytest.approx(0.8 * (gap - 1.25), abs=1e-12)
        assert (grad.item() > 1e-9) - (grad.item() < -1e-9) == side


def test_on_the_same_pairs_its_loss_is_inpos_and_only_the_opponent_differs() -> None:
    logps, labels = given((-5, -8), (-6, -8), (-9, -7)), Labels(p=row(0.7))
    mine, other = NashMD(eta=0.4, tau=0.1), INPO(eta=0.4, tau=0.1)
    assert torch.equal(mine.loss(logps, labels).losses, other.loss(logps, labels).losses)
    assert mine.draws(4, 0.8) == (
        Draws(n=4, temperature=0.8, model="mixture", initial_share=0.25, source="policy"),
    )
    assert other.draws(4, 0.8)[0].model == "round_start"


def test_at_its_ends_the_mixture_is_one_of_the_two_policies() -> None:
    (alone,) = NashMD(eta=0.4, tau=0.0).draws(2, 1.0)
    assert alone.model == "round_start"
    (first,) = NashMD(eta=0.4, tau=0.4).draws(2, 1.0)
    assert (first.model, first.source) == ("initial", "policy")


def mixture(policy: Tensor, share: float) -> Tensor:
    """pi^(1 - c) pi_ref^c, normalised."""
    return ((1 - share) * policy.log() + share * FIRST.log()).softmax(0)


def trained_round(policy: Tensor, algorithm: NashMD) -> Tensor:
    """One round by gradient descent on the real loss: all pairs, as the mixture draws them."""
    opponent = mixture(policy, algorithm.share)
    i, j = torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")
    i, j = i.flatten(), j.flatten()
    chance, labels = (opponent[i] * opponent[j]), Labels(p=CYCLE[i, j])
    frozen = {"round_start": policy.log(), "initial": FIRST.log()}
    logits = policy.log().clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [logits], tolerance_grad=1e-11, tolerance_change=1e-14, max_iter=200,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def step() -> float:
        solver.zero_grad()
        models = {"policy": logits.log_softmax(0), **frozen}
        roles = {name: {"chosen": v[i], "rejected": v[j]} for name, v in models.items()}
        total = (chance * algorithm.loss(LogProbs(roles), labels).losses).sum()
        total.backward()
        return total.item()

    solver.step(step)
    return logits.softmax(0).detach()


def closed_round(policy: Tensor, algorithm: NashMD) -> Tensor:
    opponent = mixture(policy, algorithm.share)
    return (opponent.log() + CYCLE @ opponent / algorithm.eta).softmax(0)


def regularised_gap(policy: Tensor, tau: float) -> float:
    """2 (max_p J(p, pi) - 1/2), J = P(p > pi) - tau KL(p || ref) + tau KL(pi || ref)."""
    best = tau * (FIRST * (CYCLE @ policy / tau).exp()).sum().log()
    return 2 * (best + tau * (policy * (policy / FIRST).log()).sum() - 0.5).item()


def test_a_round_by_gradient_descent_is_the_mirror_step() -> None:
    algorithm = NashMD(eta=0.3, tau=0.05)
    policy = row(0.2, 0.5, 0.3)
    found = trained_round(policy, algorithm)
    assert torch.allclose(found, closed_round(policy, algorithm), atol=1e-6)


def test_rounds_settle_where_the_step_is_constant_and_the_gap_is_small() -> None:
    algorithm = NashMD(eta=0.3, tau=0.05)
    policy = FIRST
    for _ in range(150):
        policy = trained_round(policy, algorithm)
    opponent = mixture(policy, algorithm.share)
    fixed = (FIRST.log() + CYCLE @ opponent / algorithm.tau).softmax(0)
    assert torch.allclose(policy, fixed, atol=1e-4)
    assert regularised_gap(policy, algorithm.tau) == pytest.approx(0.0053, abs=5e-5)
    assert regularised_gap(FIRST, algorithm.tau) == pytest.approx(0.1193, abs=5e-5)


def multiplier(algorithm: NashMD) -> float:
    """Largest multiplier of the map at its fixed point, by its own derivative."""
    policy = FIRST
    for _ in range(3000):  # averaged, so that it arrives even where the plain map circles
        policy = (0.98 * policy.log() + 0.02 * closed_round(policy, algorithm).log()).softmax(0)

    def once(logits: Tensor) -> Tensor:
        step = closed_round(logits.softmax(0), algorithm).log()
        return step - step.mean()

    jacobian = torch.autograd.functional.jacobian(once, policy.log() - policy.log().mean())
    return torch.linalg.eigvals(jacobian).abs().max().item()


def test_its_warning_marks_where_rounds_circle_on_a_mild_cycle() -> None:
    """On this game s is 0.11 near its mixtures, close to the 0.1 that the warning takes."""
    settles, circles = NashMD(eta=0.3, tau=0.05), NashMD(eta=0.05, tau=0.005)
    assert multiplier(settles) < 1
    assert not settles.warnings()
    assert multiplier(circles) > 1
    assert "circle instead of settling" in circles.warnings()[0]
    assert not NashMD().warnings()
    for preset in NashMD.presets.values():
        assert not NashMD.build(preset.knobs).warnings()


def test_votes_become_pairs_with_their_shares() -> None:
    answers = tuple(Answer(id=t, text=t, tokens=1, truncated=False, score=None) for t in "ab")
    (found,) = NashMD().examples(Judged("q", answers, (Vote(0, 1, 0.25, 2.0),)), "voted", 0)
    assert found.answers == {"chosen": 1, "rejected": 0}
    assert (found.p, found.weight) == (0.75, 2.0)


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"eta": 0.1, "tau": 0.2}, "tau must be at most eta, 0.1, not 0.2"),
        ({"eta": 0}, "eta must be above 0"),
        ({"tau": -1}, "tau must be at least 0"),
        ({"eta": math.inf}, "eta must be a finite"),
    ],
)
def test_a_setting_out_of_bounds_gets_a_sentence(knobs: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        algorithms.get("nash_md").build(knobs)
