"""`python -m align.gpu.reward RUNDIR`: train a reward model on compared answers.

A linear head on the backbone of a language model reads the hidden state of an answer's last token:
one number, several, or those of several members. Each answer is read once per comparison, however
many judgements mention it. Held-out comparisons are measured before, between and after epochs and
never trained on. A job may ask for a probe of the frozen base instead (`align.gpu.probe`), for a
model that reads two answers side by side, or for a policy's implicit reward.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import ensemble, jobs, objectives
from align.gpu import (
    checkpoint,
    comparisons,
    crossfit,
    data,
    implicit,
    members,
    model,
    probe,
    ranks,
    tastes,
    views,
)
from align.gpu.batches import Cuts, Examples
from align.gpu.comparisons import Comparison, agreed, apart
from align.gpu.heads import RewardModel, linear, start
from align.gpu.optimise import Loop, Share, State, Sums, add, check, means, total_of
from align.gpu.optimise import nothing_if_finite as zero
from align.gpu.panel import Figures, Panel, panel, reading, unread
from align.gpu.provenance import file_hash, fingerprint, provenance
from align.gpu.ranks import Idle
from align.gpu.resample import drawn
from align.gpu.side_by_side import SideBySide
from align.gpu.step_penalty import StepPenalty
from align.gpu.views import View
from align.jobs import ModelRef, RewardJob
from align.measure.pairs import Pair
from align.objective import Objective, Said
from align.run import Run

HEAD = "head.safetensors"
PANEL = "panel.json"  # how members are read; a single one has none

Judge = Any  # RewardModel, SideBySide, Probe, ImplicitReward or Committee: `marks` and `scores`


def load(folder: Path, host: model.Policy | None = None) -> Judge:
    """A committed reward model, verified and frozen; in the memory of `host`, where both are
    adapters of one base. Raises ValueError naming what is wrong."""
    manifest = checkpoint.verify(folder)
    if probe.FILE in manifest.files:
        return probe.load(folder, manifest)
    if implicit.FILE in manifest.files:
        return implicit.load(folder)
    if members.FILE in manifest.files:
        return members.load(folder, load)
    if "adapter_config.json" in manifest.files:
        ref = ModelRef(base=manifest.metadata["start"]["base"], adapter=str(folder))
    else:
        ref = ModelRef(base=str(folder))
    job = manifest.metadata.get("job", {})
    if HEAD not in manifest.files and job.get("objective") != "pairwise_generative":
        raise ValueError(f"{folder} holds no {HEAD}: it is not a reward model")
    objective = objectives.get(job["objective"]).build(job["knobs"])
    policy = model.load(ref) if host is None else model.beside(host, ref)
    if HEAD not in manifest.files:
        return SideBySide(policy, objective, job["optimiser"]["max_length"])
    saved = load_file(folder / HEAD)
    head = linear(policy, len(saved["weight"]))
    head.load_state_dict({"weight": saved["weight"]})
    head.requires_grad_(False)
    found = Panel.of(json.loads((folder / PANEL).read_text())) if PANEL in manifest.files else None
    centre = saved["centre"].to(policy.device) if "centre" in saved else None
    return RewardModel(policy, head, objective, found or Panel(), centre)


def work(run: Run) -> dict[str, Any]:
    """Train, commit the weights, and say how it went. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, RewardJob):
        raise ValueError(f"align.gpu.reward runs reward jobs, not {job.kind} jobs")
    check(job.optimiser)
    ensemble.check(job.ensemble)
    objective = objectives.get(job.objective).build(job.knobs)
    apart = job.ensemble.members > 1 and job.ensemble.sharing == "adapters"
    alone = job.form == "probe" or objective.forward == "policy" or apart
    if alone and ranks.here().size > 1:
        raise ValueError(f"{_what(job)} is made by one process")
    if objective.forward == "policy":
        return implicit.work(run, job)
    view = views.make(run, job)
    if job.form == "probe":
        return probe.work(run, job, view)
    if apart:
        return members.work(run, job, view, work, load)
    return tune(run, job, objective, view)


def tune(run: Run, job: RewardJob, objective: Objective, view: View) -> dict[str, Any]:
    """Train a backbone with its head, or one that names the better of two; then find out how sure
    it may be, where the job asks for that."""
    if not run.silent:
        checkpoint.sweep(run.folder)
    result, trained, asked = _trained(run, job, objective, view)
    if not job.folds or objective.forward == "side_by_side":
        return result
    gc.collect()  # the study is gone, and with it the model: the folds have copies of their own
    margins = partial(_unseen, objective=objective, criteria=view.criteria)
    return {**result, **crossfit.figures(run, job, trained, asked, margins)}


