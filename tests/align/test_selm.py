"""SELM: DPO, bit for bit, plus a term that lowers what the reference already says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.dpo import DPO
from align.algorithms.selm import SELM
from align.pairing import Answer, Judged, Vote
from tests.align.games import row

ROLES = ("chosen", "rejected", "explore")


def models(count: int = 50, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = {
        name: {role: -40 * torch.rand(count, generator=generator) for role in ROLES}
        for name in ("policy", "reference")
    }
    for leaf in found["policy"].values():
        leaf.requires_grad_(True)
    return found


def labels(count: int = 50) -> Labels:
    return Labels(p=torch.rand(count, generator=torch.Generator().manual_seed(1)))


def one(policy: Sequence[float], reference: Sequence[float]) -> LogProbs:
    """One example's log-probabilities: chosen, rejected, explored."""
    named = {"policy": policy, "reference": reference}
    values = {
        name: {role: row(value) for role, value in zip(ROLES, of, strict=True)}
        for name, of in named.items()
    }
    for leaf in values["policy"].values():
        leaf.requires_grad_(True)
    return LogProbs(values)


def slopes(values: LogProbs) -> list[float]:
    found = [values.of("policy", role).grad for role in ROLES]
    return [0.0 if slope is None else slope.item() for slope in found]


def judged(
    scores: Sequence[float | None], sources: Sequence[str], votes: Sequence[Vote] = ()
) -> Judged:
    answers = tuple(
        Answer(str(k), f"text {k}", 10, False, score, source)
        for k, (score, source) in enumerate(zip(scores, sources, strict=True))
    )
    return Judged("p", answers, tuple(votes))


def test_without_alpha_it_is_dpo_bit_for_bit() -> None:
    mine, theirs = models(), models()
    a = SELM(alpha=0, beta=0.3).loss(LogProbs(mine), labels())
    b = DPO(beta=0.3).loss(LogProbs(theirs), labels())
    assert torch.equal(a.losses, b.losses)
    assert all(torch.equal(a.metrics[name], b.metrics[name]) for name in b.metrics)
    a.losses.sum().backward()
    b.losses.sum().backward()
    for role in ("chosen", "rejected"):
        one, other = mine["policy"][role].grad, theirs["policy"][role].grad
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_a_loss_worked_by_hand() -> None:
    # Margin 0.1 * (4 - 1) = 0.3; the explored answer lost 7 nats: 0.5 * 0.1 * -7 = -0.35.
    values = one([-10, -14, -20], [-11, -12, -13])
    found = SELM(beta=0.1, alpha=0.5).loss(values, Labels(p=row(1.0)))
    assert found.metrics["loss/preference"].item() == pytest.approx(math.log(1 + math.exp(-0.3)))
    assert found.metrics["loss/explore"].item() == pytest.approx(-0.35)
    assert found.losses.item() == pytest.approx(math.log(1 + math.exp(-0.3)) - 0.35)


@pytest.mark.parametrize(("coefficient", "pull"), [("alpha_beta", 0.05), ("alpha", 0.5)])
def test_the_gradient_on_the_explored_answer_is_the_coefficient(
    coefficient: str, pull: float
) -> None:
    values = one([-10, -14, -20], [-11, -12, -13])
    algorithm = SELM(beta=0.1, alpha=0.5, coefficient=coefficient)
    algorithm.loss(values, Labels(p=row(1.0))).losses.sum().backward()
    wrong = 1 / (1 + math.exp(0.3))
    assert slopes(values) == [
        pytest.approx(-0.1 * wrong),
        pytest.approx(0.1 * wrong),
        pytest.approx(pull),
    ]


def test_the_references_level_moves_the_value_and_not_the_gradient() -> None:
    found = []
    for level in (-13.0, -3.0):
        values = one([-10, -14, -20], [-11, -12, level])
        loss = SELM(beta=0.1, alpha=0.5).loss(values, Labels(p=row(1.0))).losses
        loss.sum().backward()
        found.append((loss.item(), slopes(values)))
    assert found[0][0] - found[1][0] == pytest.approx(0.05 * 10)
    assert found[0][1] == found[1][1]


