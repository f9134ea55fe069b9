"""VPO: the loss that we derived, checked against the problem it was derived from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from align.algorithm import Labels, LogProbs
from align.algorithms.dpo import DPO
from align.algorithms.selm import SELM
from align.algorithms.vpo import VPO
from align.pairing import Answer, Judged
from tests.align.games import row

ROLES = ("chosen", "rejected", "calibration")
REFERENCE = row(0.4, 0.3, 0.2, 0.1)
TASTE = row(0.0, 0.5, -0.3, 0.9)  # rewards behind the votes
BETA, ALPHA = 0.5, 0.1


def models(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = {
        name: {role: -40 * torch.rand(20, generator=generator) for role in ROLES}
        for name in ("policy", "reference")
    }
    for leaf in found["policy"].values():
        leaf.requires_grad_(True)
    return found


def certain() -> Labels:
    return Labels(p=torch.ones(20))


def minimum(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    x = start.clone().requires_grad_(True)
    solver = torch.optim.LBFGS([x], tolerance_grad=1e-13, tolerance_change=1e-16, max_iter=500)

    def step() -> float:
        solver.zero_grad()
        value = loss(x)
        value.backward()
        return value.item()

    for _ in range(20):
        solver.step(step)
    return x.detach()


def best_policy(reward: Tensor) -> Tensor:
    return (REFERENCE.log() + reward / BETA).softmax(0)


def constrained(sign: int, law: Tensor) -> Tensor:
    """The policy of the reward with E_law[r] = 0 that minimises the votes' negative log-likelihood
    - sign * alpha * V(r): the problem itself, with no policy in it."""

    def loss(free: Tensor) -> Tensor:
        reward = free - (law * free).sum()
        apart = reward[:, None] - reward[None, :]
        wins = torch.sigmoid(TASTE[:, None] - TASTE[None, :])
        votes = -(wins * torch.nn.functional.logsigmoid(apart)).mean() * 2
        value = BETA * torch.logsumexp(REFERENCE.log() + reward / BETA, 0)
        return votes - sign * ALPHA * value

    return best_policy(minimum(loss, torch.zeros(4, dtype=torch.float64)))


def trained(algorithm: VPO, law: Tensor) -> Tensor:
    """The policy that minimises the algorithm's loss over all pairs and all answers of `law`."""
    chosen, rejected, third = (
        torch.tensor(k) for k in zip(*product(range(4), repeat=3), strict=True)
    )
    arms = {"chosen": chosen, "rejected": rejected, "calibration": third}
    weights = law[third] / 16
    labels = Labels(p=torch.sigmoid(TASTE[chosen] - TASTE[rejected]))

    def loss(logits: Tensor) -> Tensor:
        named = {"policy": logits.log_softmax(0), "reference": REFERENCE.log()}
        values = {
            name: {role: model[arms[role]] for role in algorithm.roles}
            for name, model in named.items()
        }
        return (weights * algorithm.loss(LogProbs(values), labels).losses).sum()

    return minimum(loss, REFERENCE.log()).softmax(0)


@pytest.mark.parametrize("law", [REFERENCE, row(0.1, 0.2, 0.3, 0.4)])
@pytest.mark.parametrize(("uncertainty", "sign"), [("optimism", 1), ("pessimism", -1)])
def test_its_minimum_solves_the_constrained_problem(
    law: Tensor, uncertainty: str, sign: int
) -> None:
    found = trained(VPO(beta=BETA, alpha=ALPHA, uncertainty=uncertainty), law)
    assert torch.allclose(found, constrained(sign, law), atol=1e-6)
    assert not torch.allclose(found, best_policy(TASTE), atol=1e-2)


def test_calibrated_on_the_pairs_it_solves_the_problem_for_the_law_of_pairs() -> None:
    even = torch.full((4,), 0.25, dtype=torch.float64)
    algorithm = VPO(beta=BETA, alpha=ALPHA, uncertainty="pessimism", calibration="pair")
    assert torch.allclose(trained(algorithm, REFERENCE), constrained(-1, even), atol=1e-6)


def test_optimism_seeks_and_pessimism_shuns_distance_from_the_reference() -> None:
    plain = best_policy(TASTE)
    bold, shy = (
        trained(VPO(beta=BETA, alpha=ALPHA, uncertainty=name), REFERENCE)
        for name in ("optimism", "pessimism")
    )

    def distance(policy: Tensor) -> float:
        return (REFERENCE * (REFERENCE / policy).log()).sum().item()

    assert distance(bold) > distance(plain) > distance(shy)


def test_a_term_worked_by_hand() -> None:
    # The calibration answer gained 3 nats: 0.5 * 0.1 * 3 = 0.15, and its opposite.
    values = LogProbs(
        {
            "policy": {role: row(-10.0) for role in ROLES},
            "reference": {role: row(-13.0) for role in ROLES},
        }
    )
    for uncertainty, term in (("optimism", 0.15), ("pessimism", -0.15)):
        found = VPO(beta=0.1, alpha=0.5, uncertainty=uncertainty).loss(values, Labels(p=row(1.0)))
        assert found.metrics["loss/value"].item() == pytest.approx(term)
        assert found.losses.item() == pytest.approx(0.693147 + term)


