"""The training loop that policies and reward models share, killable at any instant.

Batches are weighted means taken over the whole batch, so cutting one into micro-batches changes
nothing but memory. Loss and gradient norm are checked at every step, before the weights move.
A checkpoint holds weights, AdamW state, random states and counters, as safetensors and JSON; a
run resumed from it ends with the same bits as one that was never interrupted (on a CPU). It is
written from a copy while training goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from align import jobs
from align.gpu import checkpoint, ranks, slices
from align.gpu.background import Background
from align.gpu.batches import Cuts, Examples, plan
from align.gpu.ranks import Idle, Ranks
from align.jobs import Optimiser
from align.run import Run, Stopped

KEEP = 2  # checkpoints
STATE = "state.json"
EXPLODED = 1e8  # a loss in nats or a raw gradient norm from here on belongs to no training
RUNAWAY = 1e4  # so large no weight is, unless it began within a hundredth of that


class Share(NamedTuple):
    """What one micro-batch adds to a step."""

    loss: Tensor  # (), sum over its examples of weight * loss; carries the gradient
    sums: Mapping[str, tuple[float, float]]  # figure -> its sum and how much it was summed over


Sums = dict[str, tuple[float, float]]


@dataclass
class State:
    step: int = 0  # optimiser steps done
    seconds: float = 0.0
    sums: Sums = field(default_factory=dict)  # of this epoch so far


def add(sums: Sums, more: Mapping[str, tuple[float, float]]) -> None:
    """Add figures to running sums, in place."""
    for name, (value, count) in more.items():
        old, before = sums.get(name, (0.0, 0.0))
        sums[name] = (old + value, before + count)


def total_of(parts: Sequence[Mapping[str, tuple[float, float]]]) -> Sums:
    """Running sums of several, as one; in their order, so that all who add them agree."""
    total: Sums = {}
    for part in parts:
        add(total, part)
    return total


def means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Each figure's mean; a figure summed over nothing has none."""
    return {name: value / count for name, (value, count) in sums.items() if count}


def nothing_if_finite(said: Tensor) -> Tensor:
    """Zero to add to a loss; nan where something that a model says is infinite or nan. A loss alone
    may hide that: an answer of log-probability -inf is as rejected as can be."""
    return (0 * said.detach()).sum()


