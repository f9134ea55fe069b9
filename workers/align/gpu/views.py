"""The comparisons a reward job learns from, as its label settings have them, and what that changed.

The rows of comparisons.jsonl are never written to. What is not trained on as it was given is
listed in labels.jsonl, with the reason; the figures go into the job's result. Strengths are kept in
the run directory, so that a job that goes on after a kill goes on with the same labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from align import jobs, labels, objectives, routing
from align.gpu import comparisons, crowd, data, model, probe, ranks, strength, tastes
from align.jobs import RewardJob
from align.labels import Change, Key, Rater
from align.objective import Reads
from align.run import Run

STRENGTHS = "strengths.jsonl"


@dataclass(frozen=True)
class View:
    """criteria: what answers are rated by, where ratings are read. figures: see `_figures`. votes:
    the rows before any vote was turned around or softened, where some may have been."""

    rows: list[dict[str, Any]]
    criteria: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    votes: list[dict[str, Any]] | None = None


def make(run: Run, job: RewardJob) -> View:
    """Raises ValueError for settings that cannot work, or that the objective would not notice."""
    objective = objectives.get(job.objective).build(job.knobs)
    settings, reads = job.labels, objective.reads
    labels.check(settings)
    if settings.by_strength and reads != "preferences":
        raise ValueError(
            f"flips, softened labels and margins are of preferences; {job.objective} reads {reads}"
        )
    if settings.by_strength and objective.by_rater:
        raise ValueError(f"{job.objective} reads single votes; flips and margins are of their sums")
    given = list(jobs.read_rows(run.folder / jobs.COMPARISONS))
    learned = [row for row in given if not row["heldout"]]
    raters = crowd.raters(learned) if settings.raters else {}
    found: dict[str, Any] = {}
    if objective.by_rater or tastes.doubted(raters):
        found = tastes.find(run, job, given, getattr(objective, "heads", 2))
        raters = tastes.spared(raters, found)
    weigh = labels.weigher(settings, raters)
    rows = [labels.count(row, labels.plainly if row["heldout"] else weigh) for row in given]
    changed = labels.changes(given, rows)
    rows = labels.by_people(rows)
    if objective.by_rater:
        shares, heads = tastes.shares(found), found["heads"]
        rows = [
            routing.by_rater(row, labels.plainly if row["heldout"] else weigh, shares, heads)
            for row in rows
        ]
    if reads != "ratings":  # who rated without ranking says nothing that these objectives read
        rows = [row for row in rows if row["preferences"] or not row.get("votes")]
    votes = rows if settings.by_strength else None
    if settings.by_strength:
        rows, more = labels.relabel(rows, _strengths(run, job, rows), settings)
        changed += more
    criteria: list[str] = []
    if reads == "ratings":
        rows, criteria = labels.rated(rows, objective.votes_for_ratings)
    if reads == "rankings":
        rows = [_ranked(row) for row in rows]
    if not run.silent:
        jobs.write_rows(run.folder / jobs.LABELS, [_told(one) for one in changed])
    figures = {**_figures(given, raters, changed, reads), "cap": settings.cap}
    return View(rows, criteria, {**figures, "tastes": found} if found else figures, votes)


def _ranked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with rankings: its votes', or what preferences between two answers say."""
    if row.get("rankings"):
        return row
    if len(row["responses"]) > 2:
        raise ValueError(f"comparison {row['id']} has no votes to read rankings from")
    found: list[tuple[list[list[int]], float]] = []
    for i, j, p, weight in row["preferences"]:
        if p == 0.5:
            found.append(([[i, j]], weight))
        else:
            found += [([[i], [j]], weight * p), ([[j], [i]], weight * (1 - p))]
    return {**row, "rankings": found}


def _strengths(run: Run, job: RewardJob, rows: Sequence[Mapping[str, Any]]) -> dict[Key, float]:
    """Log-odds by preference; found once for a run directory, by the first of several ranks."""
    path, here = run.folder / STRENGTHS, ranks.here()
    if here.leads and not path.is_file():
        _find(run, job, rows, path)
    here.gather("found")
    return {(row["id"], row["i"], row["j"]): row["u"] for row in jobs.read_rows(path)}


def _find(run: Run, job: RewardJob, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    policy = model.load(job.base)
    encoder = data.Encoder(policy.tokenizer)
    trained, _, _ = comparisons.encode(rows, encoder, job.optimiser.max_length)
    table = probe.read(run, policy, trained, job.optimiser.micro_batch_size)
    found = strength.strengths(table, trained, job.optimiser.seed)
    jobs.write_rows(
        path, [{"id": key[0], "i": key[1], "j": key[2], "u": u} for key, u in found.items()]
    )


def _told(one: Change) -> dict[str, Any]:
    comparison, i, j = one.key
    fields = {name: value for name, value in asdict(one).items() if name != "key"}
    return {"comparison": comparison, "i": i, "j": j, **fields}


def _figures(
    given: Sequence[Mapping[str, Any]],
    raters: Mapping[str, Rater],
    changed: Sequence[Change],
    reads: Reads,
) -> dict[str, Any]:
    """What a page tells of the labels: how many there are and of whom, what was changed and why,
    and whose votes it changed."""
    votes = {row["id"]: row.get("votes", ()) for row in given}
    cast = [vote for found in votes.values() for vote in found]
    reasons = Counter(reason for one in changed for reason in one.reason.split(", "))
    asked: Counter[str] = Counter()
    for row in given:
        if not row["heldout"]:
            for vote in row.get("votes", ()):
                asked[vote["rater"]] += len(labels.pairs(vote))
    turned: Counter[str] = Counter()
    for one in changed:
        if "turned around" in one.reason:
            turned.update(vote["rater"] for vote in votes[one.key[0]])
    return {
        "reads": reads,
        "votes": len(cast),
        "machine_votes": sum(not vote["human"] for vote in cast),
        "changed": dict(reasons),
        "turned_by_rater": dict(turned),
        "asked_by_rater": dict(asked),
        "raters": {name: asdict(one) for name, one in raters.items()},
    }
