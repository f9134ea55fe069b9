"""What every algorithm in the folder must do: a new file is tested by being there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align import algorithms
from align.algorithm import Algorithm
from align.pairing import RULES
from tests.align.batches import COUNT, NAMES, SETTINGS, SIDES, VARIED, batch, of_pairs

ROUND = {
    "rounds_wanted", "samples_per_prompt", "temperature", "overlap", "pairs_from", "pair_rule",
    "length_penalty", "reference", "replay", "warm_start", "epochs", "batch_size", "candidates",
}  # fmt: skip
# What sees only the difference of both answers' log-probabilities.
OF_DIFFERENCES: list[tuple[str, dict[str, Any]]] = [
    ("dpo", {}),
    ("dpo", {"ties": "davidson"}),
    ("ipo", {}),
    ("inpo", {}),
    ("nash_md", {}),
    ("dno", {}),
    ("dno_prct", {}),
    ("fdpo", {"divergence": "reverse_kl"}),
    ("rso", {}),
    ("rso", {"form": "hinge"}),
    ("slic", {"form": "hinge_norm", "strength": 0.0}),
    ("modpo", {}),
    ("copg", {}),
    ("selm", {}),
    ("vpo", {}),
]
OF_EACH_ANSWER: list[tuple[str, dict[str, Any]]] = [
    ("sppo", {}),
    ("sppo", {"targets": "hard"}),
    ("ipo", {"reduction": "mean"}),
    ("fdpo", {"divergence": "forward_kl"}),
    ("fdpo", {"divergence": "jensen_shannon"}),
    ("slic", {"strength": 0.1}),
    ("xpo", {"alpha": 0.1}),
]
SHARES = torch.tensor([0.5, 0.6, 0.75, 0.9, 1.0], dtype=torch.float64)


@pytest.fixture(params=NAMES)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """With the settings it has by default."""
    return algorithms.get(request.param)()


@pytest.fixture(params=VARIED)
def setting(request: pytest.FixtureRequest) -> Algorithm:
    """With the settings it has by default, those of its presets, and each knob moved."""
    return VARIED[request.param]


@pytest.fixture(params=of_pairs(VARIED))
def paired(request: pytest.FixtureRequest) -> Algorithm:
    """With all settings under which it reads a chosen and a rejected answer."""
    return VARIED[request.param]


# The loss -----------------------------------------------------------------------------------------


def test_it_gives_one_finite_loss_per_example(setting: Algorithm) -> None:
    found = batch(setting).loss(setting)
    assert found.losses.shape == (COUNT,)
    assert found.losses.isfinite().all()
    for name, figures in found.metrics.items():
        assert figures.shape == (COUNT,), name
        assert figures.isfinite().all(), name


def test_far_from_the_reference_loss_and_gradient_stay_finite(setting: Algorithm) -> None:
    for sign in (1, -1):
        data = batch(setting)
        for step, leaf in enumerate(data.models["policy"].values()):
            leaf.data += sign * 1e3 * (-1) ** step
        data = data.mapped(lambda v: v.detach().float().requires_grad_(v.requires_grad))
        loss = data.loss(setting).losses
        loss.sum().backward()
        assert loss.isfinite().all()
        for role in setting.roles:
            gradient = data.models["policy"][role].grad
            assert gradient is not None
            assert gradient.isfinite().all()


def test_a_gradient_step_raises_chosen_over_rejected_at_the_start(paired: Algorithm) -> None:
    data = batch(paired, at_start=True)
    data.loss(paired).losses.sum().backward()
    chosen, rejected = (data.models["policy"][role].grad for role in SIDES)
    assert chosen is not None
    assert rejected is not None
    assert (rejected - chosen > 0).all()


def test_every_answer_it_names_gets_a_gradient_and_nothing_else_does(setting: Algorithm) -> None:
    data = batch(setting)
    data.loss(setting).losses.sum().backward()
    for role in setting.roles:
        gradient = data.models["policy"][role].grad
        assert gradient is not None
        assert gradient.shape == (COUNT,)
    assert all(data.models["policy"][role].grad is None for role in setting.probes)
    for name in setting.references:
        assert all(leaf.grad is None for leaf in data.models[name].values())


def test_it_asks_for_what_its_loss_reads_and_for_nothing_else(setting: Algorithm) -> None:
    """A frozen policy costs a pass over the data. A batch holds no more than was asked for."""
    before = batch(setting, p=SHARES).loss(setting).losses
    asked = [("models", name) for name in setting.references]
    asked += [("divergences", name) for name in setting.divergences]
    for kind, name in asked:
        moved = batch(setting, p=SHARES)
        values = getattr(moved, kind)[name]
        for step, role in enumerate(values, start=1):
            values[role] = values[role] + 40 * step * torch.arange(COUNT)
        assert not torch.equal(before, moved.loss(setting).losses), name


@pytest.mark.parametrize("name", SETTINGS)
def test_it_reads_every_figure_it_asks_for(name: str) -> None:
    setting = SETTINGS[name]
    before = batch(setting, p=SHARES).loss(setting).losses
    for fact in setting.facts:
        moved = batch(setting, p=SHARES)
        facts = {**moved.labels.facts, fact: moved.labels.facts[fact] + 1.5}
        moved = replace(moved, labels=replace(moved.labels, facts=facts))
        assert not torch.equal(before, moved.loss(setting).losses), fact


def test_swapping_the_answers_and_the_label_changes_nothing(paired: Algorithm) -> None:
    data = batch(paired, p=SHARES)
    there, back = data.loss(paired), data.swapped().loss(paired)
    assert torch.allclose(there.losses, back.losses)
    if "rewards/margins" in there.metrics:
        assert torch.allclose(there.metrics["rewards/margins"], -back.metrics["rewards/margins"])


def test_the_order_of_examples_does_not_matter(setting: Algorithm) -> None:
    data = batch(setting)
    order = torch.tensor([3, 0, 4, 1, 2])
    straight = data.loss(setting).losses
    turned = data.mapped(lambda values: values[order]).loss(setting).losses
    assert torch.allclose(straight[order], turned, rtol=1e-12)


def shifted(name: str, knobs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Losses before and after both answers became likelier by the same factor."""
    algorithm = algorithms.get(name).build(knobs)
    data, moved = batch(algorithm), batch(algorithm)
    for role in SIDES:
        moved.models["policy"][role] = moved.models["policy"][role] + 3.25
    return data.loss(algorithm).losses, moved.loss(algorithm).losses


