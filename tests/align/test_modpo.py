"""MODPO: two objectives in one margin, DPO at one end, and the policy that is optimal for both."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.dpo import DPO
from align.algorithms.modpo import MODPO
from align.pairing import RULES, Answer, Judged, Vote


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def labels(p: Tensor, chosen: Tensor, rejected: Tensor) -> Labels:
    tie = torch.zeros_like(p)
    return Labels(p, {"second.chosen": chosen, "second.rejected": rejected, "tie": tie})


def at(algorithm: MODPO, gap: float, chosen: float, rejected: float) -> tuple[float, float]:
    """The loss, and its slope in the gap of log-ratios, where r2 is this of the two answers."""
    ratio, zero = row(gap).requires_grad_(True), row(0.0)
    models = {
        "policy": {"chosen": ratio, "rejected": zero},
        "reference": {"chosen": zero, "rejected": zero},
    }
    facts = labels(row(1.0), row(chosen), row(rejected))
    losses = algorithm.loss(LogProbs(models), facts).losses
    losses.sum().backward()
    assert ratio.grad is not None
    return losses.item(), ratio.grad.item()


def judged(scores: tuple[float | None, ...], votes: tuple[Vote, ...]) -> Judged:
    tokens = (30, 50, 8)
    answers = tuple(
        Answer(str(k), f"text {k}", tokens[k], False, score) for k, score in enumerate(scores)
    )
    return Judged("p", answers, votes)


def test_a_loss_worked_by_hand() -> None:
    # beta 0.1 * 3 = 0.3 earned; half of (-0.5 + 0.2) owed; (0.3 + 0.15) / 0.5 = 0.9.
    # e^-0.9 = 0.406570, and log 1.406570 = 0.341154.
    loss, slope = at(MODPO(beta=0.1, weight=0.5), 3.0, -0.5, -0.2)
    assert loss == pytest.approx(0.341154, abs=1e-6)
    # The slope is -(beta / w) sigmoid(-m): -0.2 * 0.406570 / 1.406570.
    assert slope == pytest.approx(-0.2 * 0.289051, abs=1e-6)


def test_a_longer_chosen_answer_has_to_earn_its_length() -> None:
    algorithm = MODPO(beta=0.1, weight=0.5)
    longer, as_long = at(algorithm, 0.0, -1.0, 0.0), at(algorithm, 0.0, -1.0, -1.0)
    assert as_long[0] == pytest.approx(math.log(2))
    assert longer[0] == pytest.approx(math.log(1 + math.exp(-1.0)))  # already won, by one logit
    assert abs(longer[1]) < abs(as_long[1])


def test_with_all_weight_on_votes_it_is_dpo_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)

    def some() -> Tensor:
        return -40 * torch.rand(64, generator=generator)

    frozen = {"chosen": some(), "rejected": some()}
    p, facts = torch.rand(64, generator=generator), (some(), some())
    start = {"chosen": some(), "rejected": some()}
    found = []
    for algorithm in (MODPO(weight=1.0, beta=0.3), DPO(beta=0.3)):
        mine = {role: value.clone().requires_grad_(True) for role, value in start.items()}
        values = LogProbs({"policy": mine, "reference": frozen})
        losses = algorithm.loss(values, labels(p, *facts)).losses
        losses.sum().backward()
        found.append((losses, mine["chosen"].grad, mine["rejected"].grad))
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_the_authors_weights_that_do_not_sum_to_one_are_these_divided_by_their_sum() -> None:
    """Their script: (1 / 1) * (0.1 * h - 0.1 * (r2_w - r2_l)), a token being worth 1."""
    preset = MODPO.build(MODPO.presets["published"].knobs)
    for h, chosen, rejected in ((3.0, -12, -20), (-5.0, -44, -2)):
        theirs = math.log(1 + math.exp(-(0.1 * h - 0.1 * (chosen - rejected))))
        assert at(preset, h, chosen, rejected)[0] == pytest.approx(theirs)


def test_the_hinge_is_flat_once_the_votes_odds_are_beaten() -> None:
    hinge = MODPO(beta=0.1, weight=0.5, form="hinge")
    assert at(hinge, 3.0, -0.5, -0.2) == pytest.approx((0.1, -0.2))  # 1 - 0.9
    assert at(hinge, 4.0, -0.5, -0.2) == (0.0, 0.0)


def test_what_is_owed_to_the_second_objective_is_logged() -> None:
    models = {name: {"chosen": row(1.0), "rejected": row(1.0)} for name in ("policy", "reference")}
    facts = labels(row(1.0), row(-0.5), row(-0.2))
    found = MODPO(weight=0.25).loss(LogProbs(models), facts).metrics
    assert found["owed"].item() == pytest.approx(-0.225)
    assert found["rewards/margins"].item() == pytest.approx(0.9)


def test_brevity_counts_tokens() -> None:
    data = judged((None, None, None), (Vote(0, 1, 1.0, 2.0), Vote(1, 2, 0.25, 1.0, 0.5)))
    first, second = MODPO(per_token=0.1).examples(data, "voted", 0)
    assert first.answers == {"chosen": 0, "rejected": 1}
    assert first.facts == pytest.approx(
        {"tie": 0.0, "second.chosen": -3.0, "second.rejected": -5.0}
    )
    assert second.facts == pytest.approx(
        {"tie": 0.5, "second.chosen": -0.8, "second.rejected": -5.0}
    )
    assert (second.p, second.weight) == (0.75, 1.0)


def test_the_score_is_a_second_opinion_on_the_pairs_people_compared() -> None:
    data = judged((0.5, 2.0, -1.0), (Vote(0, 1, 1.0, 1.0),))
    (found,) = MODPO(second="score").examples(data, "all_pairs", 0)
    assert found.answers == {"chosen": 0, "rejected": 1}
    assert found.facts == {"tie": 0.0, "second.chosen": 0.5, "second.rejected": 2.0}
    assert len(MODPO(second="brevity").examples(data, "all_pairs", 0)) == 3


def test_a_score_that_is_missing_is_said_so() -> None:
    with pytest.raises(ValueError, match="an answer has none"):
        MODPO(second="score").examples(judged((1.0, None), (Vote(0, 1, 1.0, 1.0),)), "voted", 0)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"weight": 0}, "weight must be above 0"),
        ({"weight": 1.5}, "weight must be at most 1"),
        ({"per_token": -1}, "per_token must be at least 0"),
        ({"second": "honesty"}, "second must be one of brevity, score"),
        ({"form": "hinge", "ties": "rao_kupper"}, "ties must be soft"),
    ],
)
def test_settings_out_of_bounds_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MODPO.build(knobs)


@pytest.mark.parametrize("name", ["published", "theory"])
def test_both_presets_build(name: str) -> None:
    preset = MODPO.presets[name]
    MODPO.build(preset.knobs)
    assert preset.round["pair_rule"] in RULES


@pytest.mark.parametrize("weight", [1.0, 0.6, 0.25])
def test_a_bandit_reaches_the_reference_tilted_by_both_rewards(weight: float) -> None:
    """pi* = pi_ref exp((w r1 + (1 - w) r2) / beta) / Z; votes follow r1 alone."""
    beta = 0.5
    reference, first = row(0.4, 0.3, 0.2, 0.1), row(0.0, 0.5, -0.3, 0.9)
    second = row(-0.4, -0.1, 0.3, -1.0)
    logits = reference.log().clone().requires_grad_(True)
    i, j = (torch.tensor(k) for k in zip(*permutations(range(4), 2), strict=True))
    given = labels(torch.sigmoid(first[i] - first[j]), second[i], second[j])
    frozen = {"chosen": reference.log()[i], "rejected": reference.log()[j]}
    algorithm = MODPO(beta=beta, weight=weight)
    solver = torch.optim.LBFGS([logits], tolerance_grad=1e-12, tolerance_change=0)

    def step() -> float:
        solver.zero_grad()
        mine = logits.log_softmax(0)
        values = LogProbs({"policy": {"chosen": mine[i], "rejected": mine[j]}, "reference": frozen})
        total = algorithm.loss(values, given).losses.mean()
        total.backward()
        return total.item()

    for _ in range(20):
        solver.step(step)
    optimum = reference * ((weight * first + (1 - weight) * second) / beta).exp()
    assert torch.allclose(logits.softmax(0).detach(), optimum / optimum.sum(), atol=1e-5)
