"""`python -m align.gpu.train RUNDIR`: one round of preference training, by any algorithm.

Reads job.json and pairs.jsonl; computes the log-probabilities of the frozen policies once, before
any weight moves; then trains. It hands an algorithm log-probabilities and takes a loss, and never
asks which algorithm it has. Killed at any instant, it ends as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import algorithms, jobs
from align.algorithm import Algorithm, Labels, LogProbs
from align.gpu import checkpoint, data, model
from align.gpu.logps import sequence_logps
from align.gpu.optimise import Examples, Loop, Share, check, means, micro_batches, plan
from align.gpu.provenance import file_hash, fingerprint, provenance
from align.jobs import ModelRef, TrainJob
from align.run import Run, main

REFERENCES = "references"  # committed in the run directory: frozen log-probabilities
TENSORS = "logps.safetensors"


@dataclass(frozen=True)
class Example:
    """A pair as token ids, by role, with what the data says of it."""

    sequences: Mapping[str, data.Exchange]
    p: float
    weight: float

    @property
    def tokens(self) -> int:
        return sum(len(sequence) for sequence in self.sequences.values())


def work(run: Run) -> dict[str, Any]:
    """Train, commit the weights, and say how it went. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, TrainJob):
        raise ValueError(f"align.gpu.train runs train jobs, not {job.kind} jobs")
    check(job.optimiser)
    algorithm = algorithms.get(job.algorithm).build(job.knobs)
    checkpoint.sweep(run.folder)
    model.deterministic(job.optimiser.seed)
    policy = model.start(job.start, job.weights)
    if job.start.adapter and job.weights.mode == "lora":
        run.log("going on with the start policy's own adapter, in its own rank")
    encoder = data.Encoder(policy.tokenizer)
    examples, dropped = read_pairs(
        run.folder / jobs.PAIRS, algorithm.roles, encoder, job.optimiser.max_length
    )
    run.log(f"{len(examples)} pairs to train on, {dropped} left out")
    round_ = Round(run, job, algorithm, policy, examples)
    state = round_.loop.fit()
    manifest = round_.commit()
    figures = means(state.sums)
    return {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "steps": state.step,
        "pairs": len(examples),
        "dropped": dropped,
        "loss": figures["loss"],
        "accuracy": figures.get("rewards/accuracies"),
        "margin": figures.get("rewards/margins"),
        "seconds": round(state.seconds, 3),
        "tokens": round_.loop.tokens,
    }


