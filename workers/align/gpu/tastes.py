"""Whether raters truly differ, and which of K tastes each has, by their votes alone.

Raters are clustered by expectation-maximisation: every taste is a linear probe of the frozen base
(`align.gpu.probe`), every rater has one share of each, and all of a rater's votes speak together.
Votes on the prompts of a fold are then foretold by tastes and shares that the other folds gave, and
by one taste for all: raters differ where the first is surely better (the 95 % interval over prompts
of the gain in log-likelihood is above zero). Else nobody has a taste of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from align import jobs, labels, routing
from align.gpu import comparisons, data, model, probe, ranks
from align.gpu.batches import Cuts
from align.gpu.comparisons import Comparison
from align.gpu.optimise import Sums, means
from align.gpu.probe import FOLDS, Table
from align.jobs import RewardJob
from align.labels import Rater
from align.measure import intervals
from align.objectives.mixture import Mixture
from align.run import Run

if TYPE_CHECKING:
    from align.gpu.reward import Study

FILE = "tastes.json"  # in the run directory: found once, also by several ranks
STEPS = 30
SURE = 0.02  # no rater's share of a head is below this, so that no head is closed to anybody
FEW = 10  # votes of a rater below which nothing is said of him


@dataclass(frozen=True)
class Votes:
    """Single votes: features of the answers, one preference a vote, who cast it (P,)."""

    table: Table
    who: Tensor
    names: Sequence[str]

    def only(self, chosen: Tensor) -> Votes:
        return Votes(self.table.only(chosen), self.who[chosen], self.names)


@dataclass(frozen=True)
class Tastes:
    """weights: of the probes (K, D). shares: of each rater (raters, K). common: (K,)."""

    weights: Tensor
    shares: Tensor
    common: Tensor
    likelihood: float


def find(run: Run, job: RewardJob, rows: Sequence[Mapping[str, Any]], heads: int) -> dict[str, Any]:
    """What is known of raters' tastes: "heads", each rater's "shares" and "votes", and what the
    test of whether they differ says ("gain" in nats a vote, with "low" and "high"; "differ").

    rows: comparisons with votes; held-out ones are not looked at. Read from the run directory where
    a job that was interrupted, or another rank, has found it.
    """
    path, here = run.folder / FILE, ranks.here()
    if here.leads and not path.is_file():
        jobs.write_json(path, _find(run, job, rows, heads))
    here.gather("found")
    found: dict[str, Any] = next(iter(jobs.read_rows(path)))
    return found


def _find(
    run: Run, job: RewardJob, rows: Sequence[Mapping[str, Any]], heads: int
) -> dict[str, Any]:
    cast = [row for row in rows if not row["heldout"] and row.get("votes")]
    names = sorted({vote["rater"] for row in cast for vote in row["votes"]})
    votes = _read(run, job, cast, names) if len(names) > 1 and heads > 1 else None
    if votes is None:
        return {"heads": heads, "raters": {}, "gain": None, "low": None, "high": None,
                "differ": False, "votes": 0}  # fmt: skip
    ridge = probe.best(votes.table).ridge
    seen = foretold(votes, heads, ridge)
    test = _test(seen.gains, votes.table.prompts)
    differ = test is not None and test.low > 0
    found = cluster(votes, heads, ridge)
    counts = torch.bincount(votes.who, minlength=len(names)).tolist()
    shares = _smoothed(found.shares).tolist()
    raters = {name: shares[k] for k, name in enumerate(names) if counts[k]}
    if order := routing.alike(job.tastes, raters):
        raters = {name: [row[k] for k in order] for name, row in raters.items()}
    told = {name: seen.only(votes.who == k).told() for k, name in enumerate(names) if counts[k]}
    return {
        "heads": heads,
        "raters": {
            name: {"shares": row, "votes": counts[names.index(name)], **told[name]}
            for name, row in raters.items()
        },
        "gain": test.value if test else None,
        "low": _finite(test.low) if test else None,
        "high": _finite(test.high) if test else None,
        "differ": differ,
        "votes": len(votes.who),
    }


def shares(found: Mapping[str, Any]) -> dict[str, list[float]]:
    """Each rater's shares of the heads; none where raters are not known to differ."""
    if not found["differ"]:
        return {}
    return {name: one["shares"] for name, one in found["raters"].items()}


def speaking(judge: Any, shares: Sequence[float]) -> Any:
    """A mixture as whoever has these shares of its heads hears it; `judge` itself without any.

    Raises ValueError for what is no mixture, and for shares that are not its heads' or sum to 0.
    """
    if not shares:
        return judge
    mixture = getattr(judge, "objective", None)
    if not isinstance(mixture, Mixture):
        raise ValueError("only a mixture of tastes can be read for some raters")
    if len(shares) != mixture.heads or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"a mixture of {mixture.heads} heads is read by as many shares, 0 or more")
    return replace(judge, tastes=torch.tensor(shares, device=judge.policy.device) / sum(shares))


