"""DNO by hand: a regression onto win rates, whose optimum is an exact step of mirror descent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.dno import DNO
from align.algorithms.inpo import INPO
from align.pairing import Answer, Judged, Vote
from tests.align.games import CYCLE, minimise, objective, population, row

LN3 = math.log(3)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logps(policy: float, start: float, initial: float = 0.0) -> LogProbs:
    """Models by their gap between chosen and rejected."""

    def sides(gap: float) -> dict[str, Tensor]:
        return {role: row(v).requires_grad_(True) for role, v in (("chosen", gap), ("rejected", 0))}

    models = {"policy": policy, "round_start": start, "initial": initial}
    return LogProbs({name: sides(gap) for name, gap in models.items()})


def labels(chosen: float, rejected: float) -> Labels:
    return Labels(p=row(1.0), facts={"win.chosen": row(chosen), "win.rejected": row(rejected)})


def judged(
    scores: Sequence[float | None],
    votes: Sequence[Vote] = (),
    *,
    truncated: Sequence[int] = (),
    sources: Sequence[str] = (),
    texts: Sequence[str] = (),
    margin: float = 0.0,
) -> Judged:
    answers = tuple(
        Answer(
            id=str(k),
            text=texts[k] if texts else f"text {k}",
            tokens=10,
            truncated=k in truncated,
            score=score,
            source=sources[k] if sources else "policy",
        )
        for k, score in enumerate(scores)
    )
    return Judged("p", answers, tuple(votes), margin=margin)


def test_a_loss_worked_by_hand() -> None:
    # h = 4 - 1 = 3, margin 0.5 * 3 = 1.5, target sigmoid(0.8 - 0.3) = 0.62246; the loss is
    # softplus(-1.5) + (1 - 0.62246) * 1.5 = 0.20141 + 0.56631.
    found = DNO(eta=0.5).loss(logps(4.0, 1.0), labels(0.8, 0.3))
    assert found.losses.item() == pytest.approx(0.76772, abs=1e-5)
    assert found.metrics["h"].item() == 3
    assert found.metrics["rewards/margins"].item() == 1.5
    assert found.metrics["rewards/accuracies"].item() == 1
    # The least it can be is the entropy of 0.62246, which is 0.66284.
    assert found.metrics["excess"].item() == pytest.approx(0.76772 - 0.66284, abs=1e-5)


def test_the_loss_bottoms_out_where_the_log_ratio_is_the_win_rates_difference_over_eta() -> None:
    values = logps(1.0 + (0.8 - 0.3) / 0.1, 1.0)
    found = DNO(eta=0.1).loss(values, labels(0.8, 0.3))
    assert found.metrics["excess"].item() == pytest.approx(0, abs=1e-12)
    found.losses.sum().backward()
    slope = values.of("policy", "chosen").grad
    assert slope is not None
    assert slope.item() == pytest.approx(0, abs=1e-12)


def test_the_gradient_is_how_far_the_margin_is_from_its_target() -> None:
    values = logps(4.0, 1.0)
    DNO(eta=0.5, reward_scale=2.0).loss(values, labels(0.8, 0.3)).losses.sum().backward()
    slope = 2 * 0.5 * (sigmoid(3.0) - sigmoid(1.0))
    chosen, rejected = (values.of("policy", role).grad for role in ("chosen", "rejected"))
    assert chosen is not None
    assert rejected is not None
    assert chosen.item() == pytest.approx(slope)
    assert rejected.item() == pytest.approx(-slope)


def test_equal_win_rates_hold_the_pair_where_it_is() -> None:
    values = logps(0.0, 0.0)
    found = DNO(eta=0.5).loss(values, labels(0.4, 0.4))
    assert found.losses.item() == pytest.approx(math.log(2))
    found.losses.sum().backward()
    slope = values.of("policy", "chosen").grad
    assert slope is not None
    assert slope.item() == 0


def test_a_pull_to_the_first_policy_mixes_the_two_references() -> None:
    # tau / eta = 1/4: the base is 0.25 * 8 + 0.75 * 4 = 5, so h = 7 - 5.
    found = DNO(eta=0.4, tau=0.1).loss(logps(7.0, 4.0, initial=8.0), labels(0.8, 0.3))
    assert found.metrics["h"].item() == pytest.approx(2)


def test_as_published_it_never_looks_at_the_first_policy() -> None:
    assert DNO().references == ("round_start",)
    assert DNO.build(DNO.presets["published"].knobs).references == ("round_start",)
    assert DNO(eta=0.4, tau=0.1).references == ("initial", "round_start")


def test_a_shift_of_both_answers_changes_nothing() -> None:
    values = logps(4.0, 1.0)
    moved = LogProbs(
        {**values.values, "policy": {r: v + 3.25 for r, v in values.values["policy"].items()}}
    )
    straight = DNO().loss(values, labels(0.8, 0.3)).losses
    assert torch.allclose(straight, DNO().loss(moved, labels(0.8, 0.3)).losses)


@pytest.mark.parametrize("scale", [1.0, 0.2, 5.0])
def test_the_optimum_is_the_start_tilted_by_win_rates_at_any_scale(scale: float) -> None:
    start = row(0.2, 0.3, 0.5)
    algorithm = DNO(eta=0.3, reward_scale=scale)
    frozen = {"initial": CYCLE.reference, "round_start": start}
    found = minimise(objective(algorithm, population(CYCLE, start), frozen), start)
    assert torch.allclose(found, CYCLE.tilted(start, start, 0.3), atol=1e-9)


def test_with_a_pull_it_takes_the_very_step_of_inpo() -> None:
    start = row(0.2, 0.3, 0.5)
    frozen = {"initial": CYCLE.reference, "round_start": start}
    data = population(CYCLE, start)
    mine, other = (
        minimise(objective(algorithm, data, frozen), start)
        for algorithm in (DNO(eta=0.3, tau=0.1), INPO(eta=0.3, tau=0.1))
    )
    assert torch.allclose(mine, other, atol=1e-9)


@pytest.mark.parametrize("eta", [0.1, 0.5, 2.0])
def test_a_step_beats_its_start_by_eta_times_their_divergence(eta: float) -> None:
    start = CYCLE.reference
    frozen = {"initial": start, "round_start": start}
    found = minimise(objective(DNO(eta=eta), population(CYCLE, start), frozen), start)
    divergence = (found * (found / start).log()).sum().item()
    assert (found @ CYCLE.rates(start)).item() >= 0.5 + eta * divergence - 1e-12


def test_examples_carry_win_rates_over_all_siblings() -> None:
    # P(b > a) = P(c > b) = 3/4 and P(c > a) = 9/10, so the win rates are 0.175, 0.5 and 0.825.
    found = DNO().examples(judged([0.0, LN3, 2 * LN3]), "all_pairs", 0)
    assert {(e.answers["chosen"], e.answers["rejected"]) for e in found} == {(1, 0), (2, 0), (2, 1)}
    by = {(e.answers["chosen"], e.answers["rejected"]): e for e in found}
    assert by[2, 0].facts["win.chosen"] == pytest.approx(0.825)
    assert by[2, 0].facts["win.rejected"] == pytest.approx(0.175)
    assert by[2, 0].p == pytest.approx(sigmoid(0.65))
    assert by[2, 1].facts["win.rejected"] == pytest.approx(0.5)
    assert [e.weight for e in found] == [pytest.approx(1 / 3)] * 3


def test_targets_never_leave_the_narrow_band_of_the_paper() -> None:
    found = DNO().examples(judged([None, None], [Vote(0, 1, 1.0, 1.0)]), "all_pairs", 0)
    assert found[0].p == pytest.approx(0.7311, abs=1e-4)
    assert DNO(reward_scale=4).examples(
        judged([None, None], [Vote(0, 1, 1.0, 1.0)]), "all_pairs", 0
    )[0].p == pytest.approx(sigmoid(4))


@pytest.mark.parametrize("rule", ["all_pairs", "random", "pair_off"])
def test_ties_and_close_pairs_count(rule: str) -> None:
    for scores in ([1.0, 1.0], [1.0, 1.001]):
        assert len(DNO().examples(judged(scores, margin=1.0), rule, 0)) == 1


def test_a_rule_of_extremes_gives_the_extremes() -> None:
    found = DNO().examples(judged([0.0, LN3, 2 * LN3], margin=99), "max_min", 0)
    assert [dict(e.answers) for e in found] == [{"chosen": 2, "rejected": 0}]


def test_voted_pairs_are_oriented_by_win_rate_and_keep_their_weight() -> None:
    # 0 beat 1 narrowly and lost to 2; 1 beat 2: over all siblings 1 wins more often than 0.
    votes = [Vote(0, 1, 0.6, 3.0), Vote(0, 2, 0.0, 1.0), Vote(1, 2, 1.0, 1.0)]
    found = DNO().examples(judged([None] * 3, votes), "voted", 0)
    first = next(e for e in found if set(e.answers.values()) == {0, 1})
    assert (first.answers["chosen"], first.weight) == (1, 3.0)
    assert first.facts["win.chosen"] == pytest.approx(0.7)
    assert first.facts["win.rejected"] == pytest.approx(0.3)


def test_only_the_policys_answers_are_opponents() -> None:
    # Against the policy's two answers the teacher wins 3/4 and 9/10; they are not judged by it.
    data = judged([0.0, LN3, 2 * LN3], sources=["policy", "policy", "teacher"])
    by = {
        (e.answers["chosen"], e.answers["rejected"]): e.facts
        for e in DNO().examples(data, "all_pairs", 0)
    }
    assert by[2, 0]["win.chosen"] == pytest.approx(0.825)
    assert by[2, 0]["win.rejected"] == pytest.approx(0.25)
    assert by[1, 0]["win.chosen"] == pytest.approx(0.75)


def test_answers_that_met_none_of_the_policys_take_no_part() -> None:
    imported = judged([None, None], [Vote(0, 1, 1.0, 1.0)], sources=["teacher", "teacher"])
    assert DNO().examples(imported, "voted", 0) == []
    assert DNO().examples(judged([1.0]), "all_pairs", 0) == []


def test_one_text_and_cut_off_winners_are_left_out() -> None:
    assert DNO().examples(judged([1.0, 2.0], texts=["a", "a"]), "all_pairs", 0) == []
    assert DNO().examples(judged([1.0, 2.0], truncated=[1]), "all_pairs", 0) == []
    assert len(DNO().examples(judged([1.0, 2.0], truncated=[0]), "all_pairs", 0)) == 1


def test_the_pull_is_at_most_the_step() -> None:
    with pytest.raises(ValueError, match="tau must be at most eta"):
        DNO(eta=0.1, tau=0.2)
    with pytest.raises(ValueError, match="reward_scale must be above 0"):
        DNO(reward_scale=0)
