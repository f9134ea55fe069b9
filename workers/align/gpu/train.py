"""`python -m align.gpu.train RUNDIR`: one round of preference training, by any algorithm.

Reads job.json and examples.jsonl; computes the log-probabilities of the frozen policies once,
before any weight moves; then trains. It hands an algorithm log-probabilities and takes a loss, and
never asks which algorithm it has. Killed at any instant, it ends as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import algorithms, jobs
from align.algorithm import Algorithm, Labels, LogProbs
from align.gpu import checkpoint, data, examples, model, ranks, watching
from align.gpu.batches import Cuts, Examples, plan
from align.gpu.examples import Example
from align.gpu.logps import sequence_divergences
from align.gpu.optimise import Loop, Share, State, check, means, nothing_if_finite
from align.gpu.provenance import file_hash, fingerprint, provenance
from align.gpu.ranks import Idle
from align.jobs import ModelRef, TrainJob
from align.run import Run

REFERENCES = "references"  # committed in the run directory: frozen log-probabilities
TENSORS = "logps.safetensors"
START = "start"  # the policy before its first step, whatever the algorithm's references are
TOKENS = "tokens"  # the same, by token


def work(run: Run) -> dict[str, Any]:
    """Train, commit the weights, and say how it went. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, TrainJob):
        raise ValueError(f"align.gpu.train runs train jobs, not {job.kind} jobs")
    check(job.optimiser)
    algorithm = algorithms.get(job.algorithm).build(job.knobs)
    _check_anchor(job, algorithm)
    if not run.silent:
        checkpoint.sweep(run.folder)
        checkpoint.sweep(run.folder / jobs.CANDIDATES)
    model.deterministic(job.optimiser.seed)
    policy = model.start(job.start, job.weights)
    model.say(policy, run.log)
    if job.start.adapter and job.weights.mode == "lora":
        run.log("going on with the start policy's own adapter, in its own rank")
    encoder = data.Encoder(policy.tokenizer)
    rows = run.folder / jobs.EXAMPLES
    settings = job.optimiser
    found, dropped = examples.read(rows, algorithm, encoder, settings.max_length, settings.seed)
    run.log(f"{len(found)} examples to train on, {dropped} left out")
    round_ = Round(run, job, algorithm, policy, found)
    state = round_.loop.fit(at_step=round_.keep)
    manifest = round_.commit(run.folder / jobs.WEIGHTS)
    return {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "steps": state.step,
        "candidates": round_.candidates(state.step, manifest),
        "examples": len(found),
        "dropped": dropped,
        **_figures(state),
        "seconds": round(state.seconds, 3),
        "tokens": round_.loop.tokens,
    }


def _check_anchor(job: TrainJob, algorithm: Algorithm) -> None:
    if not (math.isfinite(job.anchor) and job.anchor >= 0):
        raise ValueError(f"anchor must be 0 or more, not {job.anchor}")
    if job.anchor and "chosen" not in algorithm.roles:
        raise ValueError(
            f"{algorithm.title} has no chosen answers for an anchor to hold on to; it must be 0"
        )


