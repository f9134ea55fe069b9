"""Every reward objective against its formula, worked by hand or summed over all outcomes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from align.objective import Objective, Preferences, Rankings, Ratings, Said
from align.objectives.bradley_terry import BradleyTerry
from align.objectives.davidson import Davidson
from align.objectives.general_preference import GeneralPreference
from align.objectives.pairwise_generative import PairwiseGenerative
from align.objectives.plackett_luce import PlackettLuce
from align.objectives.rao_kupper import RaoKupper
from align.objectives.regression import Regression


def values(*scores: float) -> Tensor:
    return torch.tensor(scores, dtype=torch.float64)[:, None]


def pair(p: float, **more: float) -> Said:
    """What is said of answers 0 and 1."""
    told = {name: torch.tensor([value], dtype=torch.float64) for name, value in more.items()}
    return Said(
        Preferences(
            torch.tensor([0]),
            torch.tensor([1]),
            torch.tensor([p], dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
            **told,
        )
    )


def ranking(*groups: list[int]) -> Said:
    placed = [(k, place) for place, group in enumerate(groups) for k in group]
    items, place = torch.tensor(placed).unbind(-1)
    said = Rankings(items[None], place[None], torch.ones(1))
    return Said(pair(1.0).preferences, rankings=said)


def loss(objective: Objective, found: Tensor, said: Said) -> float:
    return objective.loss(found, said).item()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_only_differences_of_scores_count_where_nothing_is_centred():
    said, scores = pair(0.7), values(1.2, -0.4)
    for objective in (BradleyTerry(centring=0), RaoKupper(centring=0), Davidson(centring=0)):
        assert loss(objective, scores, said) == pytest.approx(loss(objective, scores + 3.0, said))
    ranked, scores = ranking([1], [0, 2], [3]), values(0.3, 1.0, -0.2, 0.1)
    plackett = PlackettLuce(centring=0)
    assert loss(plackett, scores, ranked) == pytest.approx(loss(plackett, scores + 3.0, ranked))


def test_how_much_better_people_called_it_asks_for_a_margin():
    scores, said = values(1.0, 0.0), pair(1.0, strength=2 / 3)
    found = loss(BradleyTerry(centring=0, margin=3.0), scores, said)
    assert found == pytest.approx(-math.log(sigmoid(1.0 - 2.0)))
    assert loss(BradleyTerry(centring=0), scores, said) == pytest.approx(-math.log(sigmoid(1.0)))
    # The margin is for the side that people took: said the other way around, it is the same.
    turned = loss(
        BradleyTerry(centring=0, margin=3.0), values(0.0, 1.0), pair(0.0, strength=-2 / 3)
    )
    assert turned == pytest.approx(found)
    adaptive = loss(BradleyTerry(centring=0), scores, pair(1.0, margin=0.5))
    assert adaptive == pytest.approx(-math.log(sigmoid(0.5)))


def test_plackett_luce_of_two_is_bradley_terry():
    scores = values(0.9, -0.3)
    plackett, bradley = PlackettLuce(), BradleyTerry()
    assert loss(plackett, scores, ranking([0], [1])) == pytest.approx(
        loss(bradley, scores, pair(1.0))
    )
    plain = PlackettLuce(centring=0)
    tied = -math.log(sigmoid(1.2)) - math.log(sigmoid(-1.2))
    assert loss(plain, scores, ranking([0, 1])) == pytest.approx(tied)


def test_the_chances_of_all_orders_sum_to_one():
    scores, plackett = values(0.5, -1.0, 2.0, 0.1), PlackettLuce(centring=0)
    orders = itertools.permutations(range(4))
    chances = [math.exp(-loss(plackett, scores, ranking(*([k] for k in one)))) for one in orders]
    assert len(chances) == 24
    assert sum(chances) == pytest.approx(1.0, abs=1e-12)


def test_equals_share_a_place_and_a_choice_among_the_same_ones():
    s = [0.5, -1.0, 2.0]
    found = loss(PlackettLuce(centring=0), values(*s), ranking([0, 2], [1]))
    every = math.log(sum(math.exp(one) for one in s))
    assert found == pytest.approx((every - s[0]) + (every - s[2]))


def test_a_first_choice_alone_is_the_first_place_alone_and_padding_says_nothing():
    s = [0.5, -1.0, 2.0]
    every = math.log(sum(math.exp(one) for one in s))
    said = ranking([1], [0], [2])
    assert loss(PlackettLuce(centring=0, places=1), values(*s), said) == pytest.approx(every - s[1])
    known = said.rankings
    assert known is not None
    padded = Said(
        said.preferences,
        Rankings(
            torch.cat([known.items, torch.tensor([[0, 0]])], 1),
            torch.cat([known.place, torch.tensor([[-1, -1]])], 1),
            known.weight,
        ),
    )
    scores = values(*s).requires_grad_()
    one, other = PlackettLuce().loss(scores, said), PlackettLuce().loss(scores, padded)
    assert one.item() == pytest.approx(other.item())
    assert torch.allclose(
        torch.autograd.grad(one.sum(), scores)[0], torch.autograd.grad(other.sum(), scores)[0]
    )


@pytest.mark.parametrize("d", [-2.0, 0.0, 0.7])
def test_win_loss_and_tie_sum_to_one(d: float):
    for objective in (RaoKupper(centring=0), Davidson(centring=0)):
        outcomes = (pair(1.0, tie=0.0), pair(0.0, tie=0.0), pair(0.5, tie=1.0))
        won, lost, tied = (math.exp(-loss(objective, values(d, 0.0), one)) for one in outcomes)
        assert won + lost + tied == pytest.approx(1.0, abs=1e-12)
        if d == 0:
            assert tied == pytest.approx(0.5)  # the defaults: half of equal answers tie
            assert won == pytest.approx(0.25)


def test_rao_kupper_and_davidson_by_hand():
    d, scores = 0.8, values(0.8, 0.0)
    found = loss(RaoKupper(centring=0, nu=2.0), scores, pair(0.7, tie=0.2))
    a = math.log(2)
    won, lost = sigmoid(d - a), sigmoid(-d - a)
    by_hand = -0.6 * math.log(won) - 0.2 * math.log(lost) - 0.2 * math.log(3 * won * lost)
    assert found == pytest.approx(by_hand)
    found = loss(Davidson(centring=0, nu=0.5), scores, pair(0.7, tie=0.2))
    total = 1 + math.exp(-d) + math.exp(-d / 2)
    by_hand = math.log(total) + 0.2 * d + 0.2 * d / 2
    assert found == pytest.approx(by_hand)


def test_without_ties_both_are_bradley_terry():
    scores, said = values(0.8, 0.1), pair(0.7, tie=0.2)
    plain = loss(BradleyTerry(), scores, said)
    assert loss(RaoKupper(nu=1.0), scores, said) == pytest.approx(plain)
    assert loss(Davidson(nu=0.0), scores, said) == pytest.approx(plain)


def test_planted_scores_and_ties_are_recovered():
    """5,000 votes drawn from known scores: each estimate within 0.15, four standard errors."""
    truth = torch.tensor([1.0, 0.3, -0.4, -0.9], dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    i = torch.randint(4, (5000,), generator=generator)
    j = (i + torch.randint(1, 4, (5000,), generator=generator)) % 4
    a, d = math.log(3.0), truth[i] - truth[j]
    drawn = torch.rand(5000, generator=generator, dtype=torch.float64)
    won, lost = torch.sigmoid(d - a), torch.sigmoid(-d - a)
    p = torch.where(drawn < won, 1.0, torch.where(drawn < won + lost, 0.0, 0.5)).double()
    tie = (p == 0.5).double()
    said = Said(Preferences(i, j, p, torch.ones(5000), tie=tie))
    found = fitted(RaoKupper(centring=1e-4), said, torch.zeros(4, 1, dtype=torch.float64))
    assert (found[:, 0] - found.mean()).tolist() == pytest.approx(
        (truth - truth.mean()).tolist(), abs=0.15
    )


CYCLE = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], dtype=torch.float64)


def fitted(objective: Objective, said: Said, start: Tensor) -> Tensor:
    found = start.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [found], max_iter=800, tolerance_grad=1e-10, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        search.zero_grad()
        total = objective.loss(found, said).mean()
        total.backward()
        return total

    search.step(closure)
    return found.detach()


def all_pairs(matrix: Tensor) -> Said:
    i, j = torch.triu_indices(len(matrix), len(matrix), 1)
    return Said(Preferences(i, j, matrix[i, j], torch.ones(len(i))))


def test_one_plane_holds_a_circle_of_tastes_that_no_score_can():
    said = all_pairs(CYCLE)
    general = GeneralPreference(planes=1, temperature=1.0)
    torch.manual_seed(0)
    found = fitted(general, said, torch.randn(3, 2, dtype=torch.float64))
    i, j = said.preferences.i, said.preferences.j
    assert general.logit(found, i, j).sigmoid().tolist() == pytest.approx(
        said.preferences.p.tolist(), abs=1e-6
    )
    best = fitted(BradleyTerry(), said, torch.zeros(3, 1, dtype=torch.float64))
    off = (BradleyTerry().logit(best, i, j).sigmoid() - said.preferences.p).abs()
    assert off.tolist() == pytest.approx([0.4] * 3, abs=1e-6)  # it can only call all three even


def test_general_preference_is_antisymmetric_and_linear_in_whom_it_meets():
    torch.manual_seed(1)
    found = torch.randn(5, 6, dtype=torch.float64)
    general = GeneralPreference(planes=3)
    i, j = torch.arange(5), torch.tensor([1, 2, 3, 4, 0])
    assert torch.allclose(general.logit(found, i, j), -general.logit(found, j, i))
    assert general.logit(found, i, i).abs().max() == 0
    against_all = torch.stack([general.logit(found, i, torch.full((5,), k)) for k in range(5)])
    assert torch.allclose(general.score(found, found.mean(0)), against_all.mean(0))


def test_regression_reads_each_criterion_by_its_own_head():
    rated = Ratings(
        torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1.0, 0.25]), torch.ones(2)
    )
    said = Said(pair(1.0).preferences, ratings=rated)
    objective, heads = Regression(sharpness=2.0), torch.tensor([[9.0, 0.3], [0.1, 9.0]])
    assert objective.width(["clear", "true"]) == 2
    assert objective.loss(heads, said).tolist() == pytest.approx([0.2**2, 0.35**2])
    assert objective.score(heads, heads.mean(0)).tolist() == pytest.approx([9.3, 9.1])


def labels(one: float, other: float) -> Tensor:
    """Log-probabilities of A and B: P(A) is `one` with i first and `other` with j first."""
    rows = [[math.log(one), math.log(1 - one)], [math.log(other), math.log(1 - other)]]
    return torch.tensor(rows, dtype=torch.float64)


def test_a_generative_verdict_is_the_mean_of_both_orders():
    objective, said = PairwiseGenerative(), pair(1.0)
    nothing = torch.tensor([0])

    def p(found: Tensor) -> float:
        return objective.logit(found, nothing, nothing).sigmoid().item()

    assert p(labels(0.8, 0.4)) == pytest.approx(0.7)
    assert p(labels(0.8, 0.4)) + p(labels(0.4, 0.8)) == pytest.approx(1.0)
    assert p(labels(0.9, 0.9)) == pytest.approx(0.5)  # it always says A
    by_hand = (-math.log(0.8) - math.log(0.6)) / 2 + (0.8 + 0.4 - 1) ** 2
    assert loss(objective, labels(0.8, 0.4), said) == pytest.approx(by_hand)
    assert objective.figures(labels(0.8, 0.4), said)["consistency"] == (1.0, 1.0)
    assert objective.figures(labels(0.8, 0.6), said)["consistency"] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("cls", "knobs", "sentence"),
    [
        (RaoKupper, {"nu": 0.5}, "nu must be at least 1"),
        (GeneralPreference, {"planes": 0}, "planes must be at least 1"),
        (PlackettLuce, {"order": 1}, "has no setting called order"),
    ],
)
def test_a_bad_setting_gets_a_sentence(cls: Any, knobs: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cls.build(knobs)
