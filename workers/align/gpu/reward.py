"""`python -m align.gpu.reward RUNDIR`: train a reward model on compared answers.

A scalar head on the backbone of a language model reads the hidden state of an answer's last
token. Each answer is scored once per comparison, however many preferences mention it. Held-out
comparisons are measured before, between and after epochs and never trained on; where a job asks
for it, they weigh that verdict against the base's likelihood, and accuracy stays the verdict's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from align import jobs, objectives
from align.gpu import blend, checkpoint, data, model
from align.gpu.blend import Blend
from align.gpu.logps import hidden_states
from align.gpu.optimise import (
    Examples,
    Loop,
    Share,
    State,
    Sums,
    add,
    check,
    means,
    micro_batches,
)
from align.gpu.provenance import file_hash, fingerprint, provenance
from align.jobs import ModelRef, RewardJob
from align.objective import Objective, Preferences
from align.run import Run, main

HEAD = "head.safetensors"
HEAD_SCALE = 10.0  # the head starts from nothing, so it learns faster than the body


@dataclass
class RewardModel:
    """A language model's backbone and a linear head in fp32; what its base thinks may be blended
    in."""

    policy: model.Policy
    head: nn.Linear
    blend: Blend | None = None

    def scores(self, batch: data.Batch) -> Tensor:
        """The reward of each row's response, (B,), in fp32."""
        verdicts = self.verdicts(batch)
        if self.blend is None:
            return verdicts
        likelihood = blend.base_logps(self.policy, batch)
        return self.blend.verdict * verdicts + self.blend.likelihood * likelihood

    def verdicts(self, batch: data.Batch) -> Tensor:
        """What the head says by itself, (B,)."""
        with self.policy.precision():
            hidden = hidden_states(self.policy, batch)  # (B, T, H)
        last = batch.mask.sum(1) - 1  # (B,)
        rows = torch.arange(len(last), device=last.device)
        verdicts: Tensor = self.head(hidden[rows, last].float()).squeeze(-1)
        return verdicts

    def parameters(self) -> dict[str, nn.Parameter]:
        return {**self.policy.parameters(), "head.weight": cast(nn.Parameter, self.head.weight)}

    def save(self, folder: Path) -> None:
        model.save(self.policy, folder)
        save_file({"weight": self.head.weight.detach().contiguous()}, folder / HEAD)
        if self.blend is not None:
            self.blend.save(folder)


@dataclass(frozen=True)
class Comparison:
    sequences: Sequence[data.Exchange]
    preferences: Sequence[tuple[int, int, float, float]]  # (i, j, P(i > j), weight)

    @property
    def tokens(self) -> int:
        return sum(len(sequence) for sequence in self.sequences)

    @property
    def weight(self) -> float:
        return sum(preference[3] for preference in self.preferences)


def start(ref: ModelRef, weights: jobs.Weights) -> RewardModel:
    """A reward model at its start: every score is exactly 0."""
    policy = model.start(ref, weights)
    return RewardModel(policy, _head(policy))


def load(folder: Path) -> RewardModel:
    """A committed reward model, verified and frozen. Raises ValueError naming what is wrong."""
    manifest = checkpoint.verify(folder)
    if HEAD not in manifest.files:
        raise ValueError(f"{folder} holds no {HEAD}: it is not a reward model")
    if "adapter_config.json" in manifest.files:
        ref = ModelRef(base=manifest.metadata["start"]["base"], adapter=str(folder))
    else:
        ref = ModelRef(base=str(folder))
    policy = model.load(ref)
    head = _head(policy)
    head.load_state_dict(load_file(folder / HEAD))
    head.requires_grad_(False)
    return RewardModel(policy, head, Blend.load(folder))