def _trained(
    run: Run, job: RewardJob, objective: Objective, view: View
) -> tuple[dict[str, Any], list[Comparison], dict[str, Comparison]]:
    """The result, what was trained on, and the same as it was before labels were changed, by id."""
    model.deterministic(job.optimiser.seed)
    beside = objective.forward == "side_by_side"
    if beside and job.ensemble.members > 1:
        raise ValueError(
            f"{objective.title} has no heads to share a backbone; let members be adapters"
        )
    reward: RewardModel | SideBySide
    if beside:
        start_policy = model.start(job.base, job.weights)
        reward = SideBySide(start_policy, objective, job.optimiser.max_length)
    else:
        reward = start(job.base, job.weights, objective, job.ensemble, view.criteria)
    model.say(reward.policy, run.log)
    encoder = data.Encoder(reward.policy.tokenizer)
    encode = partial(
        comparisons.encode,
        encoder=encoder,
        max_length=job.optimiser.max_length,
        reads=objective.reads,
        criteria=view.criteria,
    )
    trained, heldout, dropped = encode(view.rows)
    cast = trained if view.votes is None else encode(view.votes)[0]
    asked: dict[str, Comparison] = {one.id: one for one in cast}
    if isinstance(reward, SideBySide):
        (trained, more), (heldout, others) = map(reward.rewritten, (trained, heldout))
        dropped += more + others
    trained = drawn(trained, job.ensemble.members, job.optimiser.seed)
    run.log(f"{len(trained)} comparisons to train on, {len(heldout)} held out, {dropped} left out")
    study = Study(run, job, objective, reward, trained, heldout)
    state = study.loop.fit(study.at_epoch)
    manifest = study.commit()
    final, last = means(study.heldout_sums), means(state.sums)
    result: dict[str, Any] = {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "accuracy": final.get("accuracy"),
        "log_loss": final.get("log_loss"),
        "heldout": sum(len(one.preferences) for one in heldout),
        "trained_on": sum(one.judgements for one in trained),
        "dropped": dropped,
        "train_accuracy": last.get("accuracy"),
        "train_log_loss": last.get("log_loss"),
        **{name: final[name] for name in ("consistency", "spread", "routed") if name in final},
        **tastes.told(study, view.rows),
        "labels": view.figures,
        "steps": state.step,
        "seconds": round(state.seconds, 3),
        "tokens": study.loop.tokens,
    }
    return result, trained, asked


def _unseen(
    run: Run,
    job: RewardJob,
    trained: Sequence[Comparison],
    measured: Sequence[Comparison],
    *,
    objective: Objective,
    criteria: Sequence[str],
) -> list[Pair]:
    """What a copy that learns from some votes says of others."""
    model.deterministic(job.optimiser.seed)
    copy = start(job.base, job.weights, objective, job.ensemble, criteria)
    study = Study(run, job, objective, copy, trained, measured)
    study.loop.fit()
    study.settle()
    return study.margins()