class Round:
    """What a training step needs: the policy, the examples and their frozen log-probabilities."""

    def __init__(
        self,
        run: Run,
        job: TrainJob,
        algorithm: Algorithm,
        policy: model.Policy,
        examples: Sequence[Example],
    ) -> None:
        self.run = run
        self.job = job
        self.algorithm = algorithm
        self.policy = policy
        self.examples = examples
        self.pairs_sha256 = file_hash(run.folder / jobs.PAIRS)
        self.fingerprint = fingerprint(job, self.pairs_sha256)
        self.frozen = self._frozen()
        self.loop = Loop(
            run,
            job.optimiser,
            policy.parameters(),
            Examples([e.weight for e in examples], [e.tokens for e in examples]),
            self.share,
            fingerprint=self.fingerprint,
        )

    def share(self, indices: Sequence[int]) -> Share:
        """Forward a micro-batch and put the algorithm's loss on it."""
        place = self.policy.device
        mine = self.logps(indices)
        frozen = {
            name: {role: values[list(indices)].to(place) for role, values in roles.items()}
            for name, roles in self.frozen.items()
        }
        examples = [self.examples[index] for index in indices]
        labels = Labels(p=torch.tensor([e.p for e in examples], device=place))
        weights = torch.tensor([e.weight for e in examples], device=place)
        loss = self.algorithm.loss(LogProbs({"policy": mine, **frozen}), labels)
        figures = {
            **loss.metrics,
            **{f"logps/{role}": values for role, values in mine.items()},
            "chosen_longer": torch.tensor([_chosen_longer(e) for e in examples]),
        }
        count = len(indices)
        sums = {name: (values.detach().sum().item(), count) for name, values in figures.items()}
        return Share((weights * loss.losses).sum(), sums)

    def logps(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The policy's log-probabilities by role, (B,) each, out of one forward pass."""
        roles = self.algorithm.roles
        rows = [self.examples[index].sequences[role] for role in roles for index in indices]
        values = sequence_logps(self.policy, data.collate(rows, self.policy.device))
        return dict(zip(roles, values.view(len(roles), -1).unbind(), strict=True))

    def commit(self) -> checkpoint.Manifest:
        """The trained weights, with all that says where they come from."""
        for name, p in self.policy.parameters().items():
            if not p.isfinite().all():
                raise ValueError(f"{name} is not finite after training; nothing was saved")
        metadata = provenance(self.policy, self.job, self.pairs_sha256)
        folder = self.run.folder / jobs.WEIGHTS
        return checkpoint.commit(folder, lambda stray: model.save(self.policy, stray), metadata)

    def _frozen(self) -> dict[str, dict[str, Tensor]]:
        """Log-probabilities under each declared reference, from the cache or computed now."""
        missing = set(self.algorithm.references) - self.job.references.keys()
        if missing:
            raise ValueError(f"the job names no policy for {', '.join(sorted(missing))}")
        folder = self.run.folder / REFERENCES
        try:
            found = checkpoint.verify(folder).metadata["fingerprint"] == self.fingerprint
        except (ValueError, KeyError):
            found = False
        if not found:
            self._compute_frozen(folder)
        tensors = load_file(folder / TENSORS)
        return {
            name: {role: tensors[f"{name}.{role}"] for role in self.algorithm.roles}
            for name in self.algorithm.references
        }

    def _compute_frozen(self, folder: Path) -> None:
        """The reference pass. Names that stand for the same policy are computed once."""
        tensors: dict[str, Tensor] = {}
        done: dict[ModelRef, str] = {}
        for name in self.algorithm.references:
            ref = self.job.references[name]
            if ref not in done:
                done[ref] = name
                self.run.log(f"log-probabilities under the {name} policy")
                tensors |= {f"{name}.{role}": v for role, v in self._under(ref).items()}
            for role in self.algorithm.roles:
                tensors[f"{name}.{role}"] = tensors[f"{done[ref]}.{role}"].clone()
        metadata = {"fingerprint": self.fingerprint}
        checkpoint.commit(folder, lambda stray: save_file(tensors, stray / TENSORS), metadata)

    @torch.no_grad()
    def _under(self, ref: ModelRef) -> dict[str, Tensor]:
        """Log-probabilities of all examples under a frozen policy, (N,) by role.

        Goes through the micro-batches of the first epoch, so a policy that equals its reference
        is computed from the same padded tensors and gives the same bits: margins of exactly zero.
        """
        values = {role: torch.zeros(len(self.examples)) for role in self.algorithm.roles}
        with model.acting_as(self.policy, ref) as frozen:
            mine, self.policy = self.policy, frozen
            try:
                for indices in self._first_epoch():
                    self.run.check()
                    for role, part in self.logps(indices).items():
                        values[role][indices] = part.cpu()
            finally:
                self.policy = mine
        return values

    def _first_epoch(self) -> Iterator[list[int]]:
        settings = self.job.optimiser
        tokens = [example.tokens for example in self.examples]
        for batch in plan(len(self.examples), settings)[0]:
            yield from micro_batches(batch, tokens, settings.micro_batch_size)


def read_pairs(
    path: Path, roles: Sequence[str], encoder: data.Encoder, max_length: int
) -> tuple[list[Example], int]:
    """Examples, and how many rows were left out.

    Left out: answers that are empty or too long, chosen equal to rejected, and weight 0. Raises
    ValueError naming the row for a label or weight out of bounds, a missing role, and when
    nothing is left.
    """
    examples, dropped = [], 0
    for row in jobs.read_rows(path):
        _check_row(row, roles)
        found = encoder.example(row["messages"], [row[role] for role in roles], max_length)
        sequences = dict(zip(roles, found or (), strict=bool(found)))
        if not found or not row["weight"] or sequences["chosen"] == sequences["rejected"]:
            dropped += 1
            continue
        examples.append(Example(sequences, float(row["p"]), float(row["weight"])))
    if not examples:
        raise ValueError(f"there are no pairs to train on ({dropped} were left out)")
    return examples, dropped


def _chosen_longer(example: Example) -> float:
    chosen, rejected = (len(example.sequences[r].response) for r in ("chosen", "rejected"))
    return float(chosen > rejected) + 0.5 * (chosen == rejected)


def _check_row(row: Mapping[str, Any], roles: Sequence[str]) -> None:
    if not 0 <= row["p"] <= 1:
        raise ValueError(f"pair {row['id']} has p = {row['p']}, which is not a probability")
    if not (math.isfinite(row["weight"]) and row["weight"] >= 0):
        raise ValueError(f"pair {row['id']} has weight {row['weight']}; it must be 0 or more")
    if missing := [role for role in roles if not row[role]]:
        raise ValueError(f"pair {row['id']} has no {missing[0]} response, which is needed")


if __name__ == "__main__":
    main(work)
