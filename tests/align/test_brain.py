"""BRAIn by hand, its gradient draw by draw, and a bandit enumerated in full."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from align import algorithms
from align.algorithm import Labels, LogProbs
from align.algorithms.brain import BRAIn
from align.algorithms.dpo import DPO
from align.pairing import Answer, Judged, Vote

LN2, LN3 = math.log(2), math.log(3)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def given(
    policy: Sequence[float],
    prior: Sequence[float],
    start: Sequence[float],
    rewards: Sequence[float],
) -> tuple[LogProbs, Labels]:
    """One example; the policy's values are leaves."""
    roles = [f"answer_{i}" for i in range(1, len(policy) + 1)]
    values = {
        "policy": {r: row(v).requires_grad_() for r, v in zip(roles, policy, strict=True)},
        "reference": {r: row(v) for r, v in zip(roles, prior, strict=True)},
        "round_start": {r: row(v) for r, v in zip(roles, start, strict=True)},
    }
    facts = {f"reward.{r}": row(v) for r, v in zip(roles, rewards, strict=True)}
    return LogProbs(values), Labels(p=row(1.0), facts=facts)


def gradient(logps: LogProbs) -> list[float]:
    found = []
    for leaf in logps.values["policy"].values():
        assert leaf.grad is not None
        found.append(leaf.grad.item())
    return found


def test_a_loss_worked_by_hand() -> None:
    # Target / proposal = (3, 1), so a = (3/4, 1/4); policy / proposal = (1, 2), so b = (1/3, 2/3).
    # KL = 3/4 ln(9/4) + 1/4 ln(3/8) = 0.608198 - 0.245207 = 0.362991.
    logps, labels = given((-7, -9 + LN2), (-7, -9), (-7, -9), (LN3, 0))
    found = BRAIn(n=2).loss(logps, labels)
    assert found.losses.item() == pytest.approx(0.75 * math.log(9 / 4) + 0.25 * math.log(3 / 8))
    assert found.losses.item() == pytest.approx(0.362990, abs=1e-6)
    assert found.metrics["reward"].item() == pytest.approx(LN3 / 3)
    assert found.metrics["effective_draws"].item() == pytest.approx(1 / (9 / 16 + 1 / 16))


def test_the_prior_and_gamma_shape_the_target() -> None:
    # Prior / proposal = (2, 1); rewards (0, 4) at gamma 2 -> (1, e^2): a = (2, e^2) / (2 + e^2).
    logps, labels = given((-5, -5), (-3 + LN2, -4), (-3, -4), (0, 4))
    found = BRAIn(n=2, gamma=2.0).loss(logps, labels)
    first, second = 2 / (2 + math.e**2), math.e**2 / (2 + math.e**2)
    # policy / proposal = (e^-2, e^-1)
    one = math.exp(-2) / (math.exp(-2) + math.exp(-1))
    hand = first * math.log(first / one) + second * math.log(second / (1 - one))
    assert found.losses.item() == pytest.approx(hand)


def test_the_gradient_is_the_difference_of_the_normalised_weights() -> None:
    logps, labels = given((-7, -9 + LN2, -3), (-6.5, -9, -3), (-7, -9, -3.5), (LN3, 0, -1))
    BRAIn(n=3, gamma=0.7).loss(logps, labels).losses.sum().backward()
    target = [math.exp(v) for v in (0.5 + LN3 / 0.7, 0.0, 0.5 - 1 / 0.7)]
    mine = [math.exp(v) for v in (0.0, LN2, 0.5)]
    expected = [y / sum(mine) - x / sum(target) for x, y in zip(target, mine, strict=True)]
    assert gradient(logps) == pytest.approx(expected, abs=1e-12)


def test_with_constant_reward_the_prior_gets_no_gradient_from_any_draw() -> None:
    prior = (-3.0, -11.5, -40.0, -7.25)
    logps, labels = given(prior, prior, (-4, -10, -39, -9), (1.5,) * 4)
    found = BRAIn(n=4).loss(logps, labels)
    found.losses.sum().backward()
    assert found.losses.item() == pytest.approx(0, abs=1e-12)
    assert gradient(logps) == pytest.approx([0, 0, 0, 0], abs=1e-12)