class Study:
    """A reward model in training, with what it learns from and what it is tested on."""

    def __init__(
        self,
        run: Run,
        job: RewardJob,
        objective: Objective,
        reward: RewardModel | SideBySide,
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
        self.cuts = Cuts(self.given(heldout), job.optimiser, run.log, self.ranks)
        self.ranks.agree("data, or another job,", fingerprint(job, self.data_sha256))
        self.ranks.shard(reward.policy.model, *reward.heads)
        given = self.given(trained)
        self.penalty: StepPenalty | None = None
        if objective.by_step:
            self.penalty = StepPenalty(objective, self._counted, given.weights, self.ranks)
        self.loop = Loop(
            run,
            job.optimiser,
            reward.parameters(),
            given,
            self.share,
            fingerprint=fingerprint(job, self.data_sha256),
            scales={"head.weight": objective.head_rate},
            prepare=self.penalty.prepare if self.penalty else None,
            ranks=self.ranks,
        )

    def share(self, indices: Sequence[int]) -> Share:
        values, said, times = self._counted(indices)
        losses = torch.stack([self.objective.loss(one, said) for one in values], 1)  # (N, M)
        weight = said.weight(self.objective.reads)[:, None] * times / len(values)
        loss = (weight * losses).sum() + zero(values)
        figures = self._figures(values.detach(), said)
        if self.penalty and isinstance(self.reward, RewardModel):
            rows = self.reward.head.weight
            head = rows.view(len(values), -1, rows.shape[1])
            more, told = self.penalty(indices, values, said, times, head)
            loss, figures = loss + more, {**figures, **told}
        return Share(loss, figures)

    @torch.no_grad()
    def at_epoch(self, epoch: int, state: State) -> None:
        """Measure the held-out comparisons and log them beside the epoch's training figures."""

        def figures(compared: Sequence[Comparison]) -> Sums:
            return self._figures(*self._forward(compared))

        self.heldout_sums = self.over(self.heldout, self.cuts, figures)
        named = {f"heldout/{name}": value for name, value in means(self.heldout_sums).items()}
        named |= {f"train/{name}": value for name, value in means(state.sums).items()}
        self.run.metrics(state.step, {"epoch": epoch, **named})

    @torch.no_grad()
    def settle(self) -> None:
        """Find what the model compares an answer with, and how its members are read as one; then
        measure held-out comparisons as it is read."""
        reward = self.reward
        if isinstance(reward, SideBySide):
            return
        if not (self.objective.relative or self.job.ensemble.members > 1):
            return
        cuts = Cuts(self.given(self.trained), self.job.optimiser, self.run.log, self.ranks)

        def values(compared: Sequence[Comparison]) -> Sums:
            found, _ = self._forward(compared)
            columns = found.transpose(0, 1).flatten(1).double()
            return {
                str(at): (column.sum().item(), len(column))
                for at, column in enumerate(columns.unbind(1))
            }

        mean = means(self.over(self.trained, cuts, values))
        reward.centre = torch.tensor(
            [mean[str(at)] for at in range(len(mean))], device=reward.policy.device
        )
        if self.job.ensemble.members == 1:
            return

        def measured(figures: Figures, compared: Sequence[Comparison], cuts: Cuts) -> Sums:
            def found(some: Sequence[Comparison]) -> Sums:
                rows, said = comparisons.collate(some, reward.policy.device)
                return figures(reward.marks(rows), some, said)

            return self.over(compared, cuts, found)

        # Marks without a panel are on each member's own scale.
        reward.panel = panel(self.job.ensemble, measured(unread, self.trained, cuts))
        self.heldout_sums = measured(reading, self.heldout, self.cuts)

    @torch.no_grad()
    def margins(self) -> list[Pair]:
        """Differences of rewards of the held-out preferences, in their order, by the settled
        model, on all ranks."""
        names = {id(one): str(at) for at, one in enumerate(self.heldout)}

        def said(compared: Sequence[Comparison]) -> Sums:
            rows, _ = comparisons.collate(compared, self.reward.policy.device)
            scores, at, found = self.reward.scores(rows).tolist(), 0, {}
            for one in compared:
                for k, (i, j, *_) in enumerate(one.preferences):
                    found[f"{names[id(one)]}:{k}"] = (scores[at + i] - scores[at + j], 1.0)
                at += len(one.sequences)
            return found

        found = means(self.over(self.heldout, self.cuts, said))
        return [
            Pair(found[f"{at}:{k}"], p, weight)
            for at, one in enumerate(self.heldout)
            for k, (_, _, p, weight) in enumerate(one.preferences)
        ]

    def commit(self) -> checkpoint.Manifest:
        for name, p in self.reward.parameters().items():
            if self.ranks.any(not ranks.mine(p).isfinite().all()):
                raise ValueError(f"{name} is not finite after training; nothing was saved")
        self.settle()
        reward, leads = self.reward, self.ranks.leads
        metadata = provenance(reward.policy, self.job, self.data_sha256) if leads else {}
        state = self.ranks.state(reward.policy.model)
        head: dict[str, Tensor] = {}
        if isinstance(reward, RewardModel):
            head = {"weight": ranks.full(reward.head.weight.detach())}
            if reward.centre is not None:
                head["centre"] = reward.centre

        def write(stray: Path) -> None:
            if leads:
                reward.save(stray, state)
                if isinstance(reward, RewardModel):
                    save_file({n: t.contiguous() for n, t in head.items()}, stray / HEAD)
                    if reward.panel.centre:
                        jobs.write_json(stray / PANEL, reward.panel.asdict())

        return self.ranks.commit(self.run.folder / jobs.WEIGHTS, write, metadata)

    def given(self, compared: Sequence[Comparison]) -> Examples:
        return Examples(
            [one.weight for one in compared],
            [one.tokens for one in compared],
            [one.sequences for one in compared],
            shared=self.reward.policy.padded is None,
        )

    def over(
        self,
        compared: Sequence[Comparison],
        cuts: Cuts,
        figures: Callable[[Sequence[Comparison]], Sums],
    ) -> Sums:
        """Sums over some comparisons, of all ranks."""

        def measure(parts: Sequence[Sequence[int]]) -> Sums:
            found: Sums = {}
            for indices in parts:
                self.run.check()
                some = [compared[index] for index in indices]
                more = self.ranks.through(partial(figures, some))
                add(found, {} if isinstance(indices, Idle) else more)
            return found

        return total_of(self.ranks.gather(cuts.run(range(len(compared)), measure)))

    def _forward(self, compared: Sequence[Comparison]) -> tuple[Tensor, Said]:
        """What each member says, (M, R, W), and the judgements by index."""
        rows, said = comparisons.collate(compared, self.reward.policy.device)
        return self.reward.read(rows, said), said

    def _counted(self, indices: Sequence[int]) -> tuple[Tensor, Said, Tensor]:
        """`_forward` of training examples, and how often each member counts each judgement."""
        compared = [self.trained[index] for index in indices]
        values, said = self._forward(compared)
        once = values.new_ones(len(said.weight(self.objective.reads)), 1)
        return values, said, comparisons.times(compared, once.device) if len(values) > 1 else once

    def _figures(self, values: Tensor, said: Said) -> Sums:
        """How the members' mean agrees with preferences, and what the objective adds."""
        pairs = said.preferences
        ahead = torch.stack([self.objective.logit(one, pairs.i, pairs.j) for one in values])
        found = {**agreed(ahead.mean(0), pairs), **apart(ahead, pairs)}
        return {**found, **self.objective.figures(values[0], said)}


def _what(job: RewardJob) -> str:
    return "a probe" if job.form == "probe" else "a model that is no single backbone with heads"


if __name__ == "__main__":
    ranks.main(work)