@pytest.mark.parametrize("calibration", ["initial", "round_start", "chosen", "pair"])
def test_the_sign_negates_the_terms_gradient_exactly(calibration: str) -> None:
    found = []
    for uncertainty in ("optimism", "pessimism"):
        values = models()
        algorithm = VPO(alpha=0.2, calibration=calibration, uncertainty=uncertainty)
        term = algorithm.loss(LogProbs(values), certain()).metrics["loss/value"].sum()
        leaves = [values["policy"][role] for role in algorithm.roles]
        found.append(torch.autograd.grad(term, leaves, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert (one is None and other is None) or (
            one is not None and other is not None and torch.equal(one, -other)
        )


@pytest.mark.parametrize("uncertainty", ["optimism", "pessimism"])
def test_without_alpha_it_is_dpo_bit_for_bit(uncertainty: str) -> None:
    mine = VPO(alpha=0, uncertainty=uncertainty).loss(LogProbs(models()), certain()).losses
    assert torch.equal(mine, DPO().loss(LogProbs(models()), certain()).losses)


def test_optimism_under_the_reference_is_selms_loss() -> None:
    values = models()
    third = {name: {**roles, "explore": roles["calibration"]} for name, roles in values.items()}
    mine = VPO(alpha=0.2).loss(LogProbs(values), certain()).losses
    assert torch.equal(mine, SELM(beta=0.1, alpha=0.2).loss(LogProbs(third), certain()).losses)


def test_pessimism_on_the_chosen_answers_adds_fine_tuning_to_dpo() -> None:
    values, plain = models(), models()
    offline = VPO(beta=0.1, alpha=0.2, uncertainty="pessimism", calibration="chosen")
    offline.loss(LogProbs(values), certain()).losses.sum().backward()
    dpo = DPO(beta=0.1).loss(LogProbs(plain), certain()).losses.sum()
    (dpo - 0.02 * plain["policy"]["chosen"].sum()).backward()
    for role in ("chosen", "rejected"):
        one, other = values["policy"][role].grad, plain["policy"][role].grad
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other)


@pytest.mark.parametrize(("soft", "p", "term"), [(True, 0.75, 1.5), (False, 0.75, 3.0)])
def test_of_a_split_vote_either_answer_was_chosen_by_its_share(
    soft: bool, p: float, term: float
) -> None:
    # The chosen answer gained 3 nats, the other lost 3: 0.75 * 3 - 0.25 * 3 = 1.5.
    values = LogProbs(
        {
            "policy": {"chosen": row(-10.0), "rejected": row(-13.0)},
            "reference": {"chosen": row(-13.0), "rejected": row(-10.0)},
        }
    )
    algorithm = VPO(
        beta=0.1, alpha=0.5, uncertainty="pessimism", calibration="chosen", soft_labels=soft
    )
    found = algorithm.loss(values, Labels(p=row(p))).metrics["loss/value"].item()
    assert found == pytest.approx(-0.05 * term)


def judged(scores: Sequence[float], sources: Sequence[str]) -> Judged:
    answers = tuple(
        Answer(str(k), f"text {k}", 10, False, score, source)
        for k, (score, source) in enumerate(zip(scores, sources, strict=True))
    )
    return Judged("p", answers)


@pytest.mark.parametrize("calibration", ["initial", "round_start"])
def test_an_answer_of_its_own_is_drawn_to_calibrate_on(calibration: str) -> None:
    algorithm = VPO(calibration=calibration)
    assert algorithm.roles == ROLES
    rest, third = algorithm.draws(2, 0.8)
    assert (rest.n, rest.source) == (2, "policy")
    assert (third.n, third.source, third.model) == (1, "calibration", calibration)
    assert third.temperature == 0.8
    data = judged([1.0, 2.0, 1.5], ["policy", "policy", "calibration"])
    (found,) = algorithm.examples(data, "max_min", 0)
    assert dict(found.answers) == {"chosen": 1, "rejected": 0, "calibration": 2}
    assert algorithm.examples(judged([1.0, 2.0], ["policy", "policy"]), "max_min", 0) == []


@pytest.mark.parametrize("calibration", ["chosen", "pair"])
def test_on_its_pairs_nothing_more_is_drawn(calibration: str) -> None:
    algorithm = VPO(calibration=calibration)
    assert algorithm.roles == ("chosen", "rejected")
    assert len(algorithm.draws(2, 1.0)) == 1
    (found,) = algorithm.examples(judged([1.0, 2.0], ["policy", "policy"]), "max_min", 0)
    assert dict(found.answers) == {"chosen": 1, "rejected": 0}


def test_optimism_that_pushes_down_what_raters_chose_is_warned_of() -> None:
    assert VPO().warnings() == ()
    assert VPO.build(VPO.presets["offline"].knobs).warnings() == ()
    assert "raters preferred" in VPO(calibration="chosen").warnings()[0]


def test_signs_and_laws_are_known() -> None:
    with pytest.raises(ValueError, match="uncertainty must be one of optimism, pessimism"):
        VPO(uncertainty="online")
    with pytest.raises(ValueError, match="calibration must be one of"):
        VPO(calibration="rejected")
