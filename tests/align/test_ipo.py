"""IPO by hand: a target that is reached and held, in sums and in means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs, Loss
from align.algorithms.ipo import IPO


def row(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64, requires_grad=True)


def logps(chosen: float, rejected: float, ref_chosen: float, ref_rejected: float) -> LogProbs:
    return LogProbs(
        {
            "policy": {"chosen": row(chosen), "rejected": row(rejected)},
            "reference": {"chosen": row(ref_chosen), "rejected": row(ref_rejected)},
        }
    )


def loss(algorithm: IPO, values: LogProbs, p: float = 1.0) -> Loss:
    tokens = {
        "chosen": torch.tensor([4.0], dtype=torch.float64),
        "rejected": torch.tensor([5.0], dtype=torch.float64),
    }
    return algorithm.loss(values, Labels(p=torch.tensor([p], dtype=torch.float64), tokens=tokens))


def slope(algorithm: IPO, h: float, p: float = 1.0) -> float:
    """The gradient with respect to l(chosen) at a difference h of log-ratios."""
    values = logps(h, 0.0, 0.0, 0.0)
    loss(algorithm, values, p).losses.sum().backward()
    chosen, rejected = (values.of("policy", role).grad for role in ("chosen", "rejected"))
    assert chosen is not None
    assert rejected is not None
    assert chosen.item() == -rejected.item()
    return chosen.item()


def test_a_sum_worked_by_hand() -> None:
    # h = (-10 + 11) - (-14 + 12) = 3, target 1 / (2 * 0.25) = 2.
    found = loss(IPO(tau=0.25), logps(-10, -14, -11, -12))
    assert found.losses.item() == pytest.approx(1.0)
    assert found.metrics["h"].item() == pytest.approx(3.0)
    assert found.metrics["rewards/accuracies"].item() == 1


def test_a_mean_worked_by_hand() -> None:
    # 1 over 4 tokens less -2 over 5 tokens: 0.65 against 2.
    found = loss(IPO(tau=0.25, reduction="mean"), logps(-10, -14, -11, -12))
    assert found.metrics["h"].item() == pytest.approx(0.65)
    assert found.losses.item() == pytest.approx(1.35**2)


def test_at_the_start_the_loss_is_the_target_squared() -> None:
    found = loss(IPO(tau=0.1), logps(-12.5, -31.0, -12.5, -31.0))
    assert found.losses.item() == pytest.approx(25.0)
    assert found.metrics["rewards/accuracies"].item() == 0


def test_a_margin_that_is_reached_costs_nothing_and_is_held() -> None:
    ipo = IPO(tau=0.1)
    assert loss(ipo, logps(5.0, 0.0, 0.0, 0.0)).losses.item() == 0
    assert slope(ipo, 4.0) == pytest.approx(-2.0)
    assert slope(ipo, 5.0) == 0
    assert slope(ipo, 7.0) == pytest.approx(4.0)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_a_soft_label_moves_the_target_and_shifts_the_mixed_loss_by_a_constant(p: float) -> None:
    ipo = IPO(tau=0.25)
    apart = []
    for h in (-3.0, 0.0, 1.7):
        values = logps(h, 0.0, 0.0, 0.0)
        mixed = p * (h - 2.0) ** 2 + (1 - p) * (h + 2.0) ** 2
        apart.append(mixed - loss(ipo, values, p).losses.item())
    assert apart == pytest.approx([apart[0]] * 3)
    assert slope(ipo, 2.0 * (2 * p - 1), p) == pytest.approx(0)


def test_tau_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="tau must be above 0"):
        IPO(tau=0.0)
