"""A reward model that trains no weight of its base: a linear read-out of what the base knows.

    r(x, y) = w . mean_t h_t - c * d(x, y),    d = (sum_t p*_t^4 log(p*_t / p_t(y_t)))^(1/3)

h_t are the base's last hidden states at the response's tokens, where style is easy to read. d,
with p*_t = max_v p_t(v), is how far an answer contradicts the base where the base is sure, and
there lies truth: what a model has read most often is more often true (a likelihood as a reward is
the sharpening of arXiv:2412.01951; weighing each token by a power of the base's confidence, which
forgives a rare style more than a rare fact, and the root, as the first contradiction tells most,
are ours, found on the demo's base). (w, c) minimises the Bradley-Terry log-loss with a ridge on w,
which is convex and takes seconds; how strong a ridge, cross-validation over prompts decides. From
200 and 600 votes on the demo's base it orders answers better than a trained copy of it does; more
votes were not tried.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import jobs
from align.gpu import checkpoint, comparisons, crossfit, data, model, resample
from align.gpu.batches import Examples, micro_batches
from align.gpu.comparisons import Comparison, agreed, agreement
from align.gpu.data import Exchange
from align.gpu.optimise import means
from align.gpu.panel import Marks, Panel, panel, unread
from align.gpu.provenance import file_hash, provenance
from align.gpu.vocabulary import by_chunk
from align.jobs import ModelRef, RewardJob
from align.measure.pairs import Pair
from align.objective import Preferences, Said
from align.run import Run

if TYPE_CHECKING:
    from align.gpu.views import View

PANEL = "panel.json"  # how members are read; a single one has none
FILE = "probe.safetensors"
RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # prior precisions of w where x has spread 1
WITHOUT_FOLDS = 3.0  # where there are too few prompts to choose by
RIDGE_OF_C = 0.1  # of c: one number needs little holding back
FOLDS = 5
CONFIDENCE, ROOT = 4, 1 / 3  # the exponents of d


@dataclass
class Probe:
    """A frozen base and a linear reading of it, or several."""

    policy: model.Policy
    weight: Tensor  # (M, H + 1) fp32: w and c of each member
    panel: Panel = field(default_factory=Panel)
    whole_prompts = False

    def marks(self, rows: Sequence[Exchange]) -> Marks:
        """The reward of each row's response, (B,), in fp32, and what each member says."""
        return self.panel(features(self.policy, rows) @ self.weight.T)

    def scores(self, rows: Sequence[Exchange]) -> Tensor:
        return self.marks(rows).reward

    def save(self, folder: Path) -> None:
        save_file({"weight": self.weight.cpu().contiguous()}, folder / FILE)
        if self.panel.centre:
            jobs.write_json(folder / PANEL, self.panel.asdict())


@dataclass(frozen=True)
class Table:
    """Features of every response (R, D), preferences between them, and each one's prompt (P,)."""

    features: Tensor
    preferences: Preferences
    prompts: Tensor

    def only(self, chosen: Tensor) -> Table:
        """Some of the preferences, by a mask (P,)."""
        some = self.preferences
        parts = (value[chosen] for value in (some.i, some.j, some.p, some.weight))
        return Table(self.features, Preferences(*parts), self.prompts[chosen])

    def margins(self, weight: Tensor) -> Tensor:
        """Log-odds of the preferences, (P,)."""
        said = self.preferences
        return (self.features[said.i] - self.features[said.j]) @ weight


@dataclass(frozen=True)
class Fit:
    """Weights (D,) fp64, their ridge, and the margins (P,) of votes by the folds that left each
    out, where there are folds."""

    weight: Tensor
    ridge: float
    unseen: Tensor | None


def load(folder: Path, manifest: checkpoint.Manifest) -> Probe:
    """A probe on its frozen base; `manifest` is what its folder was verified by."""
    policy = model.load(ModelRef(**manifest.metadata["start"]))
    found = Panel.of(json.loads((folder / PANEL).read_text())) if PANEL in manifest.files else None
    weight = load_file(folder / FILE)["weight"].to(policy.device)
    return Probe(policy, weight.view(-1, weight.shape[-1]), found or Panel())


