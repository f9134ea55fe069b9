"""Compared answers as a reward model reads them: rows of text to token ids in batches, and how
well scores agree with what people said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from align import jobs
from align.gpu import data
from align.gpu.optimise import Sums
from align.objective import Preferences


@dataclass(frozen=True)
class Comparison:
    sequences: Sequence[data.Exchange]
    preferences: Sequence[tuple[int, int, float, float]]  # (i, j, P(i > j), weight)

    @property
    def tokens(self) -> int:
        return sum(len(sequence) for sequence in self.sequences)

    @property
    def weight(self) -> float:
        return sum(preference[3] for preference in self.preferences)


def collate(
    comparisons: Sequence[Comparison], place: torch.device
) -> tuple[list[data.Exchange], Preferences]:
    """All responses of some comparisons, and the preferences between them by index."""
    sequences: list[data.Exchange] = []
    rows: list[tuple[int, int, float, float]] = []
    for one in comparisons:
        at = len(sequences)
        rows += [(at + i, at + j, p, weight) for i, j, p, weight in one.preferences]
        sequences += one.sequences
    i, j, p, weight = zip(*rows, strict=True)
    preferences = Preferences(
        i=torch.tensor(i, device=place),
        j=torch.tensor(j, device=place),
        p=torch.tensor(p, device=place),
        weight=torch.tensor(weight, device=place),
    )
    return sequences, preferences


def agreement(scores: Tensor, preferences: Preferences) -> Sums:
    """Weighted sums of accuracy (ties in the labels left out, equal scores half right) and of
    log-loss under Bradley-Terry, in nats."""
    margin = scores[preferences.i] - scores[preferences.j]  # (P,)
    p, weight = preferences.p, preferences.weight
    log_loss = -(p * logsigmoid(margin) + (1 - p) * logsigmoid(-margin))
    decided = weight * (p != 0.5)
    right = (1 + torch.sign(margin) * torch.sign(p - 0.5)) / 2
    return {
        "accuracy": ((decided * right).sum().item(), decided.sum().item()),
        "log_loss": ((weight * log_loss).sum().item(), weight.sum().item()),
    }


def read(
    path: Path, encoder: data.Encoder, max_length: int
) -> tuple[list[Comparison], list[Comparison], int]:
    """Comparisons to train on, those held out, and how many rows were left out.

    Left out: rows with an empty or too long answer, and rows whose preferences weigh nothing.
    Raises ValueError naming the row for a bad preference, and when nothing is left to train on.
    """
    trained: list[Comparison] = []
    heldout: list[Comparison] = []
    dropped = 0
    for row in jobs.read_rows(path):
        _check_row(row)
        sequences = encoder.example(row["messages"], row["responses"], max_length)
        preferences = [(i, j, p, weight) for i, j, p, weight in row["preferences"] if weight]
        if not sequences or not preferences:
            dropped += 1
            continue
        (heldout if row["heldout"] else trained).append(Comparison(sequences, preferences))
    if not trained:
        raise ValueError(f"there are no comparisons to train on ({dropped} were left out)")
    return trained, heldout, dropped


def _check_row(row: Mapping[str, Any]) -> None:
    count = len(row["responses"])
    for i, j, p, weight in row["preferences"]:
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise ValueError(f"comparison {row['id']} has a preference between {i} and {j}")
        if not 0 <= p <= 1:
            raise ValueError(f"comparison {row['id']} has p = {p}, which is not a probability")
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"comparison {row['id']} has weight {weight}; it must be 0 or more")
