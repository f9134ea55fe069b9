"""SLiC: a hinge on likelihoods that stops when its margin is met, and trains with no reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from align.algorithm import Labels, LogProbs
from align.algorithms.slic import SLiC
from align.gpu.train import REFERENCES, TENSORS, work
from align.jobs import TrainJob
from align.pairing import RULES, Answer, Judged, Vote
from tests.align.conftest import do, metrics, pairs, response, train_job

Grads = tuple[float, dict[str, float]]


def at(algorithm: SLiC, p: float = 1.0, /, **policy: float) -> Grads:
    """The loss at these log-probabilities, and its gradient by role; the reference says 0, -2."""
    leaves = {
        role: torch.tensor([value], dtype=torch.float64, requires_grad=True)
        for role, value in policy.items()
    }
    frozen = {
        role: torch.tensor([value], dtype=torch.float64)
        for role, value in {"chosen": 0.0, "rejected": -2.0, "target": 0.0}.items()
    }
    label = Labels(p=torch.tensor([p], dtype=torch.float64))
    losses = algorithm.loss(LogProbs({"policy": leaves, "reference": frozen}), label).losses
    losses.sum().backward()
    grads = {role: 0.0 if x.grad is None else x.grad.item() for role, x in leaves.items()}
    return losses.item(), grads


def judged(scores: list[float | None], votes: tuple[Vote, ...] = ()) -> Judged:
    answers = tuple(
        Answer(str(k), f"text {k}", 10, truncated=k == 3, score=s) for k, s in enumerate(scores)
    )
    return Judged("p", answers, votes)


def test_a_loss_worked_by_hand() -> None:
    # -10 against -9: the gap is -1, it lacks 2 to the margin; lambda 0.1 adds 1.
    loss, grads = at(SLiC(delta=1.0, strength=0.1), chosen=-10.0, rejected=-9.0)
    assert loss == pytest.approx(2.0 + 1.0)
    assert grads == pytest.approx({"chosen": -1.1, "rejected": 1.0})


def test_nothing_but_the_target_trains_once_the_margin_is_met() -> None:
    for chosen in (-8.0, -9.0, -2.0):  # gaps of 2, 1 and 8 against a margin of 1
        loss, grads = at(SLiC(delta=1.0, strength=0.0), chosen=chosen, rejected=-10.0)
        assert loss == 0.0
        assert grads == {"chosen": 0.0, "rejected": 0.0}
    loss, grads = at(SLiC(delta=1.0, strength=0.2), chosen=-8.0, rejected=-10.0)
    assert loss == pytest.approx(1.6)
    assert grads == pytest.approx({"chosen": -0.2, "rejected": 0.0})


def test_the_plain_form_knows_no_reference_and_the_other_subtracts_it() -> None:
    # The reference's own gap is 2, so a gap of 2.5 is only half a nat better than it.
    plain = at(SLiC(strength=0.0), chosen=-1.0, rejected=-3.5)
    normed = at(SLiC(form="hinge_norm", strength=0.0), chosen=-1.0, rejected=-3.5)
    assert plain[0] == 0.0
    assert normed[0] == pytest.approx(0.5)
    assert normed[1] == pytest.approx({"chosen": -1.0, "rejected": 1.0})


def test_the_normed_margin_is_rsos_hinge_scaled_by_its_delta() -> None:
    """max(0, delta - h) = delta * max(0, 1 - gamma h) with delta = 1 / gamma (RSO, eq. 9)."""
    for chosen in (-1.0, 3.0, 40.0):
        loss, _ = at(
            SLiC(form="hinge_norm", delta=20.0, strength=0.0), chosen=chosen, rejected=-2.0
        )
        assert loss == pytest.approx(20 * max(0.0, 1 - 0.05 * chosen))


def test_a_share_of_votes_weighs_both_orientations_of_the_loss() -> None:
    algorithm = SLiC(delta=1.0, strength=0.1)
    one, _ = at(algorithm, 1.0, chosen=-10.0, rejected=-9.5)  # 1.5 + 1.0
    other, _ = at(algorithm, 0.0, chosen=-10.0, rejected=-9.5)  # 0.5 + 0.95
    assert (one, other) == pytest.approx((2.5, 1.45))
    mixed, grads = at(algorithm, 0.75, chosen=-10.0, rejected=-9.5)
    assert mixed == pytest.approx(0.75 * 2.5 + 0.25 * 1.45)
    assert grads == pytest.approx({"chosen": -0.5 - 0.075, "rejected": 0.5 - 0.025})


def test_a_tie_trains_nothing_within_the_margin_and_pulls_back_from_beyond() -> None:
    algorithm = SLiC(delta=1.0, strength=0.0)
    loss, grads = at(algorithm, 0.5, chosen=-10.0, rejected=-9.5)
    assert loss == pytest.approx(1.0)
    assert grads == pytest.approx({"chosen": 0.0, "rejected": 0.0})
    _, grads = at(algorithm, 0.5, chosen=-7.0, rejected=-9.5)
    assert grads == pytest.approx({"chosen": 0.5, "rejected": -0.5})


def test_a_best_answer_beside_the_pair_is_held_up() -> None:
    algorithm = SLiC(target="best", strength=0.3)
    assert algorithm.roles == ("chosen", "rejected", "target")
    loss, grads = at(algorithm, chosen=-8.0, rejected=-10.0, target=-5.0)
    assert loss == pytest.approx(1.5)
    assert grads == pytest.approx({"chosen": 0.0, "rejected": 0.0, "target": -0.3})


def test_a_third_answer_is_read_only_where_it_counts() -> None:
    assert SLiC().roles == ("chosen", "rejected")
    assert SLiC(target="best", strength=0.0).roles == ("chosen", "rejected")


def test_only_the_normed_form_names_a_reference() -> None:
    assert SLiC().references == ()
    assert SLiC(form="hinge_norm").references == ("reference",)
    assert SLiC() == SLiC(form="hinge")


def test_examples_carry_the_best_answer_that_was_not_cut_off() -> None:
    data = judged([0.5, 1.0, 0.0, 9.0], (Vote(2, 0, 0.75, 2.0, 0.25),))
    (found,) = SLiC(target="best").examples(data, "voted", 0)
    assert found.answers == {"chosen": 2, "rejected": 0, "target": 1}
    assert (found.p, found.weight, found.facts) == (0.75, 2.0, {"tie": 0.25})
    (found,) = SLiC().examples(data, "voted", 0)
    assert found.answers == {"chosen": 2, "rejected": 0}


def test_without_scores_the_best_answer_is_the_one_with_most_votes() -> None:
    data = judged([None] * 3, (Vote(0, 1, 0.0, 1.0), Vote(1, 2, 0.75, 1.0)))
    found = SLiC(target="best").examples(data, "voted", 0)
    assert {example.answers["target"] for example in found} == {1}


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"delta": 0}, "delta must be above 0"),
        ({"strength": -1}, "strength must be at least 0"),
        ({"form": "sigmoid"}, "form must be one of hinge, hinge_norm"),
        ({"target": "teacher"}, "target must be one of chosen, best"),
        ({"beta": 0.1}, "SLiC has no setting called beta"),
    ],
)
def test_settings_out_of_bounds_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SLiC.build(knobs)


@pytest.mark.parametrize("name", ["published", "theory"])
def test_both_presets_build(name: str) -> None:
    preset = SLiC.presets[name]
    SLiC.build(preset.knobs)
    assert preset.round["pair_rule"] in RULES


def slic_job(base: Path, **knobs: Any) -> TrainJob:
    job = train_job(base, epochs=4, batch_size=12)  # every step sees all pairs
    job = dataclasses.replace(job, algorithm="slic", knobs=knobs)
    return job if knobs.get("form") == "hinge_norm" else dataclasses.replace(job, references={})


def test_it_trains_without_any_reference(rundir: Callable[..., Path], tiny_base: Path) -> None:
    folder = rundir(slic_job(tiny_base, strength=0.0, delta=30.0), examples=pairs())
    found = do(work, folder)
    assert found["steps"] == 4
    logged = metrics(folder)
    assert logged[-1]["hinge"] < logged[0]["hinge"]
    assert logged[-1]["rewards/margins"] > logged[0]["rewards/margins"]
    assert logged[0]["drift/chosen"] == 0
    frozen = load_file(folder / REFERENCES / TENSORS)
    assert {name.partition(".")[0] for name in frozen} == {"start", "tokens"}


def test_it_trains_with_a_target_and_with_a_reference(
    rundir: Callable[..., Path], tiny_base: Path
) -> None:
    rows = [
        {**row, "responses": {**row["responses"], "target": response(f"yes, {n}")}}
        for n, row in enumerate(pairs())
    ]
    job = slic_job(tiny_base, form="hinge_norm", target="best", strength=1.0)
    folder = rundir(job, examples=rows)
    do(work, folder)
    logged = metrics(folder)
    assert logged[0]["rewards/margins"] == 0
    assert logged[0]["hinge"] == pytest.approx(1.0)
    assert logged[-1]["nll"] < logged[0]["nll"]
    assert logged[-1]["drift/target"] > 0
