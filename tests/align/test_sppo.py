"""SPPO by hand: every answer has a target of its own, out of its win rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from align.algorithm import Labels, LogProbs
from align.algorithms.sppo import SPPO
from align.pairing import Answer, Judged, Vote
from tests.align.games import CYCLE, row

LN3 = math.log(3)


def logps(chosen: float, rejected: float) -> LogProbs:
    """Log-ratios to the round's start."""
    policy = {"chosen": row(chosen), "rejected": row(rejected)}
    for leaf in policy.values():
        leaf.requires_grad_(True)
    return LogProbs(
        {"policy": policy, "round_start": {"chosen": row(0.0), "rejected": row(0.0)}},
    )


def labels(chosen: float, rejected: float, p: float = 1.0) -> Labels:
    return Labels(p=row(p), facts={"win.chosen": row(chosen), "win.rejected": row(rejected)})


def judged(
    scores: Sequence[float | None], votes: Sequence[Vote] = (), sources: Sequence[str] = ()
) -> Judged:
    answers = tuple(
        Answer(str(k), f"text {k}", 10, False, score, sources[k] if sources else "policy")
        for k, score in enumerate(scores)
    )
    return Judged("p", answers, tuple(votes))


def test_a_loss_worked_by_hand() -> None:
    # Targets 10 * 0.3 = 3 and 10 * -0.2 = -2; off by -2 and 0.5: (4 + 0.25) / 2.
    found = SPPO(eta=10).loss(logps(1.0, -1.5), labels(0.8, 0.3))
    assert found.losses.item() == pytest.approx(2.125)
    assert found.metrics["rewards/chosen"].item() == pytest.approx(0.1)
    assert found.metrics["rewards/margins"].item() == pytest.approx(0.25)
    assert found.metrics["rewards/accuracies"].item() == 1


def test_hard_targets_make_the_winner_win_always() -> None:
    # Targets 5 and -5, squares summed: 16 + 12.25; the win rates are not read.
    hard = SPPO(eta=10, targets="hard")
    assert hard.loss(logps(1.0, -1.5), Labels(p=row(1.0))).losses.item() == pytest.approx(28.25)
    assert hard.loss(logps(1.0, -1.5), labels(0.1, 0.9)).losses.item() == pytest.approx(28.25)
    assert hard.loss(logps(1.0, -1.5), labels(0.8, 0.3, p=0.75)).losses.item() == pytest.approx(
        28.25
    )


def test_with_hard_targets_a_tie_holds_both_answers_and_a_lost_pair_turns() -> None:
    hard = SPPO(eta=10, targets="hard")
    assert hard.loss(logps(1.0, -1.5), labels(0.8, 0.3, p=0.5)).losses.item() == pytest.approx(
        1 + 2.25
    )
    assert hard.loss(logps(1.0, -1.5), labels(0.8, 0.3, p=0.0)).losses.item() == pytest.approx(
        36 + 42.25
    )


@pytest.mark.parametrize(("targets", "factor"), [("win_rate", 1.0), ("hard", 2.0)])
def test_the_gradient_is_the_distance_to_the_target(targets: str, factor: float) -> None:
    values = logps(1.0, -1.5)
    SPPO(eta=10, targets=targets).loss(values, labels(1.0, 0.0)).losses.sum().backward()
    chosen, rejected = (values.of("policy", role).grad for role in ("chosen", "rejected"))
    assert chosen is not None
    assert rejected is not None
    assert chosen.item() == pytest.approx(factor * (1.0 - 5))
    assert rejected.item() == pytest.approx(factor * (-1.5 + 5))


@pytest.mark.parametrize("win", [0.2, 0.5, 0.9])
def test_an_answers_target_has_the_sign_of_its_win_rate_over_one_half(win: float) -> None:
    values = logps(0.0, 0.0)
    SPPO(eta=10).loss(values, labels(win, 0.5)).losses.sum().backward()
    chosen, rejected = (values.of("policy", role).grad for role in ("chosen", "rejected"))
    assert chosen is not None
    assert rejected is not None
    assert chosen.item() == pytest.approx(-10 * (win - 0.5))
    assert rejected.item() == 0


def test_it_sees_a_shift_of_both_answers() -> None:
    straight = SPPO(eta=10).loss(logps(1.0, -1.5), labels(0.8, 0.3)).losses
    moved = SPPO(eta=10).loss(logps(2.0, -0.5), labels(0.8, 0.3)).losses
    # Off by -1 and 1.5 instead: (1 + 2.25) / 2.
    assert moved.item() == pytest.approx(1.625)
    assert straight.item() != moved.item()


def test_both_targets_miss_the_exact_step_by_the_same_constant() -> None:
    """The exact step is pi_t exp(E P) / Z; E / 2 stands in for log Z, on the circle 500 for 579."""
    eta, start = 1000.0, CYCLE.reference
    rates = CYCLE.rates(start)
    log_z = torch.logsumexp(start.log() + eta * rates, 0).item()
    assert log_z == pytest.approx(579, abs=0.5)
    exact = (eta * rates - log_z).tolist()
    values = logps(exact[0], exact[1])
    data = labels(rates[0].item(), rates[1].item())
    SPPO(eta=eta).loss(values, data).losses.sum().backward()
    for role in ("chosen", "rejected"):
        off = values.of("policy", role).grad
        assert off is not None
        assert off.item() == pytest.approx(eta / 2 - log_z)


def test_win_rates_count_a_draw_with_oneself() -> None:
    # P(b > a) = P(c > b) = 3/4 and P(c > a) = 9/10.
    (found,) = SPPO().examples(judged([0.0, LN3, 2 * LN3]), "max_min", 0)
    assert dict(found.answers) == {"chosen": 2, "rejected": 0}
    assert found.facts["win.chosen"] == pytest.approx((0.75 + 0.9 + 0.5) / 3)
    assert found.facts["win.rejected"] == pytest.approx((0.25 + 0.1 + 0.5) / 3)


def test_answers_that_met_none_of_the_policys_take_no_part() -> None:
    imported = judged([None, None], [Vote(0, 1, 1.0, 1.0)], ["teacher", "teacher"])
    assert SPPO().examples(imported, "voted", 0) == []


def test_hard_targets_ask_for_no_win_rates() -> None:
    assert SPPO().facts == ("win.chosen", "win.rejected")
    assert SPPO(targets="hard").facts == ()
    imported = judged([None, None], [Vote(0, 1, 1.0, 1.0)], ["teacher", "teacher"])
    (found,) = SPPO(targets="hard").examples(imported, "voted", 0)
    assert found.facts == {"tie": 0.0}


def test_draws_come_from_the_wanted_nucleus() -> None:
    (draws,) = SPPO(top_p=0.9).draws(5, 0.7)
    assert (draws.n, draws.temperature, draws.top_p) == (5, 0.7, 0.9)


def test_the_step_is_positive_and_targets_are_known() -> None:
    with pytest.raises(ValueError, match="eta must be above 0"):
        SPPO(eta=0)
    with pytest.raises(ValueError, match="targets must be one of win_rate, hard"):
        SPPO(targets="soft")