def work(run: Run, job: RewardJob, view: View) -> dict[str, Any]:
    """Fit, commit, and say how it went. Raises ValueError for a bad job or data."""
    if job.objective != "bradley_terry":
        raise ValueError(f"a probe is fitted by bradley_terry, not by {job.objective}")
    checkpoint.sweep(run.folder)
    model.deterministic(job.optimiser.seed)
    policy = model.load(job.base)
    model.say(policy, run.log)
    encoder = data.Encoder(policy.tokenizer)
    trained, heldout, dropped = comparisons.encode(view.rows, encoder, job.optimiser.max_length)
    run.log(f"{len(trained)} comparisons to fit, {len(heldout)} held out, {dropped} left out")
    table = read(run, policy, [*trained, *heldout], job.optimiser.micro_batch_size)
    kept = sum(len(one.preferences) for one in trained)
    first = torch.arange(len(table.prompts)) < kept
    fit = best(table.only(first))
    run.log(f"The ridge is {fit.ridge:g}.")
    weight, found = _members(job, table, first, trained, fit)
    probe = Probe(policy, weight.float().to(policy.device), found)
    scores = found((table.features @ weight.T).float()).reward
    figures = {
        "train": means(agreement(scores, table.only(first).preferences)),
        "heldout": means(agreement(scores, table.only(~first).preferences)),
    }
    named = {f"{part}/{name}": v for part, found in figures.items() for name, v in found.items()}
    folds = _foretold(fit, trained, view)
    named |= {f"folds/{name}": folds[f"folds_{name}"] for name in figures["train"] if folds}
    run.metrics(1, named)
    metadata = provenance(policy, job, file_hash(run.folder / jobs.COMPARISONS))
    manifest = checkpoint.commit(run.folder / jobs.WEIGHTS, probe.save, metadata)
    return {
        "weights": jobs.WEIGHTS,
        "sha256": manifest.sha256,
        "accuracy": named.get("heldout/accuracy"),
        "log_loss": named.get("heldout/log_loss"),
        "heldout": int((~first).sum()),
        "trained_on": kept,
        "dropped": dropped,
        "train_accuracy": named.get("train/accuracy"),
        "train_log_loss": named.get("train/log_loss"),
        **folds,
        "ridge": fit.ridge,
        "labels": view.figures,
    }


def _foretold(fit: Fit, trained: Sequence[Comparison], view: View) -> dict[str, Any]:
    """What the folds say of the temperature, by the votes as people cast them."""
    if fit.unseen is None:
        return {}
    cast = {(row["id"], i, j): p for row in view.votes or () for i, j, p, _ in row["preferences"]}
    said = [
        (cast.get((one.id, i, j), p), weight)
        for one in trained
        for i, j, p, weight in one.preferences
    ]
    unseen = zip(fit.unseen.tolist(), said, strict=True)
    return crossfit.summary([Pair(margin, p, weight) for margin, (p, weight) in unseen])


def _members(
    job: RewardJob, table: Table, first: Tensor, trained: Sequence[Comparison], whole: Fit
) -> tuple[Tensor, Panel]:
    """Weights (M, D) of probes on votes drawn anew by prompt, at the whole fit's ridge, and how
    they are read; of a single one the whole fit's."""
    if job.ensemble.members == 1:
        return whole.weight[None], Panel()
    said = table.only(first).preferences
    drawn = resample.drawn(trained, job.ensemble.members, job.optimiser.seed)
    times = torch.tensor([one.times for one in drawn for _ in one.preferences])  # (P, M)
    weights = []
    for member in range(job.ensemble.members):
        mine = replace(
            table.only(first), preferences=replace(said, weight=said.weight * times[:, member])
        )
        weights.append(fit(mine.only(times[:, member] > 0), whole.ridge))
    weight = torch.stack(weights)
    answers = torch.unique(torch.cat([said.i, said.j]))  # those that were trained on
    at = torch.full((len(table.features),), -1)
    at[answers] = torch.arange(len(answers))
    scores = table.features[answers] @ weight.T
    moved = Said(replace(said, i=at[said.i], j=at[said.j]))
    sums = unread(Marks(scores.mean(1), scores), drawn, moved)
    return weight, panel(job.ensemble, sums)


@torch.no_grad()
def features(policy: model.Policy, rows: Sequence[Exchange]) -> Tensor:
    """What the probe reads of each response: mean hidden state, then -d; (B, H + 1) fp32."""
    layout = policy.lay(rows, ends=True)
    hidden = policy.hidden(layout)  # (T, H)

    def contradictions(states: Tensor, at: slice) -> Tensor:
        """p*^4 log(p* / p(y)) of each token, 0 for the likeliest one; (n,)."""
        logps = policy.logits(states).log_softmax(-1)  # (n, V)
        top = logps.max(-1).values
        return top.exp() ** CONFIDENCE * (
            top - logps.gather(1, layout.targets[at, None]).squeeze(1)
        )

    with policy.precision():
        before = hidden.index_select(0, layout.before)  # (N, H)
        tokens = by_chunk(contradictions, before, policy.vocabulary, learns=False)  # (N,)
    contradicts = layout.sums(tokens) ** ROOT  # (B,)
    length = torch.tensor(layout.lengths, device=policy.device).index_select(0, layout.rows)  # (B,)
    mean = layout.sums(hidden.float().index_select(0, layout.own)) / length[:, None]  # (B, H)
    return torch.cat([mean, -contradicts[:, None]], dim=1).float()