def _figures(state: State) -> dict[str, float | None]:
    """The last epoch's means that people read first."""
    figures = means(state.sums)
    names = {
        "loss": "loss",
        "accuracy": "rewards/accuracies",
        "margin": "rewards/margins",
        "chosen_longer": "chosen_longer",
        "drift_chosen": "drift/chosen",
        "drift_rejected": "drift/rejected",
    }
    return {name: figures.get(figure) for name, figure in names.items()}


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
        self.roles = (*algorithm.roles, *algorithm.probes)
        self.data_sha256 = file_hash(run.folder / jobs.EXAMPLES)
        self.fingerprint = fingerprint(job, self.data_sha256)
        missing = {*algorithm.references, *algorithm.divergences} - job.references.keys()
        if missing:
            raise ValueError(f"the job names no policy for {', '.join(sorted(missing))}")
        self.ranks = ranks.here()
        self.ranks.agree("data, or another job,", self.fingerprint)
        self.given = Examples(
            [e.weight for e in examples],
            [e.tokens for e in examples],
            [[e.sequences[role] for role in self.roles] for e in examples],
            shared=policy.padded is None,
        )
        self.start = watching.StartTokens(examples, algorithm.roles)
        self.frozen = self._frozen()
        self.ranks.shard(policy.model)
        # A whole model each: only an algorithm that reads divergences pays for it.
        precision = job.weights.precision
        self.beside = {
            name: model.load(job.references[name], precision=precision)
            for name in algorithm.divergences
        }
        self.baseline: Tensor | None = None
        self.loop = Loop(
            run,
            job.optimiser,
            policy.parameters(),
            self.given,
            self.share,
            fingerprint=self.fingerprint,
            prepare=self.probe if algorithm.probes else None,
            ranks=self.ranks,
        )

    def share(self, indices: Sequence[int]) -> Share:
        """Forward a micro-batch and put the algorithm's loss on it."""
        roles = self.algorithm.roles
        read = self.read(indices, roles, entropy=True)
        mine = dict(zip(roles, read.sums.view(len(roles), -1).unbind(), strict=True))
        found = [self.examples[index] for index in indices]
        place = self.policy.device
        given = examples.labels(found, self.algorithm, place, self.baseline)
        weights = torch.tensor([e.weight for e in found], dtype=torch.float64, device=place)
        logps = LogProbs({"policy": mine, **self._frozen_at(indices)}, self._divergences(indices))
        loss = self.algorithm.loss(logps, given)
        losses, figures = loss.losses, {**loss.metrics, **self._drift(logps, given)}
        if self.job.anchor:
            surprise = -logps.of("policy", "chosen") / given.tokens["chosen"]  # (B,)
            losses = losses + self.job.anchor * surprise
            figures["anchor/cross_entropy"] = surprise
        longer = [value for e in found if (value := examples.chosen_longer(e)) is not None]
        if longer:
            figures["chosen_longer"] = torch.tensor(longer)
        sums = {n: (v.detach().sum().item(), v.numel()) for n, v in figures.items()}
        sums["entropy"] = (read.entropy.sum().item(), read.entropy.numel())
        moved = watching.kl(read.tokens, self.start.of(indices, roles).to(place))
        sums["objective/kl"] = (moved.item(), read.sums.numel())
        return Share((weights * losses).sum() + nothing_if_finite(read.sums), sums)

    @torch.no_grad()
    def probe(self, parts: Sequence[Sequence[int]]) -> None:
        """The algorithm's baseline over a whole batch, of which these are this rank's parts."""
        nothing = torch.zeros(0, device=self.policy.device)
        found = {
            name: {role: [nothing] for role in self.algorithm.probes}
            for name in ("policy", *self.frozen)
        }
        for indices in parts:
            mine = self.ranks.through(partial(self.logps, indices, self.algorithm.probes))
            for name, roles in {"policy": mine, **self._frozen_at(indices)}.items():
                for role in () if isinstance(indices, Idle) else self.algorithm.probes:
                    found[name][role].append(roles[role])
        whole = {
            name: {role: self.ranks.joined(torch.cat(each)) for role, each in roles.items()}
            for name, roles in found.items()
        }
        self.baseline = self.algorithm.baseline(LogProbs(whole))

    def logps(self, indices: Sequence[int], roles: Sequence[str]) -> dict[str, Tensor]:
        """The policy's log-probabilities by role, (B,) each, out of one forward pass."""
        values = self.read(indices, roles).sums
        return dict(zip(roles, values.view(len(roles), -1).unbind(), strict=True))

    def read(
        self, indices: Sequence[int], roles: Sequence[str], *, entropy: bool = False
    ) -> watching.Reading:
        """The same by token, rows role by role, and what is watched."""
        return watching.read(self.policy, self._rows(indices, roles), entropy=entropy)

    def keep(self, step: int) -> None:
        """Commit the weights of this step if it is one of those to choose from later."""
        if step in self._kept_steps():
            self.commit(self.run.folder / jobs.CANDIDATES / f"step-{step:06d}")

    def candidates(self, last: int, manifest: checkpoint.Manifest) -> list[dict[str, Any]]:
        """Weights to choose from, oldest first; the finished ones come last. One that a disk spoilt
        is no choice."""
        found = []
        for step in self._kept_steps():
            path = Path(jobs.CANDIDATES) / f"step-{step:06d}"
            try:
                sha256 = checkpoint.verify(self.run.folder / path).sha256
            except ValueError as error:
                self.run.log(f"candidate passed over: {error}")
                continue
            found.append({"step": step, "weights": str(path), "sha256": sha256})
        return [*found, {"step": last, "weights": jobs.WEIGHTS, "sha256": manifest.sha256}]

    def commit(self, folder: Path) -> checkpoint.Manifest:
        """The policy's weights, with all that says where they come from."""
        for name, p in self.policy.parameters().items():
            if self.ranks.any(not ranks.mine(p).isfinite().all()):
                raise ValueError(f"{name} is not finite after training; nothing was saved")
        metadata = provenance(self.policy, self.job, self.data_sha256) if self.ranks.leads else {}
        state = self.ranks.state(self.policy.model)

        def write(stray: Path) -> None:
            if self.ranks.leads:
                model.save(self.policy, stray, state)

        return self.ranks.commit(folder, write, metadata)

    def _kept_steps(self) -> list[int]:
        """Evenly spaced steps before the last one, `candidates` an epoch."""
        total, count = len(self.loop.steps), self.job.candidates * len(self.loop.epochs)
        return sorted({total * k // count for k in range(1, count)} - {0, total})

    def _rows(self, indices: Sequence[int], roles: Sequence[str]) -> list[data.Exchange]:
        return [self.examples[index].sequences[role] for role in roles for index in indices]

    def _frozen_at(self, indices: Sequence[int]) -> dict[str, dict[str, Tensor]]:
        place = self.policy.device
        return {
            name: {role: values[list(indices)].to(place) for role, values in roles.items()}
            for name, roles in self.frozen.items()
        }

    def _divergences(self, indices: Sequence[int]) -> dict[str, dict[str, Tensor]]:
        found = {}
        for name, other in self.beside.items():
            rows = self._rows(indices, self.algorithm.roles)
            values = sequence_divergences(self.policy, other, rows)
            parts = values.view(len(self.algorithm.roles), -1).unbind()
            found[name] = dict(zip(self.algorithm.roles, parts, strict=True))
        return found

    def _drift(self, logps: LogProbs, given: Labels) -> dict[str, Tensor]:
        """Log-probabilities by role, and how far they moved since the round's start (nats)."""
        figures = {}
        for role in self.algorithm.roles:
            figures[f"logps/{role}"] = logps.of("policy", role)
            figures[f"drift/{role}"] = logps.ratio(role, START)
            figures[f"tokens/{role}"] = given.tokens[role]
        return figures

    def _frozen(self) -> dict[str, dict[str, Tensor]]:
        """Log-probabilities under each declared reference and under the start, from the cache or
        computed now."""
        folder = self.run.folder / REFERENCES
        try:
            metadata = checkpoint.verify(folder).metadata
            found = metadata["fingerprint"] == self.fingerprint and metadata["tokens"]
        except (ValueError, KeyError):
            found = False
        if not self.ranks.first(found):
            self._compute_frozen(folder)
        tensors = load_file(folder / TENSORS)
        self.start.by_role = {r: tensors[f"{TOKENS}.{r}"] for r in self.algorithm.roles}
        names = (START, *self.algorithm.references)
        return {name: {r: tensors[f"{name}.{r}"] for r in self.roles} for name in names}

    def _compute_frozen(self, folder: Path) -> None:
        """The reference pass. Names that stand for the same policy are computed once."""
        tensors: dict[str, Tensor] = {}
        done: dict[ModelRef, str] = {}
        refs = {START: self.job.start, **self.job.references}
        for name in (START, *self.algorithm.references):
            ref = refs[name]
            if ref not in done:
                done[ref] = name
                self.run.log(f"log-probabilities under the {name} policy")
                found = self._under(ref)
                if not all(v.isfinite().all() for v in found.values()):
                    raise ValueError(
                        f"the {name} policy gives log-probabilities that are no number"
                    )
                tensors |= {f"{name}.{role}": v for role, v in found.items()}
            for role in self.roles:
                tensors[f"{name}.{role}"] = tensors[f"{done[ref]}.{role}"].clone()
        for role, each in self.start.by_role.items():
            tensors[f"{TOKENS}.{role}"] = self.ranks.added(each)
        metadata = {"fingerprint": self.fingerprint, "tokens": True}

        def write(stray: Path) -> None:
            if self.ranks.leads:
                save_file(tensors, stray / TENSORS)

        self.ranks.commit(folder, write, metadata)

    @torch.no_grad()
    def _under(self, ref: ModelRef) -> dict[str, Tensor]:
        """Log-probabilities of all examples under a frozen policy, (N,) by role.

        Goes through the micro-batches of the first epoch, so a policy that equals its reference
        is computed from the same packed rows and gives the same bits: margins of exactly zero.
        """
        values = {role: torch.zeros(len(self.examples), dtype=torch.float64) for role in self.roles}
        settings, starts = self.job.optimiser, ref == self.job.start
        cuts = Cuts(self.given, settings, self.run.log, self.ranks)

        def read(parts: Sequence[Sequence[int]]) -> None:
            for indices in parts:
                if isinstance(indices, Idle):  # nothing is sliced yet: nobody waits
                    continue
                self.run.check()
                for roles in (self.algorithm.roles, self.algorithm.probes):
                    if not roles:
                        continue
                    found = self.read(indices, roles)
                    for role, part in zip(roles, found.sums.view(len(roles), -1), strict=True):
                        values[role][list(indices)] = part.cpu()
                    if starts and roles == self.algorithm.roles:
                        self.start.put(indices, roles, found.tokens.cpu())

        with model.acting_as(self.policy, ref) as frozen:
            mine, self.policy = self.policy, frozen
            try:
                for batch in plan(len(self.examples), settings, self.given.prompts)[0]:
                    cuts.run(batch, read)
            finally:
                self.policy = mine
        return {role: self.ranks.added(each) for role, each in values.items()}


if __name__ == "__main__":
    ranks.main(work)
