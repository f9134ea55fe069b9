"""The same batch through TRL's trainers and through ours: the same loss, the same gradient.

TRL computes its own log-probabilities with its own model code; only token ids are shared. Where a
setting goes by another name there, the table below translates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from align import algorithms, jobs
from align.algorithm import MISMATCHED, LogProbs
from align.gpu import data, examples, train
from align.gpu import model as models
from align.jobs import ModelRef, Weights
from align.run import Run
from tests.align.conftest import pairs, response

trl = pytest.importorskip("trl")
Dataset = pytest.importorskip("datasets").Dataset

Rundir = Callable[..., Path]
Result = tuple[float, dict[str, Tensor]]

# Ours: algorithm and knobs. TRL's: arguments of DPOConfig. Ours is `times` TRL's.
SAME: dict[str, tuple[str, dict[str, Any], dict[str, Any], float]] = {
    "dpo": ("dpo", {"beta": 0.3}, {"loss_type": ["sigmoid"], "beta": 0.3}, 1),
    "dpo, robust": (
        "dpo",
        {"beta": 0.3, "noise": "robust", "flip_rate": 0.2},
        {"loss_type": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
        1,
    ),
    "dno_prct": ("dno_prct", {"beta": 0.3}, {"loss_type": ["sigmoid"], "beta": 0.3}, 1),
    "rso, hinge": (
        "rso",
        {"gamma": 0.3, "form": "hinge"},
        {"loss_type": ["hinge"], "beta": 0.3},
        1,
    ),
    "slic, hinge on log-ratios": (
        "slic",
        {"form": "hinge_norm", "delta": 4.0, "strength": 0.0},
        {"loss_type": ["hinge"], "beta": 0.25},
        4,  # the margin is 1 / gamma here, and 1 there
    ),
    "ipo, mean": ("ipo", {"tau": 0.2, "reduction": "mean"}, {"loss_type": ["ipo"], "beta": 0.2}, 1),
    "sppo, hard": (
        "sppo",
        {"eta": 5.0, "targets": "hard"},
        {"loss_type": ["sppo_hard"], "beta": 0.2},
        1,
    ),
    "fdpo, reverse KL": (
        "fdpo",
        {"beta": 0.3, "divergence": "reverse_kl"},
        {"f_divergence_type": "reverse_kl", "beta": 0.3},
        1,
    ),
    "fdpo, forward KL": (
        "fdpo",
        {"beta": 0.3, "divergence": "forward_kl"},
        {"f_divergence_type": "forward_kl", "beta": 0.3},
        1,
    ),
    "fdpo, Jensen-Shannon": (
        "fdpo",
        {"beta": 0.3, "divergence": "jensen_shannon"},
        {"f_divergence_type": "js_divergence", "beta": 0.3},
        1,
    ),
    "fdpo, alpha": (
        "fdpo",
        {"beta": 0.3, "divergence": "alpha", "alpha": 0.3},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7, "beta": 0.3},
        1,
    ),
}


@pytest.fixture(scope="module")
def sharp_base(other_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy some nats away from the tiny base, so that margins are of both signs and sizes."""
    folder = tmp_path_factory.mktemp("sharp") / "base"
    found = AutoModelForCausalLM.from_pretrained(other_base, dtype=torch.float32)
    found.get_output_embeddings().weight.data.mul_(10)
    found.save_pretrained(folder)
    AutoTokenizer.from_pretrained(other_base).save_pretrained(folder)
    return folder


def ours(
    rundir: Rundir,
    algorithm: str,
    knobs: Mapping[str, Any],
    rows: list[dict[str, Any]],
    *,
    policy: Path,
    reference: Path,
) -> tuple[Result, train.Round]:
    """Loss and gradient of one batch, by the trainer's own code."""
    references = algorithms.get(algorithm).build(knobs).references
    job = jobs.TrainJob(
        algorithm=algorithm,
        knobs=knobs,
        start=ModelRef(base=str(policy)),
        references={name: ModelRef(base=str(reference)) for name in references},
        weights=Weights(mode="full"),
        optimiser=jobs.Optimiser(batch_size=len(rows), micro_batch_size=len(rows)),
    )
    run = Run(rundir(job, examples=rows))
    started = models.start(job.start, job.weights)
    built = algorithms.get(algorithm).build(knobs)
    found, dropped = examples.read(
        run.folder / jobs.EXAMPLES, built, data.Encoder(started.tokenizer), 200
    )
    assert not dropped
    round_ = train.Round(run, job, built, started, found)
    whole = list(range(len(rows)))
    if built.probes:
        round_.probe([whole])
    loss = round_.share(whole).loss / len(rows)
    loss.backward()
    gradients = {n: p.grad for n, p in started.parameters().items() if p.grad is not None}
    return (loss.item(), gradients), round_


def theirs(trainer: Any, inputs: Mapping[str, Any]) -> Result:
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.item(), {n: p.grad for n, p in named if p.grad is not None}


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_length": None,
        "report_to": [],
        "disable_tqdm": True,
        "per_device_train_batch_size": 64,
    }


