"""CoPG: rewards instead of winners, its gradient, and an optimum that no sampling law moves."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.copg import CoPG
from align.algorithms.ipo import IPO
from align.pairing import RULES, SHAPINGS, Answer, Judged, Vote

REFERENCE, REWARD = (0.4, 0.3, 0.2, 0.1), (0.0, 0.5, -0.3, 0.9)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def labels(chosen: Tensor, rejected: Tensor) -> Labels:
    return Labels(torch.ones_like(chosen), {"reward.chosen": chosen, "reward.rejected": rejected})


def at(algorithm: CoPG, ratios: tuple[float, float], rewards: tuple[float, float]) -> list[float]:
    """Loss, and its slopes in the two log-ratios to the reference."""
    leaves = {
        role: row(value).requires_grad_(True)
        for role, value in zip(("chosen", "rejected"), ratios, strict=True)
    }
    frozen = {"chosen": row(0.0), "rejected": row(0.0)}
    values = LogProbs({"policy": leaves, "reference": frozen})
    losses = algorithm.loss(values, labels(row(rewards[0]), row(rewards[1]))).losses
    losses.sum().backward()
    grads = [leaf.grad for leaf in leaves.values()]
    return [losses.item(), *(grad.item() for grad in grads if grad is not None)]


def objective(beta: float, ratios: tuple[float, float], rewards: tuple[float, float]) -> float:
    """The paper's: (R_{b/2}(y) - R_{b/2}(y')) (rho(y) - rho(y')), R_c(y) = R(y) - c rho(y)."""
    held = [r - beta / 2 * rho for r, rho in zip(rewards, ratios, strict=True)]
    return (held[0] - held[1]) * (ratios[0] - ratios[1])


def judged(
    scores: list[float | None], votes: tuple[Vote, ...] = (), *, cut: int = -1, **fields: Any
) -> Judged:
    answers = tuple(Answer(str(k), f"text {k}", 10, k == cut, s) for k, s in enumerate(scores))
    return Judged("p", answers, votes, **fields)


def test_a_loss_worked_by_hand() -> None:
    # Rewards 2 and 0.5, log-ratios 1 and 0, beta 0.5: 1.5 - 0.5 = 1 is missing; 1 / (2 * 0.5).
    loss, chosen, rejected = at(CoPG(beta=0.5), (1.0, 0.0), (2.0, 0.5))
    assert (loss, chosen, rejected) == pytest.approx((1.0, -1.0, 1.0))


def test_it_is_the_published_objective_turned_over_up_to_a_constant() -> None:
    for ratios, rewards in (((1.0, 0.0), (2.0, 0.5)), ((-3.0, 2.0), (0.1, 0.7))):
        constant = (rewards[0] - rewards[1]) ** 2 / (2 * 0.3)
        loss = at(CoPG(beta=0.3), ratios, rewards)[0]
        assert loss == pytest.approx(constant - objective(0.3, ratios, rewards))


def test_the_gradient_is_the_difference_of_regularised_rewards() -> None:
    """By finite differences of the published objective, and by its closed form."""
    beta, ratios, rewards, step = 0.3, (1.3, -0.4), (0.9, 0.2), 1e-6
    _, chosen, rejected = at(CoPG(beta=beta), ratios, rewards)
    up = objective(beta, (ratios[0] + step, ratios[1]), rewards)
    down = objective(beta, (ratios[0] - step, ratios[1]), rewards)
    assert -chosen == pytest.approx((up - down) / (2 * step), rel=1e-6)
    regularised = [r - beta * rho for r, rho in zip(rewards, ratios, strict=True)]
    assert -chosen == pytest.approx(regularised[0] - regularised[1])
    assert rejected == pytest.approx(-chosen)


def test_it_is_ipo_where_rewards_are_a_quarter_up_and_down() -> None:
    tau = 0.2
    for h in (-2.0, 0.0, 2.5, 7.0):
        values = LogProbs(
            {
                "policy": {"chosen": row(h), "rejected": row(0.0)},
                "reference": {"chosen": row(0.0), "rejected": row(0.0)},
            }
        )
        ipo = IPO(tau=tau).loss(values, Labels(p=row(1.0))).losses.item()
        assert at(CoPG(beta=tau), (h, 0.0), (0.25, -0.25))[0] == pytest.approx(tau / 2 * ipo)
        # One vote as the reward, 1 against 0: twice as far apart, so twice the beta.
        assert at(CoPG(beta=2 * tau), (h, 0.0), (1.0, 0.0))[0] == pytest.approx(tau * ipo)


def test_adding_to_both_rewards_changes_nothing() -> None:
    """The other answer is the baseline: what is common to a prompt's answers drops out."""
    one, other = ((2.0, 0.5), (102.0, 100.5))
    assert at(CoPG(), (1.0, 0.3), one) == pytest.approx(at(CoPG(), (1.0, 0.3), other))


def test_equal_rewards_say_that_the_answers_are_equal() -> None:
    loss, chosen, rejected = at(CoPG(beta=0.5), (2.0, 0.0), (0.7, 0.7))
    assert (loss, chosen, rejected) == pytest.approx((1.0, 1.0, -1.0))
    assert at(CoPG(beta=0.5), (0.0, 0.0), (0.7, 0.7))[0] == 0


def test_who_comes_first_does_not_matter() -> None:
    loss, chosen, rejected = at(CoPG(beta=0.3), (1.3, -0.4), (0.9, 0.2))
    assert at(CoPG(beta=0.3), (-0.4, 1.3), (0.2, 0.9)) == pytest.approx([loss, rejected, chosen])


def descend(law: Tensor, reinforce: bool) -> Tensor:
    """The policy after gradient steps on pairs (or answers) drawn by `law`, enumerated exactly."""
    beta, reference, reward = 0.5, row(*REFERENCE), row(*REWARD)
    logits = reference.log().clone().requires_grad_(True)
    i, j = (torch.tensor(k) for k in zip(*product(range(4), repeat=2), strict=True))
    frozen = {"chosen": reference.log()[i], "rejected": reference.log()[j]}
    for _ in range(1000):
        mine = logits.log_softmax(0)
        if reinforce:
            held = reward - beta * (mine.detach() - reference.log())
            total = -(law * held * mine).sum()
        else:
            values = LogProbs(
                {"policy": {"chosen": mine[i], "rejected": mine[j]}, "reference": frozen}
            )
            losses = CoPG(beta=beta).loss(values, labels(reward[i], reward[j])).losses
            total = (law[i] * law[j] * losses).sum()
        (grad,) = torch.autograd.grad(total, logits)
        with torch.no_grad():
            logits -= 6.0 * grad
    return logits.detach().softmax(0)


def test_a_bandit_reaches_the_closed_form_under_any_sampling_law() -> None:
    """pi_ref exp(R / beta) / Z, which off-policy REINFORCE misses (arXiv:2406.19185)."""
    optimum = row(*REFERENCE) * (row(*REWARD) / 0.5).exp()
    optimum = optimum / optimum.sum()
    for law in (row(0.25, 0.25, 0.25, 0.25), row(0.7, 0.05, 0.2, 0.05)):
        assert torch.allclose(descend(law, reinforce=False), optimum, atol=1e-6)
    missed = descend(row(0.7, 0.05, 0.2, 0.05), reinforce=True)
    assert (missed - optimum).abs().max() > 0.1


def test_every_answer_is_paired_once_with_the_better_one_first() -> None:
    scores: list[float | None] = [0.1, 2.0, -1.0, 1.5, 1.5]
    found = CoPG().examples(judged(scores), "pair_off", 0)
    assert len(found) == 2
    used = [k for example in found for k in example.answers.values()]
    assert len(set(used)) == 4
    for example in found:
        rewards = {f"reward.{role}": scores[k] for role, k in example.answers.items()}
        assert {k: v for k, v in example.facts.items() if k != "tie"} == rewards
        assert example.facts["reward.chosen"] >= example.facts["reward.rejected"]


def test_pairs_of_equal_reward_are_kept_where_rewards_do_not_choose_the_pairs() -> None:
    for rule in ("pair_off", "random", "all_pairs"):
        (found,) = CoPG().examples(judged([1.0, 1.0], margin=9.0), rule, 0)
        assert found.p == 0.5
        assert found.facts["reward.chosen"] == found.facts["reward.rejected"] == 1.0
    assert CoPG().examples(judged([1.0, 1.0]), "max_min", 0) == []


def test_all_pairs_of_a_prompt_weigh_as_one_however_many_are_left() -> None:
    for cut in (-1, 1, 2):  # the best answer of three is 1
        found = CoPG().examples(judged([0.1, 2.0, -1.0], cut=cut), "all_pairs", 0)
        assert len(found) == (1 if cut == 1 else 3)
        assert sum(example.weight for example in found) == pytest.approx(1)
    voted = judged([0.1, 2.0, -1.0], (Vote(2, 1, 1.0, 4.0),), cut=1)  # against the scores
    assert sum(x.weight for x in CoPG().examples(voted, "all_pairs", 0)) == pytest.approx(1)


def test_the_reward_decides_who_is_chosen_and_votes_only_without_one() -> None:
    vote = (Vote(0, 1, 1.0, 3.0),)
    (found,) = CoPG().examples(judged([0.2, 0.9], vote), "voted", 0)
    assert found.answers == {"chosen": 1, "rejected": 0}
    assert found.weight == 3.0
    (found,) = CoPG().examples(judged([None, None], (Vote(0, 1, 0.25, 3.0),)), "voted", 0)
    assert found.answers == {"chosen": 1, "rejected": 0}
    assert found.facts == {"tie": 0.0, "reward.chosen": 0.75, "reward.rejected": 0.25}


def test_a_length_penalty_is_part_of_the_reward() -> None:
    (found,) = CoPG().examples(judged([2.0, 1.0], length_penalty=0.05), "pair_off", 0)
    assert (found.facts["reward.chosen"], found.facts["reward.rejected"]) == (1.5, 0.5)


def test_an_answer_that_was_cut_off_is_never_chosen() -> None:
    assert CoPG().examples(judged([2.0, 1.0], cut=0), "pair_off", 0) == []
    assert len(CoPG().examples(judged([2.0, 1.0], cut=1), "pair_off", 0)) == 1


@pytest.mark.parametrize(
    ("knobs", "words"),
    [({"beta": 0}, "beta must be above 0"), ({"noise": "robust"}, "CoPG has no setting")],
)
def test_settings_out_of_bounds_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CoPG.build(knobs)


@pytest.mark.parametrize("name", ["published", "theory"])
def test_both_presets_build(name: str) -> None:
    preset = CoPG.presets[name]
    CoPG.build(preset.knobs)
    assert preset.round["pair_rule"] in RULES


def test_bounded_rewards_are_mean_chances_against_the_prompts_other_answers() -> None:
    par = CoPG(shaping="par")
    (example,) = par.examples(judged([math.log(3), 0.0]), "pair_off", 0)
    bounded = {"reward.chosen": 0.75, "reward.rejected": 0.25}
    assert example.facts == pytest.approx({**bounded, "tie": 0.0})
    (cold,) = par.examples(judged([2 * math.log(3), 0.0], temperature=2.0), "pair_off", 0)
    assert cold.facts == pytest.approx(example.facts)
    (shorter,) = par.examples(judged([math.log(3), 0.0], length_penalty=0.5), "pair_off", 0)
    assert shorter.facts == pytest.approx(example.facts)  # both are as long


def test_no_reward_runs_away_once_bounded_and_the_order_stays() -> None:
    scores: list[float | None] = [1000.0, 1.0, 0.5, -1000.0]
    plain, par = (CoPG(shaping=name).examples(judged(scores), "all_pairs", 0) for name in SHAPINGS)
    assert [one.answers for one in par] == [one.answers for one in plain]
    gaps = [one.facts["reward.chosen"] - one.facts["reward.rejected"] for one in par]
    assert all(0 < gap <= 1 for gap in gaps)
    assert max(one.facts["reward.chosen"] - one.facts["reward.rejected"] for one in plain) == 2000


def test_shares_of_votes_are_bounded_as_they_are() -> None:
    said = judged([None, None], (Vote(0, 1, 0.8, 1.0),))
    plain, par = (CoPG(shaping=name).examples(said, "voted", 0) for name in SHAPINGS)
    assert [one.facts for one in par] == [one.facts for one in plain]
