"""INPO by hand: the loss, what it becomes at the ends of its settings, and when it warns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs, Loss
from align.algorithms.inpo import INPO
from align.algorithms.ipo import IPO

COUNT = 6


def models(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {
            role: -40 * torch.rand(COUNT, generator=generator, dtype=torch.float64)
            for role in ("chosen", "rejected")
        }
        for name in ("policy", "initial", "round_start")
    }


P = torch.tensor([0.0, 0.25, 0.5, 0.6, 0.9, 1.0], dtype=torch.float64)


def gradient(algorithm: INPO | IPO, values: dict[str, dict[str, Tensor]], p: Tensor = P) -> Tensor:
    """With respect to l(chosen) and l(rejected), (2, COUNT)."""
    leaves = {role: v.clone().requires_grad_(True) for role, v in values["policy"].items()}
    found = algorithm.loss(LogProbs({**values, "policy": leaves}), Labels(p=p))
    return torch.stack(torch.autograd.grad(found.losses.sum(), list(leaves.values())))


def ipo_like(eta: float, values: dict[str, dict[str, Tensor]], reference: str) -> Tensor:
    """IPO's gradient with parameter eta, by INPO's scale."""
    return eta * gradient(IPO(tau=eta), {**values, "reference": values[reference]})


def one(h: float, p: float = 1.0, **knobs: float) -> Loss:
    """The loss at a difference h, every other policy being indifferent."""
    zero = torch.zeros(1, dtype=torch.float64)
    values = {name: {"chosen": zero, "rejected": zero} for name in ("initial", "round_start")}
    values["policy"] = {"chosen": zero + h, "rejected": zero}
    return INPO(**knobs).loss(LogProbs(values), Labels(p=torch.tensor([p], dtype=torch.float64)))


def test_a_difference_worked_by_hand() -> None:
    def gap(value: float) -> dict[str, Tensor]:
        side = torch.tensor([-10.0], dtype=torch.float64)
        return {"chosen": side, "rejected": side - value}

    # Gaps 4 (policy), 1 (initial), 2.5 (round start), a third of the first: h = 4 - 1/3 - 5/3 = 2.
    values = LogProbs({"policy": gap(4.0), "initial": gap(1.0), "round_start": gap(2.5)})
    found = INPO(eta=0.3, tau=0.1).loss(values, Labels(p=torch.ones(1, dtype=torch.float64)))
    assert found.metrics["h"].item() == pytest.approx(2.0)
    assert found.losses.item() == pytest.approx(0.3 * 4 - 2)
    assert found.metrics["raw"].item() == pytest.approx((2 - 1 / 0.6) ** 2)


def test_the_trained_form_is_the_published_one_scaled_and_shifted() -> None:
    apart = []
    for h in (-50.0, 0.0, 3.0, 100.0):
        found = one(h, eta=0.005, tau=0.001)
        apart.append(0.005 * found.metrics["raw"].item() - found.losses.item())
    assert apart == pytest.approx([1 / (4 * 0.005)] * 4)


def test_the_published_form_starts_at_ten_thousand_and_the_trained_one_at_zero() -> None:
    start = one(0.0, eta=0.005, tau=0.005 / 3)
    assert start.metrics["raw"].item() == pytest.approx(10_000)
    assert start.losses.item() == 0


def test_a_soft_label_is_the_mean_over_votes_up_to_a_constant() -> None:
    apart = []
    for h in (-3.0, 0.0, 1.7):
        votes = 0.7 * one(h, 1.0, eta=0.2).losses + 0.3 * one(h, 0.0, eta=0.2).losses
        apart.append((votes - one(h, 0.7, eta=0.2).losses).item())
    assert apart == pytest.approx([apart[0]] * 3)


def test_a_tie_draws_the_difference_to_zero() -> None:
    assert one(2.0, 0.5, eta=0.2).losses.item() == pytest.approx(0.8)
    assert one(0.0, 0.5, eta=0.2).losses.item() == 0


def test_the_chosen_answer_rises_below_the_target_and_falls_beyond_it() -> None:
    values = models()
    certain = torch.ones(COUNT, dtype=torch.float64)
    algorithm = INPO(eta=0.25, tau=0.1)  # the target is 2
    found = algorithm.loss(LogProbs(values), Labels(p=certain)).metrics["h"]
    chosen, rejected = gradient(algorithm, values, certain)
    assert (found < 2).any()
    assert (found > 2).any()
    assert torch.equal(chosen < 0, found < 2)
    assert torch.equal(chosen, -rejected)
    assert torch.allclose(chosen, 2 * 0.25 * (found - 2))


def test_at_tau_equal_to_eta_it_is_ipo_against_the_first_policy() -> None:
    values = models()
    assert torch.allclose(
        gradient(INPO(eta=0.2, tau=0.2), values), ipo_like(0.2, values, "initial")
    )


def test_at_tau_zero_it_is_ipo_against_the_rounds_start() -> None:
    values = models()
    found = gradient(INPO(eta=0.2, tau=0.0), values)
    assert torch.allclose(found, ipo_like(0.2, values, "round_start"))


def test_a_policy_without_a_share_in_the_step_is_not_asked_for() -> None:
    assert INPO(eta=0.2, tau=0.2).references == ("initial",)
    assert INPO(eta=0.2, tau=0.1).references == ("initial", "round_start")
    assert INPO(eta=0.2, tau=0.0).references == ("round_start",)


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.2])
def test_the_first_round_is_ipo_whatever_tau_is(tau: float) -> None:
    values = models()
    values["round_start"] = values["initial"]
    found = gradient(INPO(eta=0.2, tau=tau), values)
    assert torch.allclose(found, ipo_like(0.2, values, "initial"))


def test_a_later_round_starts_away_from_zero_by_what_earlier_ones_moved() -> None:
    values = models()
    values["policy"] = values["round_start"]
    logps = LogProbs(values)
    h = INPO(eta=0.3, tau=0.1).loss(logps, Labels(p=P)).metrics["h"]
    assert torch.allclose(h, (logps.gap("round_start") - logps.gap("initial")) / 3)
    values["initial"] = values["round_start"]
    h = INPO(eta=0.3, tau=0.1).loss(LogProbs(values), Labels(p=P)).metrics["h"]
    assert torch.allclose(h, torch.zeros_like(h), atol=1e-12)


def test_tau_is_at_most_eta() -> None:
    with pytest.raises(ValueError, match="tau must be at most eta, 0.1, not 0.2"):
        INPO(eta=0.1, tau=0.2)
    with pytest.raises(ValueError, match="tau must be at most eta"):
        replace(INPO(), eta=0.001)


@pytest.mark.parametrize(
    ("eta", "tau", "circles"),
    [
        (0.005, 0.005 / 3, True),  # as published
        (0.3, 0.1, False),
        (0.3, 0.05, False),
        (0.5, 0.02, False),
        (0.2, 0.02, True),  # below (0.02^2 + 0.1^2) / 0.04 = 0.26
        (0.05, 0.05, True),
        (1.0, 0.0, True),  # nothing holds the rounds together
    ],
)
def test_it_warns_where_rounds_would_circle(eta: float, tau: float, circles: bool) -> None:
    assert bool(INPO(eta=eta, tau=tau).warnings()) is circles


def test_the_theory_preset_draws_no_warning() -> None:
    assert not INPO.build(INPO.presets["theory"].knobs).warnings()
