"""`python -m align.gpu.reward RUNDIR`: train a reward model on compared answers.

A scalar head on the backbone of a language model reads the hidden state of an answer's last
token. Each answer is scored once per comparison, however many preferences mention it. Held-out
comparisons are measured before, between and after epochs and never trained on. A job may ask for a
probe of the frozen base instead (`align.gpu.probe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from align import jobs, objectives
from align.gpu import checkpoint, comparisons, data, model, probe, ranks
from align.gpu.batches import Cuts, Examples
from align.gpu.comparisons import Comparison, agreement
from align.gpu.data import Exchange
from align.gpu.optimise import Loop, Share, State, Sums, add, check, means, total_of
from align.gpu.probe import Probe
from align.gpu.provenance import file_hash, fingerprint, provenance
from align.gpu.ranks import Idle
from align.jobs import ModelRef, RewardJob
from align.objective import Objective, Preferences
from align.run import Run

HEAD = "head.safetensors"
HEAD_SCALE = 10.0  # the head starts from nothing, so it learns faster than the body


@dataclass
class RewardModel:
    """A language model's backbone and a linear head in fp32."""

    policy: model.Policy
    head: nn.Linear

    def scores(self, rows: Sequence[Exchange]) -> Tensor:
        """The reward of each row's response, (B,), in fp32."""
        layout = self.policy.lay(rows, ends=True)
        last = self.policy.hidden(layout).index_select(0, layout.last)  # (S, H)
        scores: Tensor = self.head(last.float()).squeeze(-1)
        return scores.index_select(0, layout.rows)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {**self.policy.parameters(), "head.weight": cast(nn.Parameter, self.head.weight)}

    def save(self, folder: Path, weight: Tensor, state: dict[str, Tensor] | None = None) -> None:
        """weight: the head's. state: see `model.save`."""
        model.save(self.policy, folder, state)
        save_file({"weight": weight.contiguous()}, folder / HEAD)


def start(ref: ModelRef, weights: jobs.Weights) -> RewardModel:
    """A reward model at its start: every score is exactly 0."""
    policy = model.start(ref, weights)
    return RewardModel(policy, _head(policy))


def load(folder: Path) -> RewardModel | Probe:
    """A committed reward model, verified and frozen. Raises ValueError naming what is wrong."""
    manifest = checkpoint.verify(folder)
    if probe.FILE in manifest.files:
        return probe.load(folder, manifest)
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
    return RewardModel(policy, head)


def work(run: Run) -> dict[str, Any]:
    """Train, commit the weights, and say how it went. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, RewardJob):
        raise ValueError(f"align.gpu.reward runs reward jobs, not {job.kind} jobs")
    check(job.optimiser)
    if job.form == "probe":
        if ranks.here().size > 1:
            raise ValueError("a probe is fitted by one process")
        return probe.work(run, job)
    objective = objectives.get(job.objective).build(job.knobs)
    if not run.silent:
        checkpoint.sweep(run.folder)
    model.deterministic(job.optimiser.seed)
    reward = start(job.base, job.weights)
    model.say(reward.policy, run.log)
    encoder = data.Encoder(reward.policy.tokenizer)
    path = run.folder / jobs.COMPARISONS
    trained, heldout, dropped = comparisons.read(path, encoder, job.optimiser.max_length)
    run.log(f"{len(trained)} comparisons to train on, {len(heldout)} held out, {dropped} left out")
    study = Study(run, job, objective, reward, trained, heldout)
    state = study.loop.fit(study.at_epoch)
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
        self.ranks = ranks.here()
        self.cuts = Cuts(self._given(heldout), job.optimiser, run.log, self.ranks)
        self.ranks.agree("data, or another job,", fingerprint(job, self.data_sha256))
        self.ranks.shard(reward.policy.model, reward.head)
        self.loop = Loop(
            run,
            job.optimiser,
            reward.parameters(),
            self._given(trained),
            self.share,
            fingerprint=fingerprint(job, self.data_sha256),
            scales={"head.weight": HEAD_SCALE},
            ranks=self.ranks,
        )

    def share(self, indices: Sequence[int]) -> Share:
        scores, preferences = self._forward([self.trained[index] for index in indices])
        losses = self.objective.loss(scores, preferences)  # (P,)
        return Share((preferences.weight * losses).sum(), agreement(scores.detach(), preferences))

    @torch.no_grad()
    def at_epoch(self, epoch: int, state: State) -> None:
        """Measure the held-out comparisons and log them beside the epoch's training figures."""

        def measure(parts: Sequence[Sequence[int]]) -> Sums:
            sums: Sums = {}
            for indices in parts:
                self.run.check()
                compared = [self.heldout[index] for index in indices]
                found = agreement(*self.ranks.through(partial(self._forward, compared)))
                add(sums, {} if isinstance(indices, Idle) else found)
            return sums

        measured = self.cuts.run(range(len(self.heldout)), measure)
        self.heldout_sums = total_of(self.ranks.gather(measured))
        figures = {f"heldout/{name}": value for name, value in means(self.heldout_sums).items()}
        figures |= {f"train/{name}": value for name, value in means(state.sums).items()}
        self.run.metrics(state.step, {"epoch": epoch, **figures})

    def commit(self) -> checkpoint.Manifest:
        for name, p in self.reward.parameters().items():
            if self.ranks.any(not ranks.mine(p).isfinite().all()):
                raise ValueError(f"{name} is not finite after training; nothing was saved")
        policy, leads = self.reward.policy, self.ranks.leads
        metadata = provenance(policy, self.job, self.data_sha256) if leads else {}
        state, head = self.ranks.state(policy.model), ranks.full(self.reward.head.weight.detach())

        def write(stray: Path) -> None:
            if leads:
                self.reward.save(stray, head, state)

        return self.ranks.commit(self.run.folder / jobs.WEIGHTS, write, metadata)

    def _given(self, compared: Sequence[Comparison]) -> Examples:
        return Examples(
            [one.weight for one in compared],
            [one.tokens for one in compared],
            [one.sequences for one in compared],
            shared=self.reward.policy.padded is None,
        )

    def _forward(self, compared: Sequence[Comparison]) -> tuple[Tensor, Preferences]:
        """Scores of all responses (R,), and the preferences between them by index."""
        rows, preferences = comparisons.collate(compared, self.reward.policy.device)
        return self.reward.scores(rows), preferences


def _head(policy: model.Policy) -> nn.Linear:
    head = nn.Linear(policy.causal.config.hidden_size, 1, bias=False, device=policy.device)
    nn.init.zeros_(head.weight)
    return head


if __name__ == "__main__":
    ranks.main(work)