def work(run: Run) -> dict[str, Any]:
    """Train, commit the weights, and say how it went. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, RewardJob):
        raise ValueError(f"align.gpu.reward runs reward jobs, not {job.kind} jobs")
    check(job.optimiser)
    if job.likelihood and job.weights.mode != "lora":
        raise ValueError(
            "the base's likelihood is read with the adapter switched off, and full weights have "
            "none; train an adapter, or leave likelihood off"
        )
    objective = objectives.get(job.objective).build(job.knobs)
    checkpoint.sweep(run.folder)
    model.deterministic(job.optimiser.seed)
    reward = start(job.base, job.weights)
    encoder = data.Encoder(reward.policy.tokenizer)
    path = run.folder / jobs.COMPARISONS
    trained, heldout, dropped = read_comparisons(path, encoder, job.optimiser.max_length)
    run.log(f"{len(trained)} comparisons to train on, {len(heldout)} held out, {dropped} left out")
    study = Study(run, job, objective, reward, trained, heldout)
    state = study.loop.fit(study.at_epoch)
    if job.likelihood and heldout:
        study.blend()
    elif job.likelihood:
        run.log("No comparison was held out to weigh the base's likelihood by; it has no weight.")
    manifest = study.commit()
    final, last = means(study.heldout_sums), means(state.sums)
    return {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "accuracy": final.get("accuracy"),
        "log_loss": final.get("log_loss"),
        "heldout": sum(len(one.preferences) for one in heldout),
        "trained_on": sum(len(one.preferences) for one in trained),
        "dropped": dropped,
        "train_accuracy": last.get("accuracy"),
        "train_log_loss": last.get("log_loss"),
        "steps": state.step,
        "seconds": round(state.seconds, 3),
        "tokens": study.loop.tokens,
        **blend.figures(reward.blend),
    }


class Study:
    """A reward model in training, with what it learns from and what it is tested on."""

    def __init__(
        self,
        run: Run,
        job: RewardJob,
        objective: Objective,
        reward: RewardModel,
        trained: Sequence[Comparison],
        heldout: Sequence[Comparison],
    ) -> None:
        self.run = run
        self.job = job
        self.objective = objective
        self.reward = reward
        self.trained = trained
        self.heldout = heldout
        self.heldout_sums: Sums = {}
        self.data_sha256 = file_hash(run.folder / jobs.COMPARISONS)
        self.loop = Loop(
            run,
            job.optimiser,
            reward.parameters(),
            Examples([one.weight for one in trained], [one.tokens for one in trained]),
            self.share,
            fingerprint=fingerprint(job, self.data_sha256),
            scales={"head.weight": HEAD_SCALE},
        )

    def share(self, indices: Sequence[int]) -> Share:
        scores, preferences = self._forward([self.trained[index] for index in indices])
        losses = self.objective.loss(scores, preferences)  # (P,)
        return Share((preferences.weight * losses).sum(), agreement(scores.detach(), preferences))

    @torch.no_grad()
    def at_epoch(self, epoch: int, state: State) -> None:
        """Measure the held-out comparisons and log them beside the epoch's training figures."""
        self.heldout_sums = {}
        for indices in self._heldout():
            found = agreement(*self._forward([self.heldout[index] for index in indices]))
            add(self.heldout_sums, found)
        figures = {f"heldout/{name}": value for name, value in means(self.heldout_sums).items()}
        figures |= {f"train/{name}": value for name, value in means(state.sums).items()}
        self.run.metrics(state.step, {"epoch": epoch, **figures})

    @torch.no_grad()
    def blend(self) -> None:
        """Weigh the head's verdict and the base's likelihood by the held-out votes."""
        parts: list[tuple[Tensor, ...]] = []
        for indices in self._heldout():
            batch, preferences = self._batch([self.heldout[index] for index in indices])
            found = (self.reward.verdicts(batch), blend.base_logps(self.reward.policy, batch))
            i, j = preferences.i, preferences.j
            differences = [value[i] - value[j] for value in found]
            parts.append((*differences, preferences.p, preferences.weight))
        columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
        self.reward.blend = blend.fit(*columns)
        self.run.log(
            f"The score is {self.reward.blend.said()}, by {len(columns[0])} held-out votes."
        )

    def commit(self) -> checkpoint.Manifest:
        for name, p in self.reward.parameters().items():
            if not p.isfinite().all():
                raise ValueError(f"{name} is not finite after training; nothing was saved")
        metadata = provenance(self.reward.policy, self.job, self.data_sha256)
        return checkpoint.commit(self.run.folder / jobs.WEIGHTS, self.reward.save, metadata)

    def _heldout(self) -> Iterator[list[int]]:
        """The held-out comparisons in micro-batches; stops where the run is told to."""
        tokens = [one.tokens for one in self.heldout]
        size = self.job.optimiser.micro_batch_size
        for indices in micro_batches(range(len(self.heldout)), tokens, size):
            self.run.check()
            yield indices

    def _forward(self, comparisons: Sequence[Comparison]) -> tuple[Tensor, Preferences]:
        """Verdicts on all responses (R,), and the preferences between them by index."""
        batch, preferences = self._batch(comparisons)
        return self.reward.verdicts(batch), preferences

    def _batch(self, comparisons: Sequence[Comparison]) -> tuple[data.Batch, Preferences]:
        place = self.reward.policy.device
        sequences: list[data.Exchange] = []
        rows: list[tuple[int, int, float, float]] = []
        for one in comparisons:
            at = len(sequences)
            rows += [(at + i, at + j, p, weight) for i, j, p, weight in one.preferences]
            sequences += one.sequences
        i, j, p, weight = zip(*rows, strict=True)
        preferences = Preferences(
            i=torch.tensor(i, device=place),
            j=torch.tensor(j, device=place),
            p=torch.tensor(p, device=place),
            weight=torch.tensor(weight, device=place),
        )
        return data.collate(sequences, place), preferences


