"""The same weights, the same pairs, fp32: how far apart are the two sides' losses and gradients?

Measured at weights some distance from the reference, where margins have both signs, batch by batch.
One process does both, since nothing is timed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align import algorithms, jobs, objectives
from align.gpu import comparisons as compared
from align.gpu import data, examples, model
from align.gpu import reward as rewards
from align.gpu import train as trainer
from align.jobs import ModelRef
from align.run import Run
from tests.bench.speed import comparisons, exact, ours, trl_side
from tests.bench.speed.trl_side import datasets, trl
from tests.bench.speed.work import BETA, Work

APART = 0.02  # of each weight's own spread: how far the policy is from its reference
Found = tuple[float, dict[str, Tensor]]  # a loss and its gradient by parameter


def train(options: Mapping[str, Any]) -> dict[str, Any]:
    """Largest relative difference of DPO's loss and gradient, over the work's batches; and how far
    either is from the same in fp64."""
    work, scratch = Work.of({**options, "precision": "fp32"}), Path(options["scratch"])
    moved = nudge(work, scratch / "moved")
    mine = _our_batches(work, moved, scratch)
    theirs = _trl_batches(work, moved, scratch)
    truth = exact.batches(work, moved)
    return {
        **worst(mine, theirs),
        "ours_from_fp64": worst(mine, truth),
        "trl_from_fp64": worst(theirs, truth),
    }


def reward(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same of Bradley-Terry's loss, the penalty on scores included; the heads are equal."""
    work, scratch = Work.of({**options, "precision": "fp32"}), Path(options["scratch"])
    peer = AutoModelForSequenceClassification.from_pretrained(
        work.base, num_labels=1, dtype=torch.float32
    )
    mine = _our_rewards(work, peer.score.weight.detach(), scratch)
    theirs = _trl_rewards(work, peer, scratch)
    return worst(mine, theirs)


def nudge(work: Work, folder: Path) -> str:
    """The base, every weight moved a little."""
    torch.manual_seed(1)
    found: Any = AutoModelForCausalLM.from_pretrained(work.base, dtype=torch.float32)
    with torch.no_grad():
        for parameter in found.parameters():
            spread = parameter.std() if parameter.dim() > 1 else 1.0
            parameter.add_(APART * spread * torch.randn_like(parameter))
    found.save_pretrained(folder)
    AutoTokenizer.from_pretrained(work.base).save_pretrained(folder)
    return str(folder)


def worst(mine: Sequence[Found], theirs: Sequence[Found]) -> dict[str, Any]:
    """The largest differences, relative to theirs; of the gradient, in the Euclidean norm."""
    losses, gradients = [], []
    for (loss, gradient), (their_loss, their_gradient) in zip(mine, theirs, strict=True):
        losses.append(abs(loss - their_loss) / abs(their_loss))
        assert gradient.keys() == their_gradient.keys(), "the same parameters have gradients"
        apart = sum(float((gradient[n] - g).square().sum()) for n, g in their_gradient.items())
        size = sum(float(g.square().sum()) for g in their_gradient.values())
        gradients.append((apart / size) ** 0.5)
    return {"loss": max(losses), "gradient": max(gradients), "batches": len(losses)}


def _our_batches(work: Work, policy: str, scratch: Path) -> list[Found]:
    start, reference = ModelRef(base=policy), ModelRef(base=work.base)
    job = jobs.TrainJob(
        algorithm="dpo",
        knobs={"beta": BETA},
        start=start,
        references={"reference": reference},
        weights=ours.weights(work),
        optimiser=ours.optimiser(work, work.batch, work.at_once),
    )
    rows = {jobs.EXAMPLES: comparisons.examples(work.questions)}
    run = Run(ours.write(scratch / "equal", job, rows))
    algorithm = algorithms.get(job.algorithm).build(job.knobs)
    started = model.start(job.start, job.weights)
    found, _ = examples.read(
        run.folder / jobs.EXAMPLES,
        algorithm,
        data.Encoder(started.tokenizer),
        job.optimiser.max_length,
    )
    round_ = trainer.Round(run, job, algorithm, started, found)
    results = []
    for at in range(0, len(found), work.batch):
        indices = list(range(at, at + work.batch))
        loss = round_.share(indices).loss / sum(found[index].weight for index in indices)
        results.append(_backward(loss, started.parameters()))
    return results


def _trl_batches(work: Work, policy: str, scratch: Path) -> list[Found]:
    def load(folder: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    peer = trl.DPOTrainer(
        model=load(policy),
        ref_model=load(work.base),
        args=trl.DPOConfig(
            **trl_side.common(work, scratch),
            bf16=False,
            gradient_checkpointing=False,
            beta=BETA,
        ),
        train_dataset=datasets.Dataset.from_list(list(comparisons.texts(work.questions))),
        processing_class=AutoTokenizer.from_pretrained(work.base),
    )
    return _trl_losses(peer, work)


def _our_rewards(work: Work, head: Tensor, scratch: Path) -> list[Found]:
    job = ours.reward_job(work)
    rows = {jobs.COMPARISONS: comparisons.rankings(work.questions)}
    run = Run(ours.write(scratch / "equal", job, rows))
    found = rewards.start(job.base, job.weights)
    with torch.no_grad():
        found.head.weight.copy_(head)
    encoder = data.Encoder(found.policy.tokenizer)
    trained, heldout, _ = compared.read(
        run.folder / jobs.COMPARISONS, encoder, job.optimiser.max_length
    )
    objective = objectives.get(job.objective).build(job.knobs)
    study = rewards.Study(run, job, objective, found, trained, heldout)
    results = []
    for at in range(0, len(trained), job.optimiser.batch_size):
        indices = list(range(at, at + job.optimiser.batch_size))
        loss = study.share(indices).loss / sum(trained[index].weight for index in indices)
        named = found.parameters()
        del named["lm_head.weight"]  # takes no part
        named["score.weight"] = named.pop("head.weight")
        results.append(_backward(loss, named))
    return results


def _trl_rewards(work: Work, model_: Any, scratch: Path) -> list[Found]:
    peer = trl.RewardTrainer(
        model=model_,
        args=trl.RewardConfig(
            **trl_side.common(work, scratch),
            bf16=False,
            gradient_checkpointing=False,
            center_rewards_coefficient=0.01,
        ),
        train_dataset=datasets.Dataset.from_list(list(comparisons.texts(work.questions))),
        processing_class=AutoTokenizer.from_pretrained(work.base),
    )
    return _trl_losses(peer, work)


def _trl_losses(peer: Any, work: Work) -> list[Found]:
    """Batch by batch, without a step in between."""
    rows = [peer.train_dataset[index] for index in range(len(peer.train_dataset))]
    results = []
    for at in range(0, len(rows), work.batch):
        inputs = peer.data_collator(rows[at : at + work.batch])
        place = peer.accelerator.device
        inputs = {name: value.to(place) for name, value in inputs.items()}
        loss = peer.compute_loss(peer.model, inputs)
        results.append(_backward(loss, dict(peer.model.named_parameters())))
    return results


def _backward(loss: Tensor, parameters: Mapping[str, Any]) -> Found:
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {}
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            gradients[name] = parameter.grad.detach().cpu().double()
            parameter.grad = None
    return loss.item(), gradients
