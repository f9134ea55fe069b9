"""Where algorithms end up in games with known answers: a circle of tastes, and transitive ones.

The circle is three answers with P(1>2) = 0.9, P(2>3) = 0.6, P(3>1) = 0.7 and a first policy of
(0.5, 0.3, 0.2). Every policy here is the minimiser of the loss that trains language models; only
the long runs use the closed form that the first test shows to be the same.
"""

from __future__ import annotations

import random
from itertools import combinations, islice

import pytest
import torch
from torch import Tensor

from align.algorithms.dno import DNO
from align.algorithms.dpo import DPO
from align.algorithms.inpo import INPO
from align.algorithms.ipo import IPO
from align.algorithms.nash_md import NashMD
from align.pairing import Answer, Judged, Vote
from tests.align.games import (
    CYCLE,
    Data,
    Game,
    bradley_terry,
    minimise,
    objective,
    play,
    population,
    row,
    sample,
)

START = CYCLE.reference


def near(found: Tensor, *wanted: float, within: float = 6e-6) -> bool:
    """Equal to the five decimals that are given."""
    return bool((found - row(*wanted)).abs().max() < within)


def mirror_step(game: Game, policy: Tensor, eta: float, tau: float) -> Tensor:
    """reference^(tau/eta) * policy^(1 - tau/eta) * exp(P(y > policy) / eta), normalised."""
    share = tau / eta
    return game.tilted(game.reference**share * policy ** (1 - share), policy, eta)


def settled(algorithm: INPO | DPO, game: Game = CYCLE, limit: int = 400) -> Tensor:
    """The policy at which rounds stop moving."""
    policies = play(algorithm, game)
    before = next(policies)
    for policy in islice(policies, limit):
        if (policy - before).abs().max() < 1e-11:
            return policy
        before = policy
    raise AssertionError(f"still moving after {limit} rounds")


def offline(algorithm: INPO | IPO | DPO, game: Game = CYCLE) -> Tensor:
    """One round on pairs of the first policy's answers."""
    frozen = dict.fromkeys(("reference", "initial", "round_start"), game.reference)
    loss = objective(algorithm, population(game, game.reference), frozen)
    return minimise(loss, game.reference)


# INPO ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.005, 0.3, 2.0])
@pytest.mark.parametrize("share", [0.0, 1 / 3, 1.0])
def test_inpos_loss_is_least_at_the_mirror_descent_step(eta: float, share: float) -> None:
    policy = row(0.2, 0.7, 0.1)
    frozen = {"initial": START, "round_start": policy}
    loss = objective(INPO(eta=eta, tau=share * eta), population(CYCLE, policy), frozen)
    found = minimise(loss, policy)
    assert torch.allclose(found, mirror_step(CYCLE, policy, eta, share * eta), atol=1e-9)


def test_inpo_runs_through_the_known_trace() -> None:
    trace = list(islice(play(INPO(eta=0.3, tau=0.05), CYCLE), 31))
    assert near(trace[1], 0.61009, 0.15387, 0.23604)
    assert near(trace[2], 0.60154, 0.08015, 0.31832)
    assert near(trace[3], 0.52334, 0.04964, 0.42702)
    gaps = {t: CYCLE.gap(trace[t], 0.05) for t in (0, 1, 2, 3, 10, 20, 30)}
    known = {0: 0.1193, 1: 0.0915, 2: 0.0924, 3: 0.0738, 10: 0.0236, 20: 0.0033, 30: 0.0006}
    assert gaps == pytest.approx(known, abs=6e-5)
    assert gaps[2] > gaps[1]  # the way to Nash is not downhill all along


@pytest.mark.parametrize(
    ("tau", "eta", "policy"),
    [(0.1, 0.3, (0.39272, 0.12566, 0.48162)), (0.05, 0.3, (0.26138, 0.16400, 0.57462))],
)
def test_inpo_settles_on_the_nash_policy(
    tau: float, eta: float, policy: tuple[float, float, float]
) -> None:
    found = settled(INPO(eta=eta, tau=tau))
    assert near(found, *policy)
    assert torch.allclose(found, CYCLE.tilted(START, found, tau), atol=1e-10)
    assert CYCLE.gap(found, tau) == pytest.approx(0, abs=1e-12)