def agreement(scores: Tensor, preferences: Preferences) -> Sums:
    """Weighted sums of accuracy (ties in the labels left out, equal scores half right) and of
    log-loss under Bradley-Terry, in nats."""
    margin = scores[preferences.i] - scores[preferences.j]  # (P,)
    p, weight = preferences.p, preferences.weight
    log_loss = -(p * logsigmoid(margin) + (1 - p) * logsigmoid(-margin))
    decided = weight * (p != 0.5)
    right = (1 + torch.sign(margin) * torch.sign(p - 0.5)) / 2
    return {
        "accuracy": ((decided * right).sum().item(), decided.sum().item()),
        "log_loss": ((weight * log_loss).sum().item(), weight.sum().item()),
    }


def read_comparisons(
    path: Path, encoder: data.Encoder, max_length: int
) -> tuple[list[Comparison], list[Comparison], int]:
    """Comparisons to train on, those held out, and how many rows were left out.

    Left out: rows with an empty or too long answer, and rows whose preferences weigh nothing.
    Raises ValueError naming the row for a bad preference, and when nothing is left to train on.
    """
    trained: list[Comparison] = []
    heldout: list[Comparison] = []
    dropped = 0
    for row in jobs.read_rows(path):
        _check_row(row)
        sequences = encoder.example(row["messages"], row["responses"], max_length)
        preferences = [(i, j, p, weight) for i, j, p, weight in row["preferences"] if weight]
        if not sequences or not preferences:
            dropped += 1
            continue
        (heldout if row["heldout"] else trained).append(Comparison(sequences, preferences))
    if not trained:
        raise ValueError(f"there are no comparisons to train on ({dropped} were left out)")
    return trained, heldout, dropped


def _check_row(row: Mapping[str, Any]) -> None:
    count = len(row["responses"])
    for i, j, p, weight in row["preferences"]:
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise ValueError(f"comparison {row['id']} has a preference between {i} and {j}")
        if not 0 <= p <= 1:
            raise ValueError(f"comparison {row['id']} has p = {p}, which is not a probability")
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"comparison {row['id']} has weight {weight}; it must be 0 or more")


def _head(policy: model.Policy) -> nn.Linear:
    head = nn.Linear(policy.causal.config.hidden_size, 1, bias=False, device=policy.device)
    nn.init.zeros_(head.weight)
    return head


if __name__ == "__main__":
    main(work)
