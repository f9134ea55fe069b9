"""What a vote says of a margin: ties as outcomes of their own, with noise and soft labels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels
from align.algorithms.dpo import DPO

MARGINS = torch.linspace(-6, 6, 13, dtype=torch.float64)


def loss(algorithm: DPO, p: float, tie: float = 0.0, margin: Tensor = MARGINS) -> Tensor:
    """-log P(votes | margin) of a share p of wins, ties counting half; `tie` is their share."""
    labels = Labels(p=torch.full_like(margin, p), facts={"tie": torch.full_like(margin, tie)})
    return algorithm.likelihood(margin, labels)


def outcomes(algorithm: DPO, margin: Tensor = MARGINS) -> tuple[Tensor, Tensor, Tensor]:
    """P(win), P(loss) and P(tie), each from its own loss."""
    return (
        (-loss(algorithm, 1.0, 0.0, margin)).exp(),
        (-loss(algorithm, 0.0, 0.0, margin)).exp(),
        (-loss(algorithm, 0.5, 1.0, margin)).exp(),
    )


def by_hand(model: str, nu: float, d: float) -> tuple[float, float, float]:
    if model == "rao_kupper":
        win, lost = 1 / (1 + nu * math.exp(-d)), 1 / (1 + nu * math.exp(d))
        return win, lost, (nu**2 - 1) * win * lost
    total = 1 + math.exp(-d) + 2 * nu * math.exp(-d / 2)
    return 1 / total, math.exp(-d) / total, 2 * nu * math.exp(-d / 2) / total


@pytest.mark.parametrize(("model", "nu"), [("rao_kupper", 3.0), ("davidson", 1.0)])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.7, 5.0])
def test_win_loss_and_tie_have_the_models_probabilities(
    model: str, nu: float, strength: float
) -> None:
    if model == "rao_kupper" and 0 < strength <= 1:
        strength += 1
    found = outcomes(DPO(ties=model, tie_strength=strength))
    wanted = [by_hand(model, strength or nu, d) for d in MARGINS.tolist()]
    for mine, theirs in zip(found, zip(*wanted, strict=True), strict=True):
        assert mine.tolist() == pytest.approx(theirs, rel=1e-9)
    assert sum(found).tolist() == pytest.approx([1.0] * len(MARGINS))  # type: ignore[union-attr]


@pytest.mark.parametrize("model", ["rao_kupper", "davidson"])
def test_half_of_equal_pairs_tie_by_default(model: str) -> None:
    win, lost, tie = outcomes(DPO(ties=model), torch.zeros(1, dtype=torch.float64))
    assert (win.item(), lost.item(), tie.item()) == pytest.approx((0.25, 0.25, 0.5))


@pytest.mark.parametrize(("model", "none"), [("rao_kupper", 1 + 1e-12), ("davidson", 1e-12)])
def test_where_ties_never_happen_both_models_are_bradley_terry(model: str, none: float) -> None:
    win, lost, tie = outcomes(DPO(ties=model, tie_strength=none))
    assert torch.allclose(win, torch.sigmoid(MARGINS))
    assert torch.allclose(lost, torch.sigmoid(-MARGINS))
    assert tie.max() < 1e-9


def test_a_tie_draws_the_margin_to_zero_under_every_model() -> None:
    for model in ("soft", "rao_kupper", "davidson"):
        margin = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
        loss(DPO(ties=model), 0.5, 1.0, margin).sum().backward()
        assert margin.grad is not None
        left, middle, right = margin.grad.tolist()
        assert left < 0 < right
        assert middle == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("model", ["rao_kupper", "davidson"])
def test_votes_with_some_ties_are_the_mean_over_raters(model: str) -> None:
    # Ten raters: five for the first, two for the second, three ties: p = 0.5 + 0.15.
    algorithm = DPO(ties=model)
    win, lost, tie = outcomes(algorithm)
    wanted = -(0.5 * win.log() + 0.2 * lost.log() + 0.3 * tie.log())
    assert torch.allclose(loss(algorithm, 0.65, 0.3), wanted)


def test_taken_as_soft_labels_ties_are_half_a_win_each() -> None:
    assert torch.equal(loss(DPO(), 0.5, 1.0), loss(DPO(), 0.5, 0.0))
    even = -(torch.sigmoid(MARGINS).log() + torch.sigmoid(-MARGINS).log()) / 2
    assert torch.allclose(loss(DPO(), 0.5), even)


@pytest.mark.parametrize("model", ["soft", "rao_kupper", "davidson"])
def test_wrong_votes_flip_wins_and_losses_and_leave_ties_alone(model: str) -> None:
    def at(noise: str, p: float, tie: float = 0.0) -> Tensor:
        return loss(DPO(ties=model, noise=noise, flip_rate=0.2), p, tie)

    plain = {p: at("none", p) for p in (0.0, 1.0)}
    assert torch.allclose(at("conservative", 1.0), 0.8 * plain[1.0] + 0.2 * plain[0.0])
    assert torch.allclose(at("robust", 1.0), (0.8 * plain[1.0] - 0.2 * plain[0.0]) / 0.6)
    for noise in ("conservative", "robust"):
        assert torch.allclose(at(noise, 0.5, 1.0), at("none", 0.5, 1.0))


@pytest.mark.parametrize("model", ["soft", "rao_kupper", "davidson"])
def test_the_robust_loss_is_unbiased_with_ties_among_the_votes(model: str) -> None:
    """What flips on average gives back the loss of the votes as they were meant."""
    robust = DPO(ties=model, noise="robust", flip_rate=0.2)
    tie, won = 0.3, 0.55
    flipped = 0.8 * won + 0.2 * (1 - tie - won)
    found = loss(robust, flipped + tie / 2, tie)
    assert torch.allclose(found, loss(DPO(ties=model), won + tie / 2, tie))


@pytest.mark.parametrize("model", ["rao_kupper", "davidson"])
def test_with_hard_labels_a_majority_is_certain_and_an_even_vote_is_a_tie(model: str) -> None:
    hard, soft = DPO(ties=model, soft_labels=False), DPO(ties=model)
    assert torch.equal(loss(hard, 0.6, 0.2), loss(soft, 1.0, 0.0))
    assert torch.equal(loss(hard, 0.4, 0.2), loss(soft, 0.0, 0.0))
    assert torch.equal(loss(hard, 0.5, 0.2), loss(soft, 0.5, 1.0))


@pytest.mark.parametrize("model", ["soft", "rao_kupper", "davidson"])
def test_huge_margins_stay_finite(model: str) -> None:
    for dtype in (torch.float32, torch.float64):
        margin = torch.tensor([-1e4, 1e4], dtype=dtype, requires_grad=True)
        found = loss(DPO(ties=model), 0.6, 0.3, margin)
        found.sum().backward()
        assert margin.grad is not None
        assert found.isfinite().all()
        assert margin.grad.isfinite().all()


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"ties": "rao_kupper", "tie_strength": 1.0}, "tie_strength must be above 1"),
        ({"ties": "rao_kupper", "tie_strength": 0.5}, "tie_strength must be above 1"),
        ({"ties": "davidson", "tie_strength": -1.0}, "tie_strength must be at least 0"),
        ({"ties": "thurstone"}, "ties must be one of soft, rao_kupper, davidson"),
        ({"noise": "robust", "flip_rate": 0.5}, "flip_rate must be below 0.5"),
        ({"beta": 0.0}, "beta must be above 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DPO.build(knobs)


def test_davidson_takes_a_strength_below_one() -> None:
    assert DPO(ties="davidson", tie_strength=0.5).tie_strength == 0.5
