"""Compared answers as a reward model reads them: rows of text to token ids in batches, and how
well a model agrees with what people said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from align import jobs
from align.gpu import data
from align.gpu.optimise import Sums
from align.objective import Preferences, Rankings, Ratings, Reads, Said

Pair = tuple[int, int, float, float]  # (i, j, P(i > j), weight)
Detail = tuple[float, float, float]  # of a pair: share of ties, strength, margin


@dataclass(frozen=True)
class Comparison:
    """`details` are of the preferences, in their order, or none at all. `reads` says which of the
    judgements count; `times` how often each member of an ensemble counts the whole."""

    sequences: Sequence[data.Exchange]
    preferences: Sequence[Pair]
    details: Sequence[Detail] = ()
    tastes: Sequence[Sequence[float]] = ()  # of the preferences: their rater's shares of the heads
    rankings: Sequence[tuple[Sequence[Sequence[int]], float]] = ()  # groups, best first; weight
    ratings: Sequence[tuple[int, int, float, float]] = ()  # (answer, criterion, 0 to 1, weight)
    reads: Reads = "preferences"
    times: tuple[int, ...] = ()
    id: str = ""

    @property
    def tokens(self) -> int:
        return sum(len(sequence) for sequence in self.sequences)

    @property
    def weight(self) -> float:
        return sum(float(judgement[-1]) for judgement in getattr(self, self.reads))

    @property
    def judgements(self) -> int:
        return len(getattr(self, self.reads))


def collate(
    comparisons: Sequence[Comparison], place: torch.device
) -> tuple[list[data.Exchange], Said]:
    """All responses of some comparisons, and what was said of them by index."""
    sequences: list[data.Exchange] = []
    pairs: list[tuple[int, int, float, float]] = []
    details: list[Detail] = []
    tastes: list[Sequence[float]] = []
    rankings: list[tuple[list[tuple[int, int]], float]] = []
    ratings: list[tuple[int, int, float, float]] = []
    for one in comparisons:
        at = len(sequences)
        pairs += [(at + i, at + j, p, weight) for i, j, p, weight in one.preferences]
        tastes += one.tastes
        details += one.details or [(0.0, 0.0, 0.0)] * len(one.preferences)
        rankings += [
            ([(at + k, place) for place, group in enumerate(groups) for k in group], weight)
            for groups, weight in one.rankings
        ]
        ratings += [(at + k, criterion, value, w) for k, criterion, value, w in one.ratings]
        sequences += one.sequences
    told = torch.tensor(tastes, device=place) if pairs and len(tastes) == len(pairs) else None
    said = Said(
        replace(
            Preferences(*_columns(pairs, "iiff", place), *_columns(details, "fff", place)),
            tastes=told,
        ),
        _rankings(rankings, place) if rankings else None,
        Ratings(*_columns(ratings, "iiff", place)) if ratings else None,
        torch.tensor([float(len(one.response)) for one in sequences], device=place),
    )
    return sequences, said


def times(comparisons: Sequence[Comparison], place: torch.device) -> Tensor:
    """How often each member counts each judgement that is read, (N, M)."""
    rows = [one.times for one in comparisons for _ in range(one.judgements)]
    return torch.tensor(rows, dtype=torch.float32, device=place)


def agreement(scores: Tensor, preferences: Preferences) -> Sums:
    """`agreed` of scores (R,): log-odds are their differences."""
    return agreed(scores[preferences.i] - scores[preferences.j], preferences)


def agreed(margin: Tensor, preferences: Preferences) -> Sums:
    """How log-odds (P,) agree with preferences: weighted sums of accuracy (ties in the labels left
    out, equal scores half right) and of log-loss, in nats."""
    p, weight = preferences.p, preferences.weight
    log_loss = -(p * logsigmoid(margin) + (1 - p) * logsigmoid(-margin))
    decided = weight * (p != 0.5)
    right = (1 + torch.sign(margin) * torch.sign(p - 0.5)) / 2
    return {
        "accuracy": ((decided * right).sum().item(), decided.sum().item()),
        "log_loss": ((weight * log_loss).sum().item(), weight.sum().item()),
    }


def apart(margins: Tensor, preferences: Preferences) -> Sums:
    """How far log-odds (M, P) of M members put the better answer before the other, in their mean;
    and, of two members or more, how far the members are from each other there (n - 1)."""
    side, weight = torch.sign(preferences.p - 0.5), preferences.weight
    decided = weight * side.abs()
    found = {"margin": ((decided * side * margins.mean(0)).sum().item(), decided.sum().item())}
    if len(margins) > 1:
        spread = (weight * margins.std(0)).sum().item()
        found["disagreement"] = (spread, weight.sum().item())
    return found


def read(
    path: Path, encoder: data.Encoder, max_length: int
) -> tuple[list[Comparison], list[Comparison], int]:
    """`encode` of the rows of a file."""
    return encode(jobs.read_rows(path), encoder, max_length)


def encode(
    rows: Iterable[Mapping[str, Any]],
    encoder: data.Encoder,
    max_length: int,
    *,
    reads: Reads = "preferences",
    criteria: Sequence[str] = (),
) -> tuple[list[Comparison], list[Comparison], int]:
    """Comparisons to train on, those held out, and how many rows were left out.

    Left out: rows with an empty or too long answer, and rows whose judgements weigh nothing.
    Raises ValueError naming the row for a bad judgement, and when nothing is left to train on.
    """
    trained: list[Comparison] = []
    heldout: list[Comparison] = []
    dropped = 0
    for row in rows:
        _check_row(row)
        sequences = encoder.example(row["messages"], row["responses"], max_length)
        one = _comparison(row, sequences or [], reads, criteria)
        # Held-out answers are measured by preferences, whatever is learned from.
        kept = one.preferences if row["heldout"] else one.weight
        if not sequences or not kept:
            dropped += 1
            continue
        (heldout if row["heldout"] else trained).append(one)
    if not trained:
        raise ValueError(f"there are no comparisons to train on ({dropped} were left out)")
    return trained, heldout, dropped


def _comparison(
    row: Mapping[str, Any],
    sequences: Sequence[data.Exchange],
    reads: Reads,
    criteria: Sequence[str],
) -> Comparison:
    count = len(row["preferences"])
    details = row.get("details") or [(0.0, 0.0, 0.0)] * count
    kept = [at for at in range(count) if row["preferences"][at][3]]
    return Comparison(
        sequences,
        [tuple(row["preferences"][at]) for at in kept],
        [tuple(details[at]) for at in kept],
        [row["tastes"][at] for at in kept] if row.get("tastes") else (),
        [(groups, weight) for groups, weight in row.get("rankings", ()) if weight],
        [
            (k, criteria.index(name), value, weight)
            for k, name, value, weight in row.get("ratings", ())
            if weight and name in criteria
        ],
        reads,
        id=row["id"],
    )


def _columns(rows: Sequence[Sequence[Any]], kinds: str, place: torch.device) -> list[Tensor]:
    types = {"i": torch.int64, "f": torch.float32}
    return [
        torch.tensor([row[at] for row in rows], dtype=types[kind], device=place)
        for at, kind in enumerate(kinds)
    ]


def _rankings(
    rankings: Sequence[tuple[list[tuple[int, int]], float]], place: torch.device
) -> Rankings:
    widest = max(len(found) for found, _ in rankings)
    padded = [found + [(0, -1)] * (widest - len(found)) for found, _ in rankings]
    items, where = torch.tensor(padded, device=place).unbind(-1)
    weight = torch.tensor([weight for _, weight in rankings], device=place)
    return Rankings(items, where, weight)


def _check_row(row: Mapping[str, Any]) -> None:
    count = len(row["responses"])
    for i, j, p, weight in row["preferences"]:
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise ValueError(f"comparison {row['id']} has a preference between {i} and {j}")
        if not 0 <= p <= 1:
            raise ValueError(f"comparison {row['id']} has p = {p}, which is not a probability")
        _check_weight(row, weight)
    for groups, weight in row.get("rankings", ()):
        ranked = [k for group in groups for k in group]
        if sorted(set(ranked)) != sorted(ranked) or not set(ranked) <= set(range(count)):
            raise ValueError(f"comparison {row['id']} has the ranking {groups} of {count} answers")
        _check_weight(row, weight)
    for k, name, value, weight in row.get("ratings", ()):
        if not 0 <= k < count or not 0 <= value <= 1:
            raise ValueError(
                f"comparison {row['id']} has the rating {value} of answer {k} for {name}; ratings "
                "go from 0 to 1"
            )
        _check_weight(row, weight)


def _check_weight(row: Mapping[str, Any], weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"comparison {row['id']} has weight {weight}; it must be 0 or more")