def test_with_two_draws_and_argmax_it_is_dpo_on_the_rounds_start() -> None:
    start = (-8.0, -6.0)
    logps, labels = given((-7.5, -6.75), start, start, (0.2, 0.9))
    found = BRAIn(n=2, target="argmax").loss(logps, labels)
    found.losses.sum().backward()
    chosen, rejected = row(-6.75).requires_grad_(), row(-7.5).requires_grad_()
    pair = LogProbs(
        {
            "policy": {"chosen": chosen, "rejected": rejected},
            "reference": {"chosen": row(start[1]), "rejected": row(start[0])},
        }
    )
    dpo = DPO(beta=1.0).loss(pair, Labels(p=row(1.0))).losses
    dpo.sum().backward()
    assert found.losses.item() == pytest.approx(dpo.item(), abs=1e-12)
    # margin = (-6.75 + 6) - (-7.5 + 8) = -1.25
    assert found.losses.item() == pytest.approx(math.log(1 + math.exp(1.25)))
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert gradient(logps) == pytest.approx([rejected.grad.item(), chosen.grad.item()], abs=1e-12)


def test_equally_good_draws_share_the_argmax() -> None:
    logps, labels = given((-1, -1, -1), (-2, -2, -2), (-2, -2, -2), (5, 5, 0))
    found = BRAIn(n=3, target="argmax").loss(logps, labels)
    # a = (1/2, 1/2, 0) against b = 1/3 each: ln(3/2)
    assert found.losses.item() == pytest.approx(math.log(1.5))


def test_the_softmax_becomes_the_argmax_as_gamma_vanishes() -> None:
    values = ((-7.5, -6.75, -3), (-8, -6, -3.5), (-8, -6, -3.5), (0.2, 0.9, 0.1))
    soft = BRAIn(n=3, gamma=1e-3).loss(*given(*values)).losses.item()
    hard = BRAIn(n=3, target="argmax").loss(*given(*values)).losses.item()
    assert soft == pytest.approx(hard, abs=1e-9)


def test_huge_differences_stay_finite() -> None:
    logps, labels = given((-900, -1), (-1, -900), (-500, -2), (300, -300))
    found = BRAIn(n=2, gamma=0.01).loss(logps, labels)
    found.losses.sum().backward()
    assert found.losses.isfinite().all()
    assert gradient(logps) == pytest.approx([-1, 1])


class Bandit:
    """Four arms, every tuple of n draws from the proposal with its exact probability."""

    prior = row(0.4, 0.3, 0.2, 0.1)
    proposal = row(0.1, 0.2, 0.3, 0.4)
    reward = row(0.0, 0.5, -0.3, 0.9)
    gamma = 0.5

    def __init__(self, n: int) -> None:
        self.algorithm = BRAIn(n=n, gamma=self.gamma)
        self.draws = torch.tensor(list(product(range(4), repeat=n))).T  # (n, 4^n)
        self.chance = self.proposal[self.draws].prod(0)
        tilted = self.prior * (self.reward / self.gamma).exp()
        self.target = tilted / tilted.sum()

    def expected_loss(self, logits: Tensor) -> Tensor:
        def roles(values: Tensor) -> dict[str, Tensor]:
            return dict(zip(self.algorithm.roles, values[self.draws], strict=True))

        logps = LogProbs(
            {
                "policy": roles(logits.log_softmax(0)),
                "reference": roles(self.prior.log()),
                "round_start": roles(self.proposal.log()),
            }
        )
        facts = {f"reward.{role}": value for role, value in roles(self.reward).items()}
        labels = Labels(p=torch.ones_like(self.chance), facts=facts)
        return (self.chance * self.algorithm.loss(logps, labels).losses).sum()


@pytest.mark.parametrize("n", [2, 3])
def test_a_bandit_reaches_the_prior_tilted_by_the_reward_whatever_the_proposal(n: int) -> None:
    bandit = Bandit(n)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([logits], tolerance_grad=1e-12, max_iter=300)

    def step() -> float:
        solver.zero_grad()
        total = bandit.expected_loss(logits)
        total.backward()
        return total.item()

    for _ in range(5):
        solver.step(step)
    assert torch.allclose(logits.softmax(0).detach(), bandit.target, atol=1e-6)
    assert step() == pytest.approx(0, abs=1e-9)


def test_the_expected_loss_is_zero_at_the_target_and_only_there() -> None:
    bandit = Bandit(2)
    assert bandit.expected_loss(bandit.target.log()).item() == pytest.approx(0, abs=1e-12)
    for arm in range(4):
        moved = bandit.target.log().clone()
        moved[arm] += 0.1
        assert bandit.expected_loss(moved).item() > 1e-5


