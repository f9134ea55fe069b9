"""KTO by hand, its reference point, and its batches on a real (tiny) model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align import algorithms, jobs
from align.algorithm import MISMATCHED, Labels, LogProbs
from align.algorithms.kto import KTO
from align.gpu import train
from align.pairing import Answer, Judged, Mark, Vote
from tests.align.conftest import do, metrics, response, train_job
from tests.align.test_train import training

Rundir = Callable[..., Path]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def given(rho: Sequence[float], p: Sequence[float], z0: float) -> tuple[LogProbs, Labels]:
    logps = LogProbs(
        {
            "policy": {"answer": (row(*rho) - 20).requires_grad_()},
            "reference": {"answer": row(*(-20.0 for _ in rho))},
        }
    )
    return logps, Labels(p=row(*p), baseline=torch.tensor(z0, dtype=torch.float64))


def gradient(logps: LogProbs) -> list[float]:
    grad = logps.of("policy", "answer").grad
    assert grad is not None
    found: list[float] = grad.tolist()
    return found


def test_losses_worked_by_hand() -> None:
    # beta 0.5, z0 = 1: a good answer at rho 3 gains 1, a bad one at rho -1 loses 1.
    logps, labels = given((3, 3, -1, -1), (1, 0, 1, 0), 1.0)
    found = KTO(beta=0.5, desirable=2.0, undesirable=3.0).loss(logps, labels)
    e = math.e
    expected = [2 / (1 + e), 3 * e / (1 + e), 2 * e / (1 + e), 3 / (1 + e)]
    assert found.losses.tolist() == pytest.approx(expected)
    assert found.losses[0].item() == pytest.approx(0.537883, abs=1e-6)
    assert found.metrics["rewards/answer"].tolist() == pytest.approx([1.5, 1.5, -0.5, -0.5])
    assert found.metrics["rewards/margins"].tolist() == pytest.approx([1, -1, -1, 1])
    assert found.metrics["rewards/accuracies"].tolist() == [1, 0, 0, 1]
    assert found.metrics["reference_point"].tolist() == [1, 1, 1, 1]


def test_at_the_start_every_loss_is_half_its_weight() -> None:
    logps, labels = given((0, 0), (1, 0), 0.0)
    assert KTO(undesirable=1.5).loss(logps, labels).losses.tolist() == [0.5, 0.75]


def test_the_gradient_is_that_of_the_formula() -> None:
    logps, labels = given((2.0, 2.0), (1, 0), 0.5)
    KTO(beta=0.4, desirable=2.0, undesirable=3.0).loss(logps, labels).losses.sum().backward()
    slope = 0.4 * sigmoid(0.6) * sigmoid(-0.6)
    assert gradient(logps) == pytest.approx([-2 * slope, 3 * slope])


def test_saturated_answers_are_let_go_on_both_sides() -> None:
    logps, labels = given((900, -900, 900, -900), (1, 1, 0, 0), 0.0)
    found = KTO(beta=1.0).loss(logps, labels)
    found.losses.sum().backward()
    assert gradient(logps) == [0, 0, 0, 0]
    assert found.losses.tolist() == pytest.approx([0, 1, 1, 0])


def test_balanced_weights_make_the_sides_pull_alike_at_the_start() -> None:
    # Three good answers and one bad one: lambda_U = 3 lambda_D.
    logps, labels = given((0, 0, 0, 0), (1, 1, 1, 0), 0.0)
    KTO(beta=0.1, desirable=1.0, undesirable=3.0).loss(logps, labels).losses.sum().backward()
    found = gradient(logps)
    assert sum(found) == pytest.approx(0)
    assert found == pytest.approx([-0.025, -0.025, -0.025, 0.075])


def test_a_soft_label_weighs_both_sides_and_one_half_says_nothing() -> None:
    values = []
    for p in (1.0, 0.0, 0.75):
        logps, labels = given((1.3,), (p,), 0.2)
        values.append(KTO().loss(logps, labels).losses.item())
    assert values[2] == pytest.approx(0.75 * values[0] + 0.25 * values[1])
    logps, labels = given((1.3,), (0.5,), 0.2)
    KTO().loss(logps, labels).losses.sum().backward()
    assert gradient(logps) == pytest.approx([0], abs=1e-15)


def probes(*rho: float) -> LogProbs:
    return LogProbs(
        {
            "policy": {MISMATCHED: (row(*rho) - 30).requires_grad_()},
            "reference": {MISMATCHED: row(*(-30.0 for _ in rho))},
        }
    )


def test_the_reference_point_is_the_mean_over_mismatched_pairs_and_never_negative() -> None:
    assert KTO().baseline(probes(3, -1, 4)).item() == pytest.approx(2)
    assert KTO().baseline(probes(-3, 1)).item() == 0


def test_no_gradient_flows_through_the_reference_point() -> None:
    mismatched = probes(3, -1, 4)
    logps, labels = given((1.0,), (1,), 0.0)
    labels = dataclasses.replace(labels, baseline=KTO().baseline(mismatched))
    KTO().loss(logps, labels).losses.sum().backward()
    assert mismatched.of("policy", MISMATCHED).grad is None


def test_a_bandit_drives_good_arms_above_the_reference_point_and_bad_ones_below() -> None:
    """Answers from the reference, judged good with their arm's probability: arms better than even
    gain, others lose, and the more so the surer."""
    first, good = row(0.25, 0.25, 0.25, 0.25), row(0.9, 0.7, 0.4, 0.1)
    logits = first.log().clone().requires_grad_()
    solver = torch.optim.SGD([logits], lr=0.5)
    for _ in range(400):
        solver.zero_grad()
        mine = logits.log_softmax(0)
        rho = (mine - first.log()).detach()
        z0 = (first * rho).sum().clamp(min=0)  # all arms as answers to "another" prompt
        logps = LogProbs({"policy": {"answer": mine}, "reference": {"answer": first.log()}})
        losses = KTO(beta=1.0).loss(logps, Labels(p=good, baseline=z0)).losses
        (first * losses).sum().backward()
        solver.step()
    rho = (logits.log_softmax(0) - first.log()).detach()
    assert rho[0] > rho[1] > 0
    assert 0 > rho[2] > rho[3]


def answer(text: str, truncated: bool = False, score: float | None = None) -> Answer:
    return Answer(id=text, text=text, tokens=3, truncated=truncated, score=score)


def told(judged: Judged, rule: str = "voted", **knobs: Any) -> dict[int, tuple[float, float]]:
    found = KTO(**knobs).examples(judged, rule, seed=0)
    return {example.answers["answer"]: (example.p, example.weight) for example in found}


ABC = (answer("a"), answer("b"), answer("c"))


def test_a_vote_makes_its_winner_desirable_and_its_loser_not() -> None:
    judged = Judged("q", ABC, votes=(Vote(0, 1, 0.25, 2.0),))
    assert told(judged) == {1: (0.75, 2.0), 0: (0.25, 2.0)}
    assert told(judged, soft_labels=False) == {1: (1.0, 2.0), 0: (0.0, 2.0)}


def test_a_tie_calls_nothing_good_or_bad() -> None:
    assert told(Judged("q", ABC, votes=(Vote(0, 1, 0.5, 1.0, tie=1.0),))) == {}


def test_both_bad_makes_both_undesirable_and_a_good_mark_desirable() -> None:
    marks = (Mark(0, False, 1.0), Mark(1, False, 1.0), Mark(2, True, 0.5))
    assert told(Judged("q", ABC, marks=marks)) == {0: (0, 1), 1: (0, 1), 2: (1, 0.5)}


def test_all_that_is_said_of_an_answer_is_summed_up_and_costs_the_same() -> None:
    judged = Judged(
        "q", ABC, votes=(Vote(0, 1, 1.0, 1.0), Vote(0, 2, 1.0, 2.0)), marks=(Mark(0, False, 1.0),)
    )
    found = told(judged)
    assert found == {0: (0.75, 4.0), 1: (0.0, 1.0), 2: (0.0, 2.0)}
    algorithm = KTO(undesirable=1.7)
    whole = algorithm.loss(*given((0.8,), (0.75,), 0.1)).losses.item()
    good, bad = (algorithm.loss(*given((0.8,), (p,), 0.1)).losses.item() for p in (1.0, 0.0))
    assert 4 * whole == pytest.approx(1 * good + 2 * good + 1 * bad)


def test_an_answer_that_was_cut_off_is_never_desirable() -> None:
    answers = (answer("a", truncated=True), answer("b"))
    judged = Judged("q", answers, votes=(Vote(0, 1, 1.0, 1.0),), marks=(Mark(0, True, 1.0),))
    assert told(judged) == {}
    turned = Judged("q", answers, votes=(Vote(1, 0, 1.0, 1.0),))
    assert told(turned) == {1: (1.0, 1.0), 0: (0.0, 1.0)}


def test_a_rule_over_scores_gives_unpaired_examples_too() -> None:
    answers = (answer("a", score=0.0), answer("b", score=math.log(3)), answer("c", score=0.5))
    found = told(Judged("q", answers), "max_min")
    assert found == {0: (pytest.approx(0.25), 1.0), 1: (pytest.approx(0.75), 1.0)}


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"beta": 0}, "beta must be above 0"),
        ({"desirable": -1}, "desirable must be at least 0"),
        ({"desirable": 0, "undesirable": 0}, "nothing would be learned"),
        ({"soft_labels": 1}, "soft_labels must be true or false"),
    ],
)
def test_a_setting_out_of_bounds_gets_a_sentence(knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        algorithms.get("kto").build(knobs)


def test_training_one_side_only_is_warned_of() -> None:
    assert not KTO().warnings()
    assert "Only one side" in KTO(desirable=0).warnings()[0]


def rows(count: int = 12) -> list[dict[str, Any]]:
    """Answers that start with "yes" are good; lengths and weights vary."""
    return [
        {
            "id": f"answer-{n}",
            "messages": [{"role": "user", "content": f"question {n // 2}"}],
            "responses": {"answer": response("yes" + "!" * n if n % 2 else "no" + "." * (n % 7))},
            "p": float(n % 2),
            "facts": {},
            "weight": 0.5 + n % 3,
        }
        for n in range(count)
    ]


def job(base: Path, start: Path | None = None, **settings: Any) -> jobs.TrainJob:
    """A round whose reference is the bare base."""
    found = train_job(base, start, **settings)
    first = jobs.ModelRef(base=str(base))
    return dataclasses.replace(
        found, algorithm="kto", knobs={"beta": 0.1}, references={"reference": first}
    )


def test_the_gradient_of_a_batch_does_not_depend_on_micro_batches(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    """The reference point is above 0 here, and one for the whole batch."""
    gradients, points = [], []
    for size in (12, 5, 1):
        settings = {"batch_size": 12, "micro_batch_size": size}
        with training(rundir, job(tiny_base, adapter, **settings), f"s-{size}", rows()) as round_:
            round_.loop._gradient(range(12))
            assert round_.baseline is not None
            points.append(round_.baseline.item())
            gradients.append({n: p.grad.clone() for n, p in round_.loop.parameters.items()
                              if p.grad is not None})  # fmt: skip
    assert points[0] > 0.01
    assert points == pytest.approx([points[0]] * 3, rel=1e-4)
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, other[name], rtol=1e-3, atol=1e-7), name


def test_the_reference_point_is_the_mean_over_the_batchs_mismatched_pairs(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    with training(rundir, job(tiny_base, adapter), "run", rows()) as round_:
        round_.probe([[0, 3], [5]])
        with torch.no_grad():
            mine = round_.logps([0, 3, 5], [MISMATCHED])[MISMATCHED]
        expected = (mine - round_.frozen["reference"][MISMATCHED][[0, 3, 5]]).mean().clamp(min=0)
        assert round_.baseline is not None
        assert round_.baseline.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
        assert not round_.baseline.requires_grad


def test_a_round_starts_at_half_and_lifts_good_answers_over_bad_ones(
    rundir: Rundir, tiny_base: Path
) -> None:
    plain = [{**one, "weight": 1.0} for one in rows()]
    folder = rundir(job(tiny_base, batch_size=12, epochs=6), examples=plain)
    do(train.work, folder)
    first, last = metrics(folder)[0], metrics(folder)[-1]
    assert first["loss"] == pytest.approx(0.5, abs=1e-7)
    assert first["reference_point"] == first["rewards/answer"] == 0
    assert last["loss"] < 0.48
    assert last["rewards/accuracies"] > 0.9
    assert last["rewards/margins"] > 0.1