def test_a_weak_pull_needs_many_rounds_and_settles_too() -> None:
    policy = START
    for _ in range(3000):
        policy = mirror_step(CYCLE, policy, 0.5, 0.02)
    assert near(policy, 0.18199, 0.22582, 0.59219)
    assert torch.allclose(policy, CYCLE.tilted(START, policy, 0.02), atol=1e-10)
    assert CYCLE.raw_gap(policy) == pytest.approx(0.0276, abs=5.1e-5)
    frozen = {"initial": START, "round_start": policy}
    loss = objective(INPO(eta=0.5, tau=0.02), population(CYCLE, policy), frozen)
    assert torch.allclose(minimise(loss, policy), policy, atol=1e-9)


def test_at_a_smaller_tau_the_nash_policy_is_harder_to_exploit() -> None:
    assert CYCLE.raw_gap(CYCLE.nash(0.05)) == pytest.approx(0.0718, abs=5.1e-5)
    assert CYCLE.raw_gap(row(1 / 7, 2 / 7, 4 / 7)) == pytest.approx(0, abs=1e-12)


def test_with_too_small_an_eta_inpo_circles_for_ever() -> None:
    assert INPO(eta=0.05, tau=0.05).warnings()
    policies = [START]
    for _ in range(2003):
        policies.append(mirror_step(CYCLE, policies[-1], 0.05, 0.05))
    late = [CYCLE.gap(policy, 0.05) for policy in policies[2000:]]
    assert late == pytest.approx([0.1898, 0.6345, 0.3108, 0.1898], abs=1e-4)  # three rounds a turn


@pytest.mark.parametrize(("count", "within"), [(20_000, 5e-4), (2_000, 5e-3)])
def test_votes_of_finite_samples_are_enough_for_inpo(count: int, within: float) -> None:
    gaps = []
    for seed in range(3):
        generator, policy = torch.Generator().manual_seed(seed), START
        for _ in range(30):
            data = sample(CYCLE, policy, count, generator)
            frozen = {"initial": START, "round_start": policy}
            policy = minimise(objective(INPO(eta=0.3, tau=0.1), data, frozen), policy)
        gaps.append(CYCLE.gap(policy, 0.1))
    assert max(gaps) < within


@pytest.mark.parametrize(("tau", "eta"), [(0.1, 0.108), (0.05, 0.146), (0.02, 0.308), (0.01, 0.59)])
def test_the_least_stable_eta_is_what_the_linearised_game_says(tau: float, eta: float) -> None:
    nash = CYCLE.nash(tau)
    threshold = (tau**2 + CYCLE.swirl(nash) ** 2) / (2 * tau)
    assert threshold == pytest.approx(eta, rel=0.03)
    for factor, stable in ((0.9, False), (1.1, True)):
        policy = nash * row(1.001, 1.0, 0.999)
        apart = []
        for _ in range(600):
            policy = mirror_step(CYCLE, policy / policy.sum(), factor * threshold, tau)
            apart.append(float((policy - nash).abs().max()))
        assert (max(apart[-50:]) < max(apart[:50])) is stable


def test_a_certain_circle_of_three_swirls_by_0_289() -> None:
    wins = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]], dtype=torch.float64)
    third = row(1 / 3, 1 / 3, 1 / 3)
    assert Game(wins, third).swirl(third) == pytest.approx(0.289, abs=5e-4)


def test_with_transitive_tastes_inpo_settles_at_any_eta() -> None:
    game = bradley_terry(row(0.0, 0.5, -0.3, 0.9), row(0.4, 0.3, 0.2, 0.1))
    for eta in (0.05, 0.3):
        found = settled(INPO(eta=eta, tau=0.05), game)
        assert game.swirl(found) < 0.002  # a hundredth of the circle's
        assert torch.allclose(found, game.tilted(game.reference, found, 0.05), atol=1e-9)


