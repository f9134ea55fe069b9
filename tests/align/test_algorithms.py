"""What every algorithm in the folder must do: a new file is tested by being there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from align import algorithms
from align.algorithm import Algorithm, Labels, LogProbs
from align.pairing import RULES

NAMES = list(algorithms.discover())


def values(algorithm: Algorithm, count: int = 5, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Log-probabilities of `count` examples under every model the algorithm names."""
    generator = torch.Generator().manual_seed(seed)

    def row() -> Tensor:
        return -40 * torch.rand(count, generator=generator, dtype=torch.float64)

    models = ("policy", *algorithm.references)
    found = {name: {role: row() for role in algorithm.roles} for name in models}
    for leaf in found["policy"].values():
        leaf.requires_grad_(True)
    return found


@pytest.fixture(params=NAMES)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return algorithms.get(request.param)()


def certain(count: int = 5) -> Labels:
    return Labels(p=torch.ones(count, dtype=torch.float64))


def test_it_gives_one_finite_loss_per_example(algorithm: Algorithm) -> None:
    found = algorithm.loss(LogProbs(values(algorithm)), certain())
    assert found.losses.shape == (5,)
    assert found.losses.isfinite().all()
    for figures in found.metrics.values():
        assert figures.shape == (5,)


def test_a_gradient_step_raises_chosen_over_rejected_at_the_start(algorithm: Algorithm) -> None:
    models = values(algorithm)
    for role, leaf in models["policy"].items():
        for name in algorithm.references:
            models[name][role] = leaf.detach().clone()
    algorithm.loss(LogProbs(models), certain()).losses.sum().backward()
    chosen, rejected = models["policy"]["chosen"].grad, models["policy"]["rejected"].grad
    assert chosen is not None
    assert rejected is not None
    assert (rejected - chosen > 0).all()


def test_frozen_policies_get_no_gradient(algorithm: Algorithm) -> None:
    models = values(algorithm)
    algorithm.loss(LogProbs(models), certain()).losses.sum().backward()
    for name in algorithm.references:
        assert all(leaf.grad is None for leaf in models[name].values())


def test_swapping_the_answers_and_the_label_changes_nothing(algorithm: Algorithm) -> None:
    if set(algorithm.roles) != {"chosen", "rejected"}:
        pytest.skip("reads a third answer")
    models = values(algorithm)
    p = torch.tensor([0.5, 0.6, 0.75, 0.9, 1.0], dtype=torch.float64)
    other = {"chosen": "rejected", "rejected": "chosen"}
    turned = {n: {other[role]: v for role, v in roles.items()} for n, roles in models.items()}
    there = algorithm.loss(LogProbs(models), Labels(p=p))
    back = algorithm.loss(LogProbs(turned), Labels(p=1 - p))
    assert torch.allclose(there.losses, back.losses)
    if "rewards/margins" in there.metrics:
        assert torch.allclose(there.metrics["rewards/margins"], -back.metrics["rewards/margins"])


def test_the_order_of_examples_does_not_matter(algorithm: Algorithm) -> None:
    models = values(algorithm)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = {n: {r: v[order] for r, v in roles.items()} for n, roles in models.items()}
    straight = algorithm.loss(LogProbs(models), certain()).losses
    assert torch.equal(straight[order], algorithm.loss(LogProbs(turned), certain()).losses)


def test_knobs_survive_json(algorithm: Algorithm) -> None:
    kept = json.loads(json.dumps(asdict(algorithm)))
    assert type(algorithm).build(kept) == algorithm


def test_it_says_what_it_is(algorithm: Algorithm) -> None:
    source = sys.modules[type(algorithm).__module__]
    assert "arXiv:" in (source.__doc__ or "")
    assert algorithm.title
    assert all(one.help.endswith(".") for one in algorithm.knobs())
    assert algorithm.pair_rule in RULES
    assert set(algorithm.references) <= {"reference", "initial", "round_start"}


@pytest.mark.parametrize("name", ["dpo"])
def test_a_shift_of_both_answers_changes_nothing(name: str) -> None:
    algorithm = algorithms.get(name)()
    models = values(algorithm)
    moved = {**models, "policy": {r: v + 3.25 for r, v in models["policy"].items()}}
    straight = algorithm.loss(LogProbs(models), certain()).losses
    assert torch.allclose(straight, algorithm.loss(LogProbs(moved), certain()).losses)


def test_algorithms_and_objectives_are_found_without_torch() -> None:
    code = (
        "import sys; from align import algorithms, objectives;"
        "assert 'dpo' in algorithms.discover(); assert 'bradley_terry' in objectives.discover();"
        "assert 'torch' not in sys.modules and 'django' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