@pytest.mark.parametrize(("name", "knobs"), OF_DIFFERENCES)
def test_a_shift_of_both_answers_changes_nothing(name: str, knobs: dict[str, Any]) -> None:
    straight, moved = shifted(name, knobs)
    assert torch.allclose(straight, moved)


@pytest.mark.parametrize(("name", "knobs"), OF_EACH_ANSWER)
def test_a_shift_of_both_answers_is_seen_where_each_has_its_own_target(
    name: str, knobs: dict[str, Any]
) -> None:
    straight, moved = shifted(name, knobs)
    assert (straight - moved).abs().max() > 1e-3


# What it says of itself ---------------------------------------------------------------------------


def test_knobs_survive_json(algorithm: Algorithm) -> None:
    kept = json.loads(json.dumps(asdict(algorithm)))
    assert type(algorithm).build(kept) == algorithm


def test_it_says_what_it_is(algorithm: Algorithm) -> None:
    source = sys.modules[type(algorithm).__module__]
    assert "arXiv:" in (source.__doc__ or "")
    assert algorithm.title
    assert all(one.help.endswith(".") for one in algorithm.knobs())
    assert all(len(str(one.default)) < 9 for one in algorithm.knobs() if one.type is float)
    assert algorithm.pair_rule in RULES
    assert set(algorithm.references) <= {"reference", "initial", "round_start"}
    assert set(algorithm.divergences) <= {"reference", "initial", "round_start"}
    assert len({*algorithm.roles, *algorithm.probes}) == len(algorithm.roles + algorithm.probes)
    assert all(sentence.endswith(".") for sentence in algorithm.warnings())


def test_the_published_and_the_theory_faithful_settings_are_presets(algorithm: Algorithm) -> None:
    assert {"published", "theory"} <= algorithm.presets.keys()
    for preset in algorithm.presets.values():
        type(algorithm).build(preset.knobs)
        assert preset.about.endswith(".")
        assert preset.round.keys() <= ROUND
        assert preset.round.get("pair_rule", "voted") in RULES
        assert preset.round.get("pairs_from", "votes") in {"votes", "reward_model"}
        assert preset.round.get("reference", "initial") in {"initial", "round_start", "soup"}
        assert preset.round.get("replay", "none") in {"none", "all", "decay"}
        if "one vote" in preset.about.lower():
            assert preset.round["overlap"] == 1
        if preset.round.get("pairs_from") == "votes":
            assert preset.round.get("pair_rule", algorithm.pair_rule) == "voted"


def test_titles_are_unique() -> None:
    assert len({cls.title for cls in algorithms.discover().values()}) == len(NAMES)


def test_algorithms_and_objectives_are_found_without_torch() -> None:
    code = (
        "import sys; from align import algorithms, objectives;"
        "assert 'dpo' in algorithms.discover(); assert 'bradley_terry' in objectives.discover();"
        "assert 'torch' not in sys.modules and 'django' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