def update(rule: str, prompts: int, *, votes: bool) -> Tensor:
    """Which way INPO's first round moves each answer, centred, at K = 8 answers a prompt and a
    step of 1; labels are single votes, or what the votes of many would say."""
    rng, wins = random.Random(0), CYCLE.wins.tolist()
    pairs = []
    for n in range(prompts):
        arms = rng.choices(range(3), weights=START.tolist(), k=8)
        answers = tuple(Answer(str(k), f"text {k}", 1, False, None) for k in range(8))
        said = []
        for i, j in combinations(range(8), 2):
            p = wins[arms[i]][arms[j]]
            said.append(Vote(i, j, float(rng.random() < p) if votes else p, 1.0))
        for example in INPO().examples(Judged(str(n), answers, tuple(said)), rule, n):
            pairs.append([arms[example.answers[role]] for role in ("chosen", "rejected")])
    chosen, rejected = torch.tensor(pairs).unbind(1)
    ones = torch.ones(len(pairs), dtype=torch.float64)
    data = Data({"chosen": chosen, "rejected": rejected}, ones, ones / len(pairs))
    frozen = {"initial": START, "round_start": START}
    moved = minimise(objective(INPO(eta=1.0, tau=1.0), data, frozen), START).log() - START.log()
    return moved - moved.mean()


def test_pairs_drawn_alike_move_each_answer_by_how_often_it_wins() -> None:
    exact = CYCLE.rates(START) - CYCLE.rates(START).mean()
    assert near(exact, 0.09, -0.17, 0.08)
    assert near(update("random", 10_000, votes=True), *exact.tolist(), within=0.02)


def test_a_tournament_pushes_harder_and_not_in_the_same_direction() -> None:
    exact = row(0.09, -0.17, 0.08)
    tournament = update("tournament", 10_000, votes=True)
    # (0.139, -0.329, 0.190) where the last re-check is a new vote; here it is the stored one.
    assert near(tournament, 0.139, -0.329, 0.190, within=0.03)
    assert 1.7 < (tournament.norm() / exact.norm()).item() < 2.1
    certain = update("tournament", 4000, votes=False)
    assert certain[2] > certain[0] + 0.2  # the third answer rises most, where the first should


# DPO and IPO --------------------------------------------------------------------------------------


def test_offline_dpo_cannot_reach_nash_at_any_beta() -> None:
    tilt = offline(DPO(beta=1.0)).log() - START.log()  # the fitted reward, whatever beta is
    betas = torch.logspace(-3, 2, 2001, dtype=torch.float64).tolist()
    policies = [(START.log() + tilt / beta).softmax(0) for beta in betas]
    for beta, policy in list(zip(betas, policies, strict=True))[1000::200]:
        assert torch.allclose(offline(DPO(beta=beta)), policy, atol=1e-9)
    assert min(CYCLE.raw_gap(p) for p in policies) == pytest.approx(0.147, abs=5.1e-4)
    for tau, gap in ((0.1, 0.046), (0.05, 0.088), (0.02, 0.122)):
        safe = [p for p in policies if p.min() > 0]
        assert min(CYCLE.gap(p, tau) for p in safe) == pytest.approx(gap, abs=5.1e-4)


@pytest.mark.parametrize(("tau", "gap"), [(0.1, 0.079), (0.05, 0.178), (0.02, 0.273)])
def test_offline_ipo_plays_against_the_first_policy_only(tau: float, gap: float) -> None:
    found = offline(IPO(tau=tau))
    assert torch.allclose(found, CYCLE.tilted(START, START, tau), atol=1e-9)
    assert CYCLE.gap(found, tau) == pytest.approx(gap, abs=5.1e-4)


@pytest.mark.parametrize("beta", [0.6, 0.8, 1.0, 2.0, 4.0])
def test_online_dpo_with_a_large_beta_settles_near_the_nash_policy_of_a_quarter_of_it(
    beta: float,
) -> None:
    found = settled(DPO(beta=beta))
    assert 7e-5 < CYCLE.gap(found, beta / 4) < 1.9e-4
    if beta == 1:
        assert near(found, 0.53312, 0.14838, 0.31850)


def test_online_dpo_with_a_small_beta_never_settles() -> None:
    for beta in (0.3, 0.1):
        late = torch.stack(list(islice(play(DPO(beta=beta), CYCLE), 40, 60)))
        assert (late.diff(dim=0).abs().amax(1) > 0.3).all()
    assert (late.amax(1) > 0.98).all()  # at 0.1 from corner to corner