def both_ways() -> list[dict[str, Any]]:
    """Pairs of which every other one is turned around."""
    rows = pairs()
    for row in rows[::2]:
        found = row["responses"]
        row["responses"] = {"chosen": found["rejected"], "rejected": found["chosen"]}
    return rows


def two(policy: Path, reference: Path) -> dict[str, Any]:
    def load(folder: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    return {
        "model": load(policy),
        "ref_model": load(reference),
        "processing_class": AutoTokenizer.from_pretrained(policy),
    }


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def assert_same(mine: Result, other: Result, times: float = 1) -> None:
    assert mine[0] == pytest.approx(times * other[0], rel=2e-5)
    assert mine[1].keys() == other[1].keys()
    flat, apart = (
        torch.cat([part.flatten() for part in parts])
        for parts in (
            [times * other[1][name] for name in mine[1]],
            [mine[1][name] - times * other[1][name] for name in mine[1]],
        )
    )
    assert flat.norm() > 1e-3
    assert apart.norm() < 1e-4 * flat.norm()


@pytest.mark.parametrize("case", SAME)
def test_pairs_give_trls_loss_and_gradient(
    case: str, rundir: Rundir, tiny_base: Path, sharp_base: Path, tmp_path: Path
) -> None:
    algorithm, knobs, options, times = SAME[case]
    rows = both_ways()
    mine, round_ = ours(rundir, algorithm, knobs, rows, policy=sharp_base, reference=tiny_base)
    texts = [
        {
            "prompt": row["messages"],
            **{r: turn("assistant", row["responses"][r]["text"]) for r in ("chosen", "rejected")},
        }
        for row in rows
    ]
    trainer = trl.DPOTrainer(
        args=trl.DPOConfig(**settings(tmp_path / "trl"), **options),
        train_dataset=Dataset.from_list(texts),
        **two(sharp_base, tiny_base),
    )
    features = [trainer.train_dataset[index] for index in range(len(rows))]
    for feature, example in zip(features, round_.examples, strict=True):
        for role in ("chosen", "rejected"):  # the template, the end of turn, the cut between
            assert tuple(feature["prompt_ids"]) == example.sequences[role].prompt
            assert tuple(feature[f"{role}_ids"]) == example.sequences[role].response
    assert_same(mine, theirs(trainer, trainer.data_collator(features)), times)


def test_the_batch_has_margins_on_both_sides_of_a_hinge(
    rundir: Rundir, tiny_base: Path, sharp_base: Path
) -> None:
    """Otherwise parity would be tested on one half of the losses."""
    rows = both_ways()
    _, round_ = ours(rundir, "dpo", {}, rows, policy=sharp_base, reference=tiny_base)
    mine, frozen = round_.logps(range(len(rows)), ("chosen", "rejected")), round_.frozen
    logps = LogProbs({"policy": mine, "reference": frozen["reference"]})
    margins = 0.3 * (logps.gap("policy") - logps.gap("reference"))
    assert (margins > 1).any()
    assert ((margins < 1) & (margins > 0)).any()
    assert (margins < -1).any()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.5)])
@pytest.mark.parametrize("nearer", [True, False])
def test_single_answers_give_trls_kto_loss_and_gradient(
    nearer: bool,
    weights: tuple[float, float],
    rundir: Rundir,
    tiny_base: Path,
    sharp_base: Path,
    tmp_path: Path,
) -> None:
    good, bad = weights
    policy, reference = (tiny_base, sharp_base) if nearer else (sharp_base, tiny_base)
    rows: list[dict[str, Any]] = [
        {
            "id": f"row-{n}",
            "messages": turn("user", f"question {n}"),
            "responses": {"answer": response(("yes" if n % 3 else "no") * (1 + n % 4))},
            "p": float(n % 3 > 0),
            "facts": {},
            "weight": 1.0,
        }
        for n in range(9)
    ]
    mine, round_ = ours(
        rundir,
        "kto",
        {"beta": 0.3, "desirable": good, "undesirable": bad},
        rows,
        policy=policy,
        reference=reference,
    )
    texts = [
        {
            "prompt": row["messages"],
            "completion": turn("assistant", row["responses"]["answer"]["text"]),
            "label": bool(row["p"]),
        }
        for row in rows
    ]
    trainer = trl.KTOTrainer(
        args=trl.KTOConfig(
            **settings(tmp_path / "trl"), beta=0.3, desirable_weight=good, undesirable_weight=bad
        ),
        train_dataset=Dataset.from_list(texts),
        **two(policy, reference),
    )
    features = [dict(trainer.train_dataset[index]) for index in range(len(rows))]
    for feature, example in zip(features, round_.examples, strict=True):
        assert tuple(feature["completion_ids"]) == example.sequences["answer"].response
        # Which answers estimate the divergence is arbitrary there and here: ours for both.
        feature["KL_completion_ids"] = list(example.sequences[MISMATCHED].response)
    assert round_.baseline is not None
    assert (round_.baseline > 0.1) if nearer else (round_.baseline == 0)
    assert_same(mine, theirs(trainer, trainer.data_collator(features)))