@torch.no_grad()
def told(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a trained mixture: each head's share of the prompts that it was trained on, and each
    rater's weights of the heads by Hedge over all votes of theirs that it was trained on. Nothing
    of any other model. Members of an ensemble: the first one's."""
    mixture = study.objective
    if not isinstance(mixture, Mixture) or not mixture.asked:
        return {}
    names = {row["id"]: row.get("raters", ()) for row in rows}
    at = {id(one): str(number) for number, one in enumerate(study.trained)}
    heads = range(mixture.heads)

    def said(compared: Sequence[Comparison]) -> Sums:
        exchanges, told = comparisons.collate(compared, study.reward.policy.device)
        values, pairs, k = study.reward.read(exchanges, told)[0], told.preferences, 0
        rewards = mixture.rewards(values)
        ahead = (rewards[pairs.i] - rewards[pairs.j]).tolist()  # (P, K)
        gate = mixture.gate(values)[pairs.i].exp().tolist()
        found: dict[str, tuple[float, float]] = {}
        for one in compared:
            for number in range(len(one.preferences)):
                for head in heads:
                    found[f"{at[id(one)]}:{number}:{head}"] = (ahead[k][head], 1.0)
                    found[f"{at[id(one)]}:{number}:gate {head}"] = (gate[k][head], 1.0)
                k += 1
        return found

    cuts = Cuts(study.given(study.trained), study.job.optimiser, study.run.log, study.ranks)
    found = means(study.over(study.trained, cuts, said))
    votes: dict[str, list[tuple[list[float], float]]] = {}
    for number, one in enumerate(study.trained):
        for k, (rater, (_, _, p, _)) in enumerate(
            zip(names[one.id], one.preferences, strict=False)
        ):
            ahead = [found[f"{number}:{k}:{head}"] for head in heads]
            votes.setdefault(rater, []).append((ahead, p))
    routes = {rater: routing.routed(some, mixture.heads) for rater, some in votes.items()}
    gates = [fmean(found[key] for key in found if key.endswith(f"gate {head}")) for head in heads]
    return {"shares": gates, "routes": routes}


def cluster(votes: Votes, heads: int, ridge: float) -> Tastes:
    """Tastes of the raters, the likeliest of several starts; the first is split by how raters'
    votes lean, the others by chance."""
    starts = [_leaning(votes, heads), *(_drawn(votes, heads, seed) for seed in range(2))]
    return max((_climb(votes, start, ridge) for start in starts), key=lambda one: one.likelihood)


@dataclass(frozen=True)
class Foretold:
    """Of votes that were not learned from: how many nats more several tastes give each than one
    does, and whether one taste, and several, have it right; all (P,), a tie half."""

    gains: Tensor
    one: Tensor
    many: Tensor

    def only(self, chosen: Tensor) -> Foretold:
        return Foretold(self.gains[chosen], self.one[chosen], self.many[chosen])

    def told(self) -> dict[str, float]:
        """Their means."""
        return {
            "gain": self.gains.mean().item(),
            "by_one": self.one.mean().item(),
            "by_own": self.many.mean().item(),
        }


def foretold(votes: Votes, heads: int, ridge: float) -> Foretold:
    """What one taste and several say of votes on each fold's prompts, fitted to the others."""
    folds = votes.table.prompts % FOLDS
    found = Foretold(*torch.zeros(3, len(votes.who), dtype=torch.float64))
    for fold in sorted(set(folds.tolist())):
        seen, unseen = votes.only(folds != fold), votes.only(folds == fold)
        if not len(seen.who):
            continue
        one = probe.fit(seen.table, ridge)[None]
        tastes = cluster(seen, heads, ridge)
        counted = torch.bincount(seen.who, minlength=len(votes.names))
        known = torch.where((counted > 0)[:, None], _smoothed(tastes.shares), tastes.common)
        shares = known[unseen.who]
        many = (_likelihoods(unseen.table, tastes.weights) + shares.log()).logsumexp(1)
        here = folds == fold
        found.gains[here] = many - _likelihoods(unseen.table, one)[:, 0]
        found.one[here] = _right(_chances(unseen.table, one)[:, 0], unseen.table)
        chances = (_chances(unseen.table, tastes.weights) * shares).sum(1)
        found.many[here] = _right(chances, unseen.table)
    return found


def doubted(raters: Mapping[str, Rater]) -> bool:
    """Is anybody's word about to count less?"""
    return any(one.turned or one.weight < 1 for one in raters.values())


def spared(raters: Mapping[str, Rater], found: Mapping[str, Any]) -> dict[str, Rater]:
    """Raters whose votes a taste of their own foretells count in full, however few share it: a
    minority's taste is not noise.

    It must have their unseen votes right surely more often (Wilson's 95 % interval) than the one
    taste of all has, or its opposite: who says the contrary of all, or guesses, has none.
    """
    kept = dict(raters)
    if not found["differ"]:
        return kept
    for name, rater in raters.items():
        one = found["raters"].get(name)
        if one is None or not (rater.turned or rater.weight < 1) or one["votes"] < FEW:
            continue
        low = labels.wilson_low(one["by_own"] * one["votes"], one["votes"])
        if low > max(one["by_one"], 1 - one["by_one"]):
            note = f"not discounted: a taste of their own has {one['by_own']:.0%} of votes right"
            kept[name] = replace(rater, weight=1.0, turned=False, note=note)
    return kept


def _read(
    run: Run, job: RewardJob, cast: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Votes | None:
    policy = model.load(job.base)
    encoder = data.Encoder(policy.tokenizer)
    where = {name: [float(k)] for k, name in enumerate(names)}
    # What a vote carries of its rater is here only the rater's number.
    single = [routing.by_rater(row, labels.plainly, where, 1) for row in cast]
    single = [row for row in single if row["preferences"]]
    if not single:
        return None
    compared, _, _ = comparisons.encode(single, encoder, job.optimiser.max_length)
    table = probe.read(run, policy, compared, job.optimiser.micro_batch_size)
    who = [int(row[0]) for one in compared for row in one.tastes]
    return Votes(table, torch.tensor(who), names)


def _climb(votes: Votes, shares: Tensor, ridge: float) -> Tastes:
    """Expectation-maximisation from shares (raters, K)."""
    table, said = votes.table, votes.table.preferences
    common = shares.mean(0)
    weights = torch.zeros(0)
    before = -float("inf")
    likelihood = before
    for _ in range(STEPS):
        fitted = [_fitted(votes, shares[:, k], ridge) for k in range(shares.shape[1])]
        weights = torch.stack(fitted)
        each = _likelihoods(table, weights) * said.weight[:, None]
        summed = torch.zeros(shares.shape, dtype=torch.float64).index_add_(0, votes.who, each)
        joint = summed + common.clamp(min=1e-6).log()
        likelihood = joint.logsumexp(1).sum().item()
        shares = joint.softmax(1)
        common = shares.mean(0)
        if likelihood - before < 1e-4:
            break
        before = likelihood
    return Tastes(weights, shares, common, likelihood)


def _fitted(votes: Votes, shares: Tensor, ridge: float) -> Tensor:
    """The probe (D,) of votes that count by their rater's share (raters,)."""
    table, said = votes.table, votes.table.preferences
    weight = said.weight * shares[votes.who].to(said.weight.dtype)
    if not (counted := weight > 1e-6).any():
        return torch.zeros(table.features.shape[1], dtype=torch.float64)
    mine = Table(table.features, replace(said, weight=weight), table.prompts)
    return probe.fit(mine.only(counted), ridge)


def _likelihoods(table: Table, weights: Tensor) -> Tensor:
    """Log-likelihood of each vote under each taste, (P, K)."""
    said = table.preferences
    x = (table.features[said.i] - table.features[said.j]).double()
    ahead = x @ weights.T.double()
    p = said.p.double()[:, None]
    return p * logsigmoid(ahead) + (1 - p) * logsigmoid(-ahead)


def _chances(table: Table, weights: Tensor) -> Tensor:
    """P(i > j) under each taste, (P, K)."""
    said = table.preferences
    return (
        (table.features[said.i] - table.features[said.j]).double() @ weights.T.double()
    ).sigmoid()


def _right(chances: Tensor, table: Table) -> Tensor:
    return (1 + (chances - 0.5).sign() * (table.preferences.p.double() - 0.5).sign()) / 2


def _leaning(votes: Votes, heads: int) -> Tensor:
    """Shares (raters, K) by the direction of each rater's votes less everybody's: the farthest
    apart first, then each to the nearest."""
    said = votes.table.preferences
    x = (votes.table.features[said.i] - votes.table.features[said.j]).double()
    x = x / x.square().mean(0).sqrt().clamp(min=1e-9)
    push = (said.p.double() - 0.5)[:, None] * x
    raters = len(votes.names)
    counts = torch.bincount(votes.who, minlength=raters).clamp(min=1)[:, None]
    lean = torch.zeros(raters, x.shape[1], dtype=torch.float64).index_add_(0, votes.who, push)
    lean = lean / counts
    centres = [int(lean.sub(lean.mean(0)).square().sum(1).argmax())]
    while len(centres) < min(heads, raters):
        centres.append(int(torch.cdist(lean, lean[centres]).amin(1).argmax()))
    nearest = torch.cdist(lean, lean[centres]).argmin(1)
    found = torch.full((raters, heads), 0.1 / max(1, heads - 1), dtype=torch.float64)
    found[torch.arange(raters), nearest] = 0.9
    return found / found.sum(1, keepdim=True)


def _drawn(votes: Votes, heads: int, seed: int) -> Tensor:
    drawn = torch.rand(
        len(votes.names), heads, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (3 * drawn).softmax(1)


def _smoothed(shares: Tensor) -> Tensor:
    heads = shares.shape[1]
    return shares * (1 - heads * SURE) + SURE


def _test(gains: Tensor, prompts: Tensor) -> intervals.Interval | None:
    groups: dict[str, list[float]] = {}
    for gain, prompt in zip(gains.tolist(), prompts.tolist(), strict=True):
        groups.setdefault(str(prompt), []).append(gain)

    def mean(rows: Sequence[Sequence[float]]) -> float:
        return fmean(gain for row in rows for gain in row)

    return intervals.over_groups(groups, mean)


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