def test_dpo_whose_reference_moves_runs_to_the_boundary_while_its_average_does_not() -> None:
    policies = torch.stack(list(islice(play(DPO(beta=0.3), CYCLE, moving=True), 201)))
    assert (policies[20:].amin(1) < 1e-5).all()
    assert sum(CYCLE.raw_gap(p) for p in policies[100:]) / 101 > 0.2
    assert CYCLE.raw_gap(policies.mean(0)) < 0.05


def test_dpo_finds_the_reward_whatever_pairs_it_sees() -> None:
    reward = row(0.0, 0.5, -0.3, 0.9)
    game = bradley_terry(reward, row(0.4, 0.3, 0.2, 0.1))
    optimum = (game.reference.log() + reward / 0.5).softmax(0)
    skewed = row(0.7, 0.1, 0.1, 0.1), row(0.1, 0.2, 0.3, 0.4)
    for data in (population(game, game.reference), population(game, *skewed)):
        loss = objective(DPO(beta=0.5), data, {"reference": game.reference})
        assert torch.allclose(minimise(loss, game.reference), optimum, atol=1e-9)


def test_of_two_answers_dpos_margin_is_the_votes_odds() -> None:
    game = bradley_terry(row(1.3, 0.0), row(0.3, 0.7))
    found = offline(DPO(beta=0.25), game)
    gap = (found / game.reference).log().diff()
    assert -gap.item() == pytest.approx(1.3 / 0.25)  # logit(p) / beta


# DNO and Nash-MD ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("eta", "tau"), [(1.0, 0.0), (0.3, 0.1)])
def test_dnos_loss_is_least_at_its_step(eta: float, tau: float) -> None:
    policy = row(0.2, 0.7, 0.1)
    loss = objective(
        DNO(eta=eta, tau=tau), population(CYCLE, policy), {"initial": START, "round_start": policy}
    )
    found = minimise(loss, policy)
    assert torch.allclose(found, mirror_step(CYCLE, policy, eta, tau), atol=1e-9)
    won = (found @ CYCLE.rates(policy)).item() - 0.5
    moved = (found * (found / policy).log()).sum().item()
    if not tau:  # monotone improvement (arXiv:2404.03715)
        assert won >= eta * moved


def test_reward_scale_leaves_dnos_step_where_it_is() -> None:
    frozen = {"initial": START, "round_start": START}
    for scale in (1.0, 7.0):
        loss = objective(DNO(eta=0.5, reward_scale=scale), population(CYCLE, START), frozen)
        assert torch.allclose(minimise(loss, START), CYCLE.tilted(START, START, 0.5), atol=1e-9)


@pytest.mark.parametrize(
    ("eta", "rounds", "gap", "last"), [(1.0, 500, 0.0091, 0.186), (5.0, 2000, 0.0029, 0.147)]
)
def test_dno_circles_while_the_average_of_its_rounds_approaches_nash(
    eta: float, rounds: int, gap: float, last: float
) -> None:
    policies = [row(1 / 3, 1 / 3, 1 / 3)]  # where the paper's algorithm starts
    for _ in range(rounds):
        policies.append(CYCLE.tilted(policies[-1], policies[-1], eta))
    assert CYCLE.raw_gap(torch.stack(policies).mean(0)) == pytest.approx(gap, abs=5.1e-5)
    assert CYCLE.raw_gap(policies[-1]) == pytest.approx(last, abs=5.1e-4)


def test_nash_md_stops_near_the_nash_policy_and_not_on_it() -> None:
    tau, eta = 0.05, 0.3
    share, policy = tau / eta, START
    for t in range(600):
        mix = (share * START.log() + (1 - share) * policy.log()).softmax(0)
        if t < 3 or t == 599:
            data = population(CYCLE, mix)
            frozen = {"initial": START, "round_start": policy}
            after = minimise(objective(NashMD(eta=eta, tau=tau), data, frozen), policy)
            assert torch.allclose(after, CYCLE.tilted(mix, mix, eta), atol=1e-9)
        policy = CYCLE.tilted(mix, mix, eta)
    assert torch.allclose(policy, CYCLE.tilted(START, mix, tau), atol=1e-9)
    assert CYCLE.gap(policy, tau) == pytest.approx(0.0053, abs=5.1e-5)
