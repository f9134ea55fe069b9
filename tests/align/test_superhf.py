"""SuperHF by hand, its divergence on a real (tiny) model, and what it is without one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align import algorithms, jobs
from align.algorithm import Labels, LogProbs
from align.algorithms.superhf import SuperHF
from align.gpu import data, model, train
from align.jobs import ModelRef, Weights
from align.pairing import Answer, Judged, Vote
from tests.align.conftest import do, metrics, response, train_job
from tests.align.test_train import training

Rundir = Callable[..., Path]


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def given(chosen: float, tokens: float, divergence: float = 0.0) -> tuple[LogProbs, Labels]:
    logps = LogProbs(
        {"policy": {"chosen": row(chosen).requires_grad_()}},
        {"initial": {"chosen": row(divergence).requires_grad_()}},
    )
    return logps, Labels(p=row(1.0), tokens={"chosen": row(tokens)})


def test_a_loss_worked_by_hand() -> None:
    # 12 nats over 8 tokens: CE 1.5; divergence 4 nats over 8 tokens: 0.5; 1.5 + 0.3 * 0.5 = 1.65.
    found = SuperHF(kl=0.3).loss(*given(-12, 8, 4))
    assert found.losses.item() == pytest.approx(1.65)
    assert found.metrics["cross_entropy"].item() == pytest.approx(1.5)
    assert found.metrics["divergence"].item() == pytest.approx(0.5)
    # Sums: 12 + 0.3 * 4. With the inverse term, c = 0.9: 1.5 + 0.9 / 1.5 = 2.1.
    assert SuperHF(kl=0.3, reduction="sum").loss(*given(-12, 8, 4)).losses.item() == 13.2
    assert SuperHF(kl=0, inverse=0.9).loss(*given(-12, 8)).losses.item() == pytest.approx(2.1)


def test_gradients_are_those_of_the_formula() -> None:
    logps, labels = given(-12, 8, 4)
    SuperHF(kl=0.3, inverse=0.9).loss(logps, labels).losses.sum().backward()
    chosen, divergence = logps.of("policy", "chosen"), logps.divergence("initial", "chosen")
    assert chosen.grad is not None
    assert divergence.grad is not None
    # d/dl of CE + c / CE is (1 - c / CE^2) dCE/dl, dCE/dl = -1/8.
    assert chosen.grad.item() == pytest.approx(-(1 - 0.9 / 1.5**2) / 8)
    assert divergence.grad.item() == pytest.approx(0.3 / 8)


def test_a_divergence_below_zero_is_rounding_and_pulls_nowhere() -> None:
    logps, labels = given(-12, 8, -1e-6)
    found = SuperHF(kl=0.3).loss(logps, labels)
    found.losses.sum().backward()
    assert found.losses.item() == 1.5
    grad = logps.divergence("initial", "chosen").grad
    assert grad is not None
    assert grad.item() == 0


def test_without_the_pull_it_is_fine_tuning_on_the_best_and_needs_no_second_model() -> None:
    plain = SuperHF(kl=0, reduction="sum")
    assert plain.divergences == ()
    assert SuperHF().divergences == ("initial",)
    logps, labels = given(-12, 8)
    found = plain.loss(LogProbs(logps.values), labels)
    found.losses.sum().backward()
    assert found.losses.item() == 12
    grad = logps.of("policy", "chosen").grad
    assert grad is not None
    assert grad.item() == -1


def test_the_inverse_term_rests_at_its_square_root() -> None:
    low, rest, high = (
        SuperHF(kl=0, inverse=0.25, reduction="sum").loss(*given(-ce, 1)).losses.item()
        for ce in (0.49, 0.5, 0.51)
    )
    assert rest == 1.0
    assert min(low, high) > rest


def test_a_bandit_balances_the_best_arm_against_the_first_policy() -> None:
    """min -log pi(best) + c KL(pi_0 || pi) is at (c pi_0 + 1[best]) / (c + 1): our derivation."""
    first, c = row(0.5, 0.3, 0.2), 0.6
    logits = first.log().clone().requires_grad_()
    solver = torch.optim.LBFGS([logits], tolerance_grad=1e-12, max_iter=300)

    def step() -> float:
        solver.zero_grad()
        mine = logits.log_softmax(0)
        divergence = (first * (first.log() - mine)).sum()[None]
        logps = LogProbs({"policy": {"chosen": mine[2:]}}, {"initial": {"chosen": divergence}})
        total = SuperHF(kl=c).loss(logps, Labels(p=row(1), tokens={"chosen": row(1)})).losses.sum()
        total.backward()
        return total.item()

    solver.step(step)
    expected = (c * first + row(0, 0, 1)) / (c + 1)
    assert torch.allclose(logits.softmax(0).detach(), expected, atol=1e-6)


def answer(text: str, score: float | None = None, truncated: bool = False) -> Answer:
    return Answer(id=text, text=text, tokens=10, truncated=truncated, score=score)


def kept(judged: Judged, **knobs: Any) -> list[int]:
    return [e.answers["chosen"] for e in SuperHF(**knobs).examples(judged, "max_min", seed=0)]


def test_the_best_few_are_kept_and_cut_off_ones_never() -> None:
    answers = (answer("a", 0.1), answer("b", 3.0, truncated=True), answer("c", 2.0), answer("d", 1))
    judged = Judged("q", answers)
    assert kept(judged) == [2]
    assert kept(judged, keep=2) == [2, 3]
    assert kept(judged, keep=9) == [2, 3, 0]


def test_one_text_is_kept_once() -> None:
    answers = (answer("a", 2.0), answer("a", 2.0), answer("b", 1.0))
    assert sorted(kept(Judged("q", answers), keep=2)) in ([0, 2], [1, 2])


def test_a_length_penalty_counts_when_answers_are_chosen() -> None:
    long = Answer(id="l", text="long", tokens=100, truncated=False, score=2.0)
    judged = Judged("q", (long, answer("short", 1.5)), length_penalty=0.01)
    assert kept(judged) == [1]


def test_votes_rank_where_no_model_scores() -> None:
    answers = (answer("a"), answer("b"), answer("c"))
    assert kept(Judged("q", answers, votes=(Vote(0, 2, 0.2, 1.0),))) == [2]


def test_answers_that_all_score_alike_teach_nothing() -> None:
    assert kept(Judged("q", (answer("a", 1.0), answer("b", 1.0)))) == []
    assert kept(Judged("q", (answer("a"), answer("b")), votes=(Vote(0, 1, 0.5, 1.0),))) == []
    assert kept(Judged("q", (answer("a", 1.0),))) == []


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"keep": 0}, "keep must be at least 1"),
        ({"kl": -0.1}, "kl must be at least 0"),
        ({"inverse": -1}, "inverse must be at least 0"),
        ({"reduction": "median"}, "reduction must be one of mean, sum"),
    ],
)
def test_a_setting_out_of_bounds_gets_a_sentence(knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        algorithms.get("superhf").build(knobs)


def rows(count: int = 6) -> list[dict[str, Any]]:
    """Kept answers of different lengths."""
    return [
        {
            "id": f"kept-{n}",
            "messages": [{"role": "user", "content": f"question {n}"}],
            "responses": {"chosen": response("yes" + "!" * n)},
            "p": 1.0,
            "facts": {},
            "weight": 1.0,
        }
        for n in range(count)
    ]


def job(base: Path, start: Path | None = None, **knobs: Any) -> jobs.TrainJob:
    first = ModelRef(base=str(base))
    return dataclasses.replace(
        train_job(base, start, epochs=2),
        algorithm="superhf",
        knobs=knobs,
        references={"initial": first},
    )


def naive_divergence(first: model.Policy, mine: model.Policy, exchange: data.Exchange) -> float:
    """One sequence at a time, one token at a time."""
    ids = torch.tensor([[*exchange.prompt, *exchange.response]])
    total = 0.0
    with torch.no_grad():
        p, q = (m.causal(input_ids=ids).logits[0].double().log_softmax(-1) for m in (first, mine))
    for at in range(len(exchange.prompt) - 1, ids.shape[1] - 1):
        for x, y in zip(p[at].tolist(), q[at].tolist(), strict=True):
            total += math.exp(x) * (x - y)
    return total


def test_the_divergence_on_a_model_is_that_of_the_whole_vocabulary_token_by_token(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    with training(rundir, job(tiny_base, adapter), "run", rows()) as round_:
        with torch.no_grad():
            found = round_._divergences(range(6))["initial"]["chosen"]
        first = model.load(ModelRef(base=str(tiny_base)))
        for example, value in zip(round_.examples, found.tolist(), strict=True):
            naive = naive_divergence(first, round_.policy, example.sequences["chosen"])
            assert value == pytest.approx(naive, rel=1e-3)
            assert value > 1e-3


def test_the_divergence_pulls_back_to_the_first_policy_and_never_moves_it(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    with training(rundir, job(tiny_base, adapter), "run", rows()) as round_:
        before = round_._divergences(range(6))["initial"]["chosen"].sum()
        before.backward()
        assert all(p.grad is None for p in round_.beside["initial"].model.parameters())
        with torch.no_grad():
            size = sum((p.grad**2).sum() for p in round_.policy.parameters().values()
                       if p.grad is not None)  # fmt: skip
            assert size > 0
            for p in round_.policy.parameters().values():
                if p.grad is not None:
                    p -= 0.01 * before.detach() / size * p.grad
            after = round_._divergences(range(6))["initial"]["chosen"].sum()
        assert after.item() == pytest.approx(0.99 * before.item(), rel=2e-3)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_from_the_first_policy_itself_divergence_and_pull_start_at_exactly_zero(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    start = dataclasses.replace(job(tiny_base), weights=Weights(mode=mode))
    with training(rundir, start, "run", rows()) as round_:
        found = round_._divergences(range(6))["initial"]["chosen"]
        assert found.abs().max() < 1e-6
        found.sum().backward()
        for p in round_.policy.parameters().values():
            assert p.grad is None or p.grad.abs().max() < 1e-4


def test_a_round_learns_the_kept_answers_and_a_strong_pull_holds_it(
    rundir: Rundir, tiny_base: Path
) -> None:
    ends = {}
    for kl in (0.0, 20.0):
        folder = rundir(job(tiny_base, kl=kl), f"kl-{kl:g}", examples=rows())
        do(train.work, folder)
        first, last = metrics(folder)[0], metrics(folder)[-1]
        assert last["cross_entropy"] < first["cross_entropy"]
        assert ("divergence" in last) == (kl > 0)
        ends[kl] = last["cross_entropy"]
    assert ends[0.0] < ends[20.0]