def explored_slope(law: Tensor) -> Tensor:
    """Gradient on three logits of the exploration term, its answers drawn from `law`, when the
    policy is still its reference."""
    reference = row(0.5, 0.3, 0.2).log()
    logits = reference.clone().requires_grad_(True)
    mine = logits.log_softmax(0)
    arms = {"chosen": torch.zeros(3).long(), "rejected": torch.ones(3).long()}
    arms["explore"] = torch.arange(3)
    values = LogProbs(
        {
            "policy": {role: mine[k] for role, k in arms.items()},
            "reference": {role: reference[k] for role, k in arms.items()},
        }
    )
    found = SELM(beta=0.1, alpha=0.5).loss(values, Labels(p=torch.ones(3)))
    (slope,) = torch.autograd.grad((law * found.metrics["loss/explore"]).sum(), logits)
    return slope


def test_at_the_start_sampled_exploration_pulls_nowhere_and_greedy_lowers_the_mode() -> None:
    assert torch.allclose(explored_slope(row(0.5, 0.3, 0.2)), row(0, 0, 0), atol=1e-15)
    # Descent on this slope lowers the first arm: 0.05 * (1 - 0.5), and -0.05 * 0.3, 0.2.
    assert torch.allclose(explored_slope(row(1, 0, 0)), row(0.025, -0.015, -0.01))


@pytest.mark.parametrize(
    ("pushed", "total"), [(0.0, 0.6931), (5.0, 0.6124), (50.0, 0.3666), (500.0, -0.5357)]
)
def test_the_loss_has_no_lower_bound(pushed: float, total: float) -> None:
    """Arm 3 never wins; pushing its logit down pays without end (pairs 1>2, 2>1, 1>3)."""
    reference = row(0.5, 0.3, 0.2)
    mine = (reference.log() - row(0, 0, pushed)).log_softmax(0)
    law = reference.repeat(3) / 3
    arms = {
        "chosen": torch.tensor([0, 1, 0]).repeat_interleave(3),
        "rejected": torch.tensor([1, 0, 2]).repeat_interleave(3),
        "explore": torch.arange(3).repeat(3),
    }
    values = LogProbs(
        {
            "policy": {role: mine[k] for role, k in arms.items()},
            "reference": {role: reference.log()[k] for role, k in arms.items()},
        }
    )
    found = SELM(beta=0.1, alpha=0.1).loss(values, Labels(p=torch.ones(9, dtype=torch.float64)))
    assert (law * found.losses).sum().item() == pytest.approx(total, abs=1e-4)


def test_the_explored_answer_is_drawn_on_its_own_greedily_or_like_the_rest() -> None:
    rest, explored = SELM().draws(2, 0.7)
    assert (rest.n, rest.source) == (2, "policy")
    assert (explored.n, explored.source, explored.temperature) == (1, "explore", 0.7)
    assert SELM(explore="greedy").draws(2, 0.7)[1].temperature == 0


def test_the_explored_answer_may_win_lose_or_look_on() -> None:
    sources = ["policy", "explore", "policy"]
    for scores, pair in (
        ([1.0, 3.0, 2.0], (1, 0)),
        ([1.0, 0.0, 2.0], (2, 1)),
        ([1.0, 1.5, 2.0], (2, 0)),
    ):
        (found,) = SELM().examples(judged(scores, sources), "max_min", 0)
        assert dict(found.answers) == {"chosen": pair[0], "rejected": pair[1], "explore": 1}


def test_prompts_where_nothing_was_explored_make_no_example() -> None:
    assert SELM().examples(judged([1.0, 2.0], ["policy", "policy"]), "max_min", 0) == []


def test_votes_carry_the_explored_answer_along() -> None:
    data = judged([None] * 3, ["policy", "policy", "explore"], [Vote(0, 1, 0.25, 2.0)])
    (found,) = SELM().examples(data, "voted", 0)
    assert dict(found.answers) == {"chosen": 1, "rejected": 0, "explore": 2}
    assert (found.p, found.weight) == (0.75, 2.0)


def test_a_weight_that_the_paper_found_harmful_is_warned_of() -> None:
    assert SELM().warnings() == ()
    assert SELM.build(SELM.presets["published"].knobs).warnings() == ()
    assert "0.001 per nat" in SELM(beta=0.1, alpha=0.01).warnings()[0]


def test_alpha_is_never_negative_and_conventions_are_known() -> None:
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        SELM(alpha=-1)
    with pytest.raises(ValueError, match="coefficient must be one of alpha_beta, alpha"):
        SELM(coefficient="beta")
