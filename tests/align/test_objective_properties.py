"""What holds of every reward objective's formula whatever the scores, and planted parameters that
each finds again."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from align.objective import Objective, Preferences, Rankings, Ratings, Said
from align.objectives.bradley_terry import BradleyTerry
from align.objectives.davidson import Davidson
from align.objectives.general_preference import GeneralPreference
from align.objectives.length_decorrelated import LengthDecorrelated
from align.objectives.pairwise_generative import PairwiseGenerative
from align.objectives.plackett_luce import PlackettLuce
from align.objectives.rao_kupper import RaoKupper
from align.objectives.regression import Regression
from tests.align.test_objectives import fitted, loss, pair, ranking, values

# Training flushes subnormal numbers to zero, and so does the process it ran in.
scores = st.floats(-30, 30, allow_subnormal=False)
shares = st.floats(0, 1, allow_subnormal=False)
few = settings(max_examples=40, deadline=None)
F64 = torch.float64

SCORED = (BradleyTerry, RaoKupper, Davidson, LengthDecorrelated)  # a difference of scores decides


def numbers(width: int, rows: int = 2) -> st.SearchStrategy[Tensor]:
    flat = st.lists(scores, min_size=rows * width, max_size=rows * width)
    return flat.map(lambda found: torch.tensor(found, dtype=F64).view(rows, width))


def turned(said: Said) -> Said:
    """The same votes, told from the other side."""
    pairs = said.preferences
    return Said(Preferences(pairs.j, pairs.i, 1 - pairs.p, pairs.weight, tie=pairs.tie))


def drawn(objective: Objective) -> st.SearchStrategy[Tensor]:
    return numbers(objective.width(["helpful", "true"]))


@pytest.mark.parametrize("kind", [*SCORED, GeneralPreference, Regression])
@given(draw=st.data())
@few
def test_log_odds_change_their_sign_with_the_order(kind: Any, draw: Any):
    objective = kind()
    found = draw.draw(drawn(objective))
    i, j = torch.tensor([0]), torch.tensor([1])
    ahead = objective.logit(found, i, j)
    assert torch.allclose(ahead, -objective.logit(found, j, i), atol=1e-9)
    assert objective.logit(found, i, i).item() == 0


@pytest.mark.parametrize("kind", [*SCORED, GeneralPreference])
@given(draw=st.data(), p=shares, tied=shares)
@few
def test_a_vote_costs_the_same_from_either_side(kind: Any, draw: Any, p: float, tied: float):
    objective = kind()
    found, said = draw.draw(drawn(objective)), pair(p, tie=tied * 2 * min(p, 1 - p))
    assert loss(objective, found, said) == pytest.approx(loss(objective, found, turned(said)))


@given(one=shares, other=shares, p=shares)
@few
def test_a_generative_verdict_costs_the_same_from_either_side(one: float, other: float, p: float):
    logits = torch.tensor([[one, 1 - one], [other, 1 - other]], dtype=F64).mul(20)
    found, objective = logits.log_softmax(1), PairwiseGenerative()
    nothing = torch.tensor([0])
    ahead = objective.logit(found, nothing, nothing)
    assert torch.allclose(ahead, -objective.logit(found.flip(0), nothing, nothing), atol=1e-9)
    assert loss(objective, found, pair(p)) == pytest.approx(
        loss(objective, found.flip(0), pair(1 - p))
    )


@pytest.mark.parametrize("kind", SCORED)
@given(draw=st.data(), p=shares, shift=scores)
@few
def test_a_shift_of_both_scores_says_nothing(kind: Any, draw: Any, p: float, shift: float):
    objective = kind(centring=0.0)
    found, said = draw.draw(drawn(objective)), pair(p, tie=0.0)
    assert loss(objective, found + shift, said) == pytest.approx(
        loss(objective, found, said), abs=1e-9
    )


@given(found=numbers(1, 4), shift=scores)
@few
def test_a_shift_of_a_ranking_says_nothing_and_all_its_orders_are_one(found: Tensor, shift: float):
    objective = PlackettLuce(centring=0.0)
    tied = ranking([2], [0, 3], [1])
    assert loss(objective, found + shift, tied) == pytest.approx(
        loss(objective, found, tied), abs=1e-9
    )
    orders = itertools.permutations(range(4))
    chances = [math.exp(-loss(objective, found, ranking(*([k] for k in one)))) for one in orders]
    assert sum(chances) == pytest.approx(1)


@given(d=scores, wide=st.floats(1.001, 50), often=st.floats(0.001, 50))
@few
def test_win_tie_and_loss_are_one(d: float, wide: float, often: float):
    outcomes = (pair(1.0, tie=0.0), pair(0.0, tie=0.0), pair(0.5, tie=1.0))
    for objective in (RaoKupper(centring=0, nu=wide), Davidson(centring=0, nu=often)):
        chances = [math.exp(-loss(objective, values(d, 0.0), one)) for one in outcomes]
        assert sum(chances) == pytest.approx(1)


@given(found=numbers(1), p=shares, tied=shares)
@few
def test_without_ties_all_are_bradley_terry(found: Tensor, p: float, tied: float):
    said = pair(p, tie=tied * 2 * min(p, 1 - p))
    plain = loss(BradleyTerry(), found, said)
    assert loss(RaoKupper(nu=1.0), found, said) == pytest.approx(plain, abs=1e-9)
    assert loss(Davidson(nu=0.0), found, said) == pytest.approx(plain, abs=1e-9)
    won = loss(BradleyTerry(), found, pair(1.0))
    assert loss(PlackettLuce(), found, ranking([0], [1])) == pytest.approx(won, abs=1e-9)
    both = torch.cat([found, 0 * found], 1)
    assert loss(LengthDecorrelated(), both, said) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        *((kind, pair(p, tie=tie)) for kind in SCORED for p, tie in ((1.0, 0.0), (0.5, 1.0))),
        (GeneralPreference, pair(1.0)),
        (PlackettLuce, ranking([0], [1])),
        (PlackettLuce, ranking([0, 1])),
    ],
)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_gradients_are_finite_at_large_scores(kind: Any, told: Said, size: float):
    objective = kind()
    for sign in (1, -1):
        found = torch.full((2, objective.width(())), sign * size)  # fp32, as in training
        found[1] *= -1
        found.requires_grad_()
        total = objective.loss(found, told).sum()
        total.backward()
        assert total.isfinite()
        assert found.grad is not None
        assert found.grad.isfinite().all()


# Planted parameters. Each is found within four standard errors, of the fit's own curvature where
# the parameters are scores; and these are small, so that the interval says something.

TRUTH = torch.tensor([1.2, 0.7, 0.1, -0.2, -0.6, -1.2], dtype=F64)
VOTES = 6000
ERRORS = 4.0


def met(votes: int = VOTES, seed: int = 0) -> tuple[Tensor, Tensor, torch.Generator]:
    """Who meets whom, evenly among six answers."""
    generator = torch.Generator().manual_seed(seed)
    i = torch.randint(6, (votes,), generator=generator)
    j = (i + torch.randint(1, 6, (votes,), generator=generator)) % 6
    return i, j, generator


def chance(generator: torch.Generator, count: int = VOTES) -> Tensor:
    return torch.rand(count, generator=generator, dtype=F64)


def decided(ahead: Tensor, generator: torch.Generator) -> Tensor:
    return (chance(generator, len(ahead)) < ahead.sigmoid()).double()


def pairs(i: Tensor, j: Tensor, p: Tensor, tie: Tensor | None = None) -> Said:
    return Said(Preferences(i, j, p, torch.ones(len(p), dtype=F64), tie=tie))


def errors(objective: Objective, said: Said, found: Tensor) -> Tensor:
    """Standard errors of scores less their mean, from the curvature of the summed loss."""
    curve = torch.autograd.functional.hessian(
        lambda s: objective.loss(s[:, None], said).sum(), found
    )
    return torch.linalg.pinv(curve, rtol=1e-6).diagonal().sqrt()


def recovers(objective: Objective, said: Said, at_most: float) -> None:
    found = fitted(objective, said, torch.zeros(6, 1, dtype=F64))[:, 0]
    spread = errors(objective, said, found)
    assert spread.max() < at_most
    off = (found - found.mean()) - (TRUTH - TRUTH.mean())
    assert (off.abs() < ERRORS * spread).all(), (off, spread)


def test_bradley_terry_finds_planted_scores():
    i, j, generator = met()
    p = decided(TRUTH[i] - TRUTH[j], generator)
    recovers(BradleyTerry(centring=0), pairs(i, j, p), 0.06)


def test_rao_kupper_finds_planted_scores_behind_ties():
    i, j, generator = met()
    d, drawn = TRUTH[i] - TRUTH[j], chance(generator)
    won, lost = (d - math.log(3)).sigmoid(), (-d - math.log(3)).sigmoid()
    tie = ((drawn >= won) & (drawn < 1 - lost)).double()
    p = (drawn < won).double() + tie / 2
    assert 0.3 < tie.mean() < 0.5
    recovers(RaoKupper(centring=0), pairs(i, j, p, tie), 0.06)


def test_davidson_finds_planted_scores_behind_ties():
    i, j, generator = met()
    d, drawn = TRUTH[i] - TRUTH[j], chance(generator)
    total = 1 + (-d).exp() + 2 * (-d / 2).exp()
    won, lost = 1 / total, (-d).exp() / total
    tie = ((drawn >= won) & (drawn < 1 - lost)).double()
    p = (drawn < won).double() + tie / 2
    assert 0.3 < tie.mean() < 0.5
    recovers(Davidson(centring=0), pairs(i, j, p, tie), 0.06)


def test_plackett_luce_finds_planted_scores_in_rankings_of_four():
    generator = torch.Generator().manual_seed(0)
    items = chance(generator, 2000 * 6).view(2000, 6).argsort(1)[:, :4]
    noise = -(-chance(generator, 8000).view(2000, 4).log()).log()  # Gumbel's
    order = (TRUTH[items] + noise).argsort(1, descending=True)
    place = torch.arange(4).expand(2000, 4)
    weight = torch.ones(2000, dtype=F64)
    told = Said(pair(1.0).preferences, rankings=Rankings(items.gather(1, order), place, weight))
    recovers(PlackettLuce(centring=0), told, 0.06)


def test_regression_finds_planted_ratings_by_criterion():
    """Six answers rated 100 times each by two criteria with noise of 0.1."""
    torch.manual_seed(0)
    truth = torch.rand(6, 2, dtype=F64)
    item, criterion = (
        k.repeat(100) for k in torch.cartesian_prod(torch.arange(6), torch.arange(2)).T
    )
    value = truth[item, criterion] + 0.1 * torch.randn(1200, dtype=F64)
    told = Ratings(item, criterion, value, torch.ones(1200, dtype=F64))
    objective = Regression(sharpness=4.0)
    start = torch.zeros(6, 2, dtype=F64)
    found = fitted(objective, Said(pair(1.0).preferences, ratings=told), start)
    assert ((0.5 + found - truth).abs() < ERRORS * 0.1 / 10).all()
    apart = objective.score(found, found.mean(0))
    wanted = 4 * truth.mean(1)
    assert ((apart - apart[0]) - (wanted - wanted[0])).abs().max() < 4 * ERRORS * 0.01


def test_general_preference_finds_planted_log_odds_that_go_in_circles():
    """Six answers on a circle, each ahead of the next two: the standard error of a pair's log-odds
    is at most what its own 800 votes alone would give."""
    angle = torch.arange(6, dtype=F64) * math.pi / 3
    truth = torch.stack([angle.cos(), angle.sin()], 1) * 1.2
    objective = GeneralPreference(planes=1, temperature=1.0)
    i, j, generator = met(12000)
    p = decided(objective.logit(truth, i, j), generator)
    torch.manual_seed(0)
    start = objective.start * torch.randn(6, 2, dtype=F64)
    found = fitted(objective, pairs(i, j, p), start)
    every = torch.triu_indices(6, 6, 1)
    wanted, got = (objective.logit(one, *every) for one in (truth, found))
    assert wanted.abs().max() > 1.2
    chances = wanted.sigmoid()
    spread = (12000 / 15 * chances * (1 - chances)).rsqrt()
    assert spread.max() < 0.1
    assert ((got - wanted).abs() < ERRORS * spread).all()
    scores = fitted(BradleyTerry(), pairs(i, j, p), torch.zeros(6, 1, dtype=F64))
    assert (BradleyTerry().logit(scores, *every).abs() < ERRORS * 0.07).all()  # all even, to it


def test_centring_brings_the_mean_score_to_nought_and_keeps_their_order():
    i, j, generator = met()
    said = pairs(i, j, decided(TRUTH[i] - TRUTH[j], generator))
    start = torch.full((6, 1), 5.0, dtype=F64)
    centred = fitted(BradleyTerry(centring=0.01), said, start)[:, 0]
    assert abs(centred.mean().item()) < 0.1
    plain = fitted(BradleyTerry(centring=0.0), said, start)[:, 0]
    assert abs(plain.mean().item() - 5) < 0.1
    assert centred.argsort().tolist() == plain.argsort().tolist()
