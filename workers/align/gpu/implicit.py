"""The implicit reward of a policy, measured as a reward model is: a baseline that trains nothing.

What is committed names the policy and its reference; their weights stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align import jobs, objectives
from align.gpu import checkpoint, comparisons, data, model
from align.gpu.batches import Examples, micro_batches
from align.gpu.comparisons import Comparison
from align.gpu.data import Exchange
from align.gpu.logps import sequence_logps
from align.gpu.optimise import Sums, add, means
from align.gpu.panel import Marks
from align.gpu.provenance import file_hash, provenance
from align.jobs import ModelRef, RewardJob
from align.objectives.implicit import Implicit
from align.run import Run

FILE = "implicit.json"


@dataclass
class ImplicitReward:
    """beta * log(pi / pi_ref) of an answer, by its tokens or as a whole."""

    policy: model.Policy
    reference: ModelRef
    objective: Implicit
    whole_prompts = False

    def marks(self, rows: Sequence[Exchange]) -> Marks:
        """The reward of each row's response, (B,), in fp32."""
        mine = sequence_logps(self.policy, rows)
        with model.acting_as(self.policy, self.reference) as reference:
            ratio = mine - sequence_logps(reference, rows)
        if self.objective.by_token:
            ratio = ratio / ratio.new_tensor([len(row.response) for row in rows])
        reward = (self.objective.beta * ratio).float()
        return Marks(reward, reward[:, None])

    def scores(self, rows: Sequence[Exchange]) -> Tensor:
        return self.marks(rows).reward


def load(folder: Path) -> ImplicitReward:
    """What a committed folder names. Raises ValueError when a policy is not there any more."""
    fields = json.loads((folder / FILE).read_text())
    policy, reference = ModelRef(**fields["policy"]), ModelRef(**fields["reference"])
    return ImplicitReward(model.load(policy), reference, Implicit.build(fields["knobs"]))


def work(run: Run, job: RewardJob) -> dict[str, Any]:
    """Measure, commit, and say how well it agrees with people."""
    if job.policy is None:
        raise ValueError("an implicit reward is a policy's; the job names none")
    checkpoint.sweep(run.folder)
    objective = objectives.get(job.objective).build(job.knobs)
    assert isinstance(objective, Implicit)
    judge = ImplicitReward(model.load(job.policy), job.base, objective)
    path = run.folder / jobs.COMPARISONS
    encoder = data.Encoder(judge.policy.tokenizer)
    trained, heldout, dropped = comparisons.read(path, encoder, job.optimiser.max_length)
    train = means(measure(run, judge, trained, job.optimiser.micro_batch_size))
    held = means(measure(run, judge, heldout, job.optimiser.micro_batch_size))

    def write(stray: Path) -> None:
        said = {"policy": asdict(judge.policy.ref), "reference": asdict(job.base)}
        jobs.write_json(stray / FILE, {**said, "knobs": dict(job.knobs)})

    metadata = provenance(judge.policy, job, file_hash(path))
    manifest = checkpoint.commit(run.folder / jobs.WEIGHTS, write, metadata)
    return {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "accuracy": held.get("accuracy"),
        "log_loss": held.get("log_loss"),
        "heldout": sum(len(one.preferences) for one in heldout),
        "trained_on": 0,
        "dropped": dropped,
        "train_accuracy": train.get("accuracy"),
        "train_log_loss": train.get("log_loss"),
    }


@torch.no_grad()
def measure(run: Run, judge: Any, compared: Sequence[Comparison], size: int) -> Sums:
    """How a judge's scores agree with some comparisons. judge: anything with `scores`."""
    found: Sums = {}
    given = Examples([1.0] * len(compared), [one.tokens for one in compared])
    for indices in micro_batches(range(len(compared)), given, size):
        run.check()
        rows, said = comparisons.collate(
            [compared[index] for index in indices], judge.policy.device
        )
        add(found, comparisons.agreement(judge.scores(rows), said.preferences))
    return found