def learning_rate(step: int, total: int, settings: Optimiser) -> float:
    """Linear warm-up, then cosine to zero; step 0 already learns."""
    warmup = math.ceil(settings.warmup_ratio * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


class Loop:
    """AdamW over named parameters, step by step.

    forward: example indices -> their Share. fingerprint: of job and data; a checkpoint of another
    one is refused. scales: factor on the learning rate of parameters by name. prepare: is shown
    every batch, cut into micro-batches, before its first forward. ranks: those that train this
    together, each its share of a batch.
    """

    def __init__(
        self,
        run: Run,
        settings: Optimiser,
        parameters: Mapping[str, nn.Parameter],
        examples: Examples,
        forward: Callable[[Sequence[int]], Share],
        *,
        fingerprint: str,
        scales: Mapping[str, float] | None = None,
        prepare: Callable[[Sequence[Sequence[int]]], None] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.run = run
        self.settings = settings
        self.parameters = dict(parameters)
        self.examples = examples
        self.forward = forward
        self.fingerprint = fingerprint
        self.prepare = prepare
        self.ranks = ranks or Ranks()
        if self.ranks.size > 1:
            run.log(f"{self.ranks.size} processes share each batch")
        self.epochs = plan(len(examples.weights), settings, examples.prompts)
        self.steps = [batch for epoch in self.epochs for batch in epoch]
        self.cuts = Cuts(examples, settings, run.log, self.ranks)
        self.state = State()
        self.writing = Background()
        self.beside = self.ranks.beside()  # for what is said there
        self.read = 0  # tokens, by this attempt
        self.largest = math.inf  # that a weight may become
        scales = scales or {}
        self.adam = torch.optim.AdamW(
            [{"params": [p], "scale": scales.get(n, 1.0)} for n, p in self.parameters.items()],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def fit(
        self,
        at_epoch: Callable[[int, State], None] | None = None,
        at_step: Callable[[int], None] | None = None,
    ) -> State:
        """Train to the end from the newest checkpoint there is, and return the final state.

        at_epoch is called with the epochs done so far and the state, before the first step and
        after each epoch; again after a resume there. at_step is called after each step with the
        number done, again when steps are repeated after a resume. Raises Stopped on SIGTERM, with
        the state saved, ValueError when loss, gradient or weights explode or stop being finite,
        and what a checkpoint that could not be written raised.
        """
        with self.writing:
            return self._fit(at_epoch, at_step)

    def _fit(
        self,
        at_epoch: Callable[[int, State], None] | None,
        at_step: Callable[[int], None] | None,
    ) -> State:
        self._resume()
        self.largest = max(RUNAWAY, 100 * self._size())
        started, before = time.monotonic(), self.state.seconds
        per_epoch = len(self.epochs[0])
        while True:
            if at_epoch and self.state.step % per_epoch == 0:
                at_epoch(self.state.step // per_epoch, self.state)
            if self.state.step == len(self.steps):
                return self.state
            if self.state.step % per_epoch == 0:
                self.state = State(step=self.state.step, seconds=self.state.seconds)
            self._step()
            if at_step:
                at_step(self.state.step)
            self.state.seconds = before + time.monotonic() - started
            self.writing.check()
            if self.ranks.any(self.run.stopping):
                self._save()
                self.writing.wait()
                raise Stopped
            if self.state.step % self.settings.checkpoint_every == 0:
                self._save()

    @property
    def tokens(self) -> int:
        """Prompt and response tokens read by the whole training."""
        return self.settings.epochs * sum(self.examples.tokens)

    def _step(self) -> None:
        batch = self.steps[self.state.step]
        rate = learning_rate(self.state.step, len(self.steps), self.settings)
        sums = self._gradient(batch)
        norm = self._checked_norm(means(sums)["loss"])
        for group in self.adam.param_groups:
            group["lr"] = rate * group["scale"]
        self.adam.step()
        self.adam.zero_grad()
        self._check("largest weight", self._size(), self.largest)
        self.state.step += 1
        add(self.state.sums, sums)
        self.run.metrics(self.state.step, {**means(sums), "grad_norm": norm, "learning_rate": rate})
        self.read += sum(self.examples.tokens[index] for index in batch)
        self.run.progress(self.state.step, len(self.steps), "steps", tokens=self.read)

    def _gradient(self, batch: Sequence[int]) -> Sums:
        """Gradients of the batch's weighted mean, and its figures; smaller micro-batches when
        memory runs out."""
        return self.cuts.run(batch, self._accumulate)

    def _accumulate(self, parts: Sequence[Sequence[int]]) -> Sums:
        """Backward through a batch; its figures, the loss (weighted by example) first."""
        self.adam.zero_grad()  # of an attempt that ran out of memory
        mine = [index for part in parts if not isinstance(part, Idle) for index in part]
        total = sum(self.ranks.gather(sum(self.examples.weights[index] for index in mine)))
        sums: Sums = {}
        if self.prepare:
            self.prepare(parts)
        for micro in parts:
            share = self.ranks.through(partial(self.forward, micro))
            idle = isinstance(micro, Idle)
            (share.loss * 0 if idle else share.loss / total).backward()
            if not idle:
                weight = sum(self.examples.weights[index] for index in micro)
                add(sums, {"loss": (share.loss.item(), weight), **share.sums})
        return total_of(self.ranks.gather(sums))

    def _checked_norm(self, loss: float) -> float:
        """The gradient's norm before clipping. Raises ValueError before a bad step is taken."""
        limit = self.settings.max_grad_norm or math.inf
        norm = ranks.full(nn.utils.clip_grad_norm_(self.parameters.values(), limit)).item()
        self._check("loss", loss, EXPLODED)
        self._check("gradient norm", norm, EXPLODED)
        return norm

    def _size(self) -> float:
        """Of the weight that is furthest from zero, on all ranks; nan where one is not finite."""
        held = [mine for p in self.parameters.values() if (mine := ranks.mine(p.detach())).numel()]
        found = torch.stack(torch._foreach_norm(held, math.inf)).max().item() if held else 0.0
        every: list[float] = self.ranks.gather(found)
        return max(every) if all(map(math.isfinite, every)) else math.nan

    def _check(self, what: str, value: float, most: float) -> None:
        """Raises ValueError where a figure of this step is not finite, or past all measure."""
        if abs(value) <= most:
            return
        raise ValueError(
            f"the {what} became {value:.3g} at step {self.state.step + 1} of {len(self.steps)}; "
            "what was saved before it is kept. A lower learning rate is the usual cure"
        )

    def _save(self) -> None:
        """Commit a checkpoint of this step beside the next ones, and forget all but the newest.

        Waits for an earlier one, so that there is one copy of the state at most.
        """
        self.writing.wait()
        folder = self.run.folder / jobs.CHECKPOINTS
        tensors, state = self._tensors(), json.dumps(asdict(self.state))
        metadata = {"fingerprint": self.fingerprint, "step": self.state.step}

        def fill(stray: Path) -> None:
            slices.write(stray, tensors, self.ranks)
            if self.ranks.leads:
                (stray / STATE).write_text(state)

        def write() -> None:
            checkpoint.reserve(folder, self.ranks.size * sum(t.nbytes for t in tensors.values()))
            self.beside.commit(folder / f"step-{metadata['step']:08d}", fill, metadata)
            if self.ranks.leads:
                checkpoint.prune(folder, KEEP)

        self.writing.start(write)

    def _tensors(self) -> dict[str, Tensor]:
        """A copy, in the CPU's memory, of all that a step changes and this rank holds."""
        tensors = {f"weight.{name}": p.detach() for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            for key, value in self.adam.state.get(p, {}).items():
                tensors[f"{key}.{name}"] = value
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        held = {key: ranks.mine(one) for key, one in tensors.items()}
        return {key: one.to("cpu", copy=True).contiguous() for key, one in held.items()}

    def _resume(self) -> None:
        """Take up the newest checkpoint that verifies, whatever number of ranks wrote it. Raises
        ValueError if it is another job's."""
        path = self.ranks.first(self._newest() if self.ranks.leads else None)
        if path is None:
            return
        saved = slices.Slices(Path(path))
        for name, p in self.parameters.items():
            ranks.mine(p.detach()).copy_(saved.part(f"weight.{name}", p, self.ranks))
        state = {
            index: {
                key: ranks.like(p, saved.part(f"{key}.{name}", p, self.ranks))
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in saved
            }
            for index, (name, p) in enumerate(self.parameters.items())
        }
        groups = self.adam.state_dict()["param_groups"]
        kept = {index: entry for index, entry in state.items() if entry}
        self.adam.load_state_dict({"state": kept, "param_groups": groups})
        torch.set_rng_state(saved.own("random.cpu", self.ranks.rank))
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(saved.own("random.cuda", self.ranks.rank))
        fields = json.loads((Path(path) / STATE).read_text())
        fields["sums"] = {name: (value, count) for name, (value, count) in fields["sums"].items()}
        self.state = State(**fields)
        self.run.log(f"resumed from step {self.state.step}")

    def _newest(self) -> str | None:
        """The checkpoint to go on from, verified."""
        folder = self.run.folder / jobs.CHECKPOINTS
        checkpoint.sweep(folder)
        found = checkpoint.newest(folder, self.run.log)
        if found is None:
            return None
        path, manifest = found
        if manifest.metadata.get("fingerprint") != self.fingerprint:
            raise ValueError(f"{path} belongs to another job or other data")
        return str(path)


def check(settings: Optimiser) -> None:
    """Raises ValueError with a sentence about the first setting that cannot work."""
    for name in ("epochs", "batch_size", "micro_batch_size", "checkpoint_every"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(settings, name)}")
    if settings.max_length < 2:
        raise ValueError(f"max_length must be at least 2, not {settings.max_length}")
    if not (math.isfinite(settings.learning_rate) and settings.learning_rate > 0):
        raise ValueError(f"learning_rate must be above 0, not {settings.learning_rate}")
    if not 0 <= settings.warmup_ratio <= 1:
        raise ValueError(f"warmup_ratio must be between 0 and 1, not {settings.warmup_ratio}")
    for name in ("micro_batch_tokens", "weight_decay", "max_grad_norm"):
        if getattr(settings, name) < 0:
            raise ValueError(f"{name} must be 0 or more, not {getattr(settings, name)}")