def read(
    run: Run, policy: model.Policy, compared: Sequence[Comparison], micro_batch_size: int
) -> Table:
    """Features of all compared answers, and the preferences between them in their order."""
    given = Examples([1.0] * len(compared), [one.tokens for one in compared])
    found: dict[int, Tensor] = {}
    for indices in micro_batches(range(len(compared)), given, micro_batch_size):
        run.check()
        some = [compared[index] for index in indices]
        sequences = [sequence for one in some for sequence in one.sequences]
        sizes = [len(one.sequences) for one in some]
        parts = torch.split(features(policy, sequences).cpu().double(), sizes)
        found.update(zip(indices, parts, strict=True))
        run.progress(len(found), len(compared), "comparisons")
    prompts: dict[tuple[int, ...], int] = {}
    rows: list[tuple[int, int, float, float]] = []
    asked: list[int] = []
    at = 0
    for one in compared:
        rows += [(at + i, at + j, p, weight) for i, j, p, weight in one.preferences]
        number = prompts.setdefault(one.sequences[0].prompt, len(prompts))
        asked += [number] * len(one.preferences)
        at += len(one.sequences)
    columns = (torch.tensor(column) for column in zip(*rows, strict=True))
    everything = torch.cat([found[index] for index in range(len(compared))])
    if not everything.isfinite().all():
        raise ValueError("the base gives states that are no number: its weights are spoilt")
    return Table(everything, Preferences(*columns), torch.tensor(asked))


def best(table: Table) -> Fit:
    """The fit at the ridge whose folds foretell the votes that they left out best."""
    folds = table.prompts % FOLDS
    if len(different := sorted(set(folds.tolist()))) < 2:
        return Fit(fit(table, WITHOUT_FOLDS), WITHOUT_FOLDS, None)
    unseen = {ridge: torch.zeros(len(folds), dtype=torch.float64) for ridge in RIDGES}
    for ridge in RIDGES:
        for fold in different:
            weight = fit(table.only(folds != fold), ridge)
            unseen[ridge][folds == fold] = table.only(folds == fold).margins(weight)
    said = table.preferences
    ridge = min(RIDGES, key=lambda ridge: means(agreed(unseen[ridge].float(), said))["log_loss"])
    return Fit(fit(table, ridge), ridge, unseen[ridge])


def fit(table: Table, ridge: float) -> Tensor:
    """The weights (D,) that explain the preferences best, by Newton's method in fp64.

    w is sought among combinations of the differences, where the ridge leaves it anyway, so that
    few votes on a wide model are a small problem.
    """
    said = table.preferences
    x = table.features[said.i] - table.features[said.j]  # (P, D)
    state, root = x[:, :-1], x[:, -1:]
    basis = torch.linalg.qr(state.T).Q if len(x) < state.shape[1] else torch.eye(state.shape[1])
    basis = basis.double() / state.square().sum(1).mean().sqrt().clamp(min=1e-9)
    scale = root.square().mean().sqrt().clamp(min=1e-9)
    z = torch.cat([state @ basis, root / scale], dim=1)  # (P, min(P, H) + 1)
    precision = torch.full((z.shape[1],), ridge, dtype=torch.float64)
    precision[-1] = RIDGE_OF_C
    a = newton(z, said.p.double(), said.weight.double(), precision)
    return torch.cat([basis @ a[:-1], a[-1:] / scale])


def newton(z: Tensor, p: Tensor, weight: Tensor, precision: Tensor) -> Tensor:
    """argmin_a sum_k weight_k * BCE(sigmoid(z_k . a), p_k) + sum_d precision_d a_d^2 / 2, (D,)."""
    a = torch.zeros(z.shape[1], dtype=z.dtype)
    for _ in range(50):
        chance = torch.sigmoid(z @ a)
        gradient = z.T @ (weight * (chance - p)) + precision * a
        curvature = (z.T * (weight * chance * (1 - chance))) @ z + precision.diag()
        step = torch.linalg.solve(curvature, gradient)
        a = a - step
        if step.abs().max() < 1e-9:
            break
    return a