def test_the_baseline_of_the_policys_own_weights_lowers_the_variance() -> None:
    """Where the policy is the target, the gradient without b still has variance; with b none."""
    bandit = Bandit(2)
    ratio = bandit.target / bandit.proposal
    a = ratio[bandit.draws] / ratio[bandit.draws].sum(0)  # (2, 16)
    score = torch.eye(4, dtype=torch.float64)[bandit.draws] - bandit.target  # grad log pi
    alone = (a[..., None] * score).sum(0)  # (16, 4)
    assert (bandit.chance[:, None] * alone**2).sum() > 0.1
    for draws in bandit.draws.T:
        logps, labels = given(
            bandit.target.log()[draws].tolist(),
            bandit.prior.log()[draws].tolist(),
            bandit.proposal.log()[draws].tolist(),
            bandit.reward[draws].tolist(),
        )
        bandit.algorithm.loss(logps, labels).losses.sum().backward()
        assert gradient(logps) == pytest.approx([0, 0], abs=1e-12)


def answer(text: str, score: float | None = None, truncated: bool = False) -> Answer:
    return Answer(id=text, text=text, tokens=3, truncated=truncated, score=score)


def test_a_prompts_draws_become_groups_that_weigh_as_one() -> None:
    judged = Judged("q", tuple(answer(str(k), k / 10) for k in range(7)))
    found = BRAIn(n=3).examples(judged, "max_min", seed=1)
    assert [example.weight for example in found] == [0.5, 0.5]
    used = [index for example in found for index in example.answers.values()]
    assert len(set(used)) == 6
    for example in found:
        assert tuple(example.answers) == ("answer_1", "answer_2", "answer_3")
        assert example.facts == {
            f"reward.{role}": index / 10 for role, index in example.answers.items()
        }
    assert found == BRAIn(n=3).examples(judged, "max_min", seed=1)
    assert found != BRAIn(n=3).examples(judged, "max_min", seed=2)


def test_bounded_rewards_lie_between_0_and_1_in_the_order_of_the_scores() -> None:
    judged = Judged("q", tuple(answer(str(k), 100.0 * k) for k in range(4)))
    (found,) = BRAIn(n=4, shaping="par").examples(judged, "max_min", seed=1)
    by_index = {index: found.facts[f"reward.{role}"] for role, index in found.answers.items()}
    assert [by_index[k] for k in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_cut_off_answers_and_answers_nobody_judged_were_never_drawn() -> None:
    answers = (answer("a", 1.0), answer("b", 2.0, truncated=True), answer("c"), answer("d", 0.0))
    (found,) = BRAIn(n=2).examples(Judged("q", answers), "max_min", seed=0)
    assert set(found.answers.values()) == {0, 3}
    assert BRAIn(n=3).examples(Judged("q", answers), "max_min", seed=0) == []


def test_without_a_model_shares_of_votes_are_the_rewards() -> None:
    judged = Judged("q", (answer("a"), answer("b"), answer("c")), votes=(Vote(0, 2, 0.75, 1.0),))
    (found,) = BRAIn(n=2).examples(judged, "voted", seed=0)
    rewards = {index: found.facts[f"reward.{role}"] for role, index in found.answers.items()}
    assert rewards == {0: 0.75, 2: 0.25}


def test_the_same_answer_n_times_says_nothing() -> None:
    answers = (answer("a", 1.0), answer("a", 1.0))
    assert BRAIn(n=2).examples(Judged("q", answers), "max_min", seed=0) == []


def test_every_example_must_carry_the_reward_of_every_draw() -> None:
    assert BRAIn(n=2).facts == ("reward.answer_1", "reward.answer_2")
    assert len(BRAIn(n=8).facts) == len(BRAIn(n=8).roles) == 8


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"n": 1}, "n must be at least 2"),
        ({"n": 9}, "n must be at most 8"),
        ({"gamma": 0}, "gamma must be above 0"),
        ({"target": "top"}, "target must be one of softmax, argmax"),
        ({"beta": 1}, "BRAIn has no setting called beta"),
    ],
)
def test_a_setting_out_of_bounds_gets_a_sentence(
    knobs: dict[str, float | str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        algorithms.get("brain").build(knobs)


def test_argmax_over_many_draws_is_warned_of() -> None:
    assert not BRAIn(n=4).warnings()
    assert not BRAIn(n=2, target="argmax").warnings()
    assert "good ones as hard as bad" in BRAIn(n=4, target="argmax").warnings()[0]
