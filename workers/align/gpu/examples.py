"""A round's examples as token ids, by role, and as the tensors that a loss reads.

Reading is strict: a row with a bad label, without a role or without a figure that the algorithm
needs is refused by name. What cannot be trained on (empty or too long answers, chosen equal to
rejected, weight 0) is left out and counted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align import jobs
from align.algorithm import MISMATCHED, Algorithm, Labels
from align.gpu import data


@dataclass(frozen=True)
class Example:
    """Token ids by role, with what the data says of them."""

    sequences: Mapping[str, data.Exchange]
    p: float
    weight: float
    facts: Mapping[str, float]

    @property
    def tokens(self) -> int:
        return sum(len(sequence) for sequence in self.sequences.values())


def read(
    path: Path, algorithm: Algorithm, encoder: data.Encoder, max_length: int, seed: int = 0
) -> tuple[list[Example], int]:
    """Examples, and how many rows were left out. The seed pairs prompts with mismatched answers.

    Raises ValueError naming the row for a label, weight or figure out of bounds or missing, and
    when nothing is left.
    """
    roles = tuple(role for role in (*algorithm.roles, *algorithm.probes) if role != MISMATCHED)
    examples, dropped = [], 0
    for row in jobs.read_rows(path):
        _check(row, roles, algorithm.facts)
        responses = [row["responses"][role] for role in roles]
        found = encoder.example(row["messages"], responses, max_length)
        sequences = dict(zip(roles, found or (), strict=bool(found)))
        if not found or not row["weight"] or _same(sequences):
            dropped += 1
            continue
        facts = {name: float(value) for name, value in row["facts"].items()}
        examples.append(Example(sequences, float(row["p"]), float(row["weight"]), facts))
    if not examples:
        raise ValueError(f"there are no examples to train on ({dropped} were left out)")
    if MISMATCHED in algorithm.probes:
        examples = mismatch(examples, algorithm.roles[0], max_length, seed)
    return examples, dropped


def mismatch(examples: Sequence[Example], role: str, max_length: int, seed: int) -> list[Example]:
    """Each prompt with a `role` answer to another prompt beside its own, as MISMATCHED.

    Every answer is used once. An answer meets its own prompt again only where one prompt has more
    than half of all examples. The pairing depends on the examples and the seed alone.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, example in enumerate(examples):
        by_prompt.setdefault(example.sequences[role].prompt, []).append(index)
    groups = list(by_prompt.values())
    random.Random(seed).shuffle(groups)
    order = [index for group in groups for index in group]
    step = max(len(group) for group in groups)  # whoever is that far on has another prompt
    found = list(examples)
    for at, index in enumerate(order):
        other = examples[order[(at + step) % len(order)]].sequences[role].response
        prompt = examples[index].sequences[role].prompt[-(max_length - len(other)) :]
        sequences = {**examples[index].sequences, MISMATCHED: data.Exchange(prompt, other)}
        found[index] = replace(examples[index], sequences=sequences)
    return found


def labels(
    examples: Sequence[Example],
    algorithm: Algorithm,
    place: torch.device,
    baseline: Tensor | None = None,
) -> Labels:
    """What the data says of these examples, as fp64 tensors of shape (B,)."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=place)

    names = {*algorithm.facts, *(name for e in examples for name in e.facts)}
    return Labels(
        p=column([e.p for e in examples]),
        facts={name: column([e.facts.get(name, 0.0) for e in examples]) for name in names},
        tokens={
            role: column([len(e.sequences[role].response) for e in examples])
            for role in algorithm.roles
        },
        baseline=baseline,
    )


def chosen_longer(example: Example) -> float | None:
    """1 if the chosen answer has more tokens than the rejected one, 0.5 if as many."""
    if not {"chosen", "rejected"} <= example.sequences.keys():
        return None
    chosen, rejected = (len(example.sequences[r].response) for r in ("chosen", "rejected"))
    return float(chosen > rejected) + 0.5 * (chosen == rejected)


def _same(sequences: Mapping[str, data.Exchange]) -> bool:
    return "rejected" in sequences and sequences.get("chosen") == sequences["rejected"]


def _check(row: Mapping[str, Any], roles: Sequence[str], facts: Sequence[str]) -> None:
    if not 0 <= row["p"] <= 1:
        raise ValueError(f"example {row['id']} has p = {row['p']}, which is not a probability")
    if not (math.isfinite(row["weight"]) and row["weight"] >= 0):
        raise ValueError(f"example {row['id']} has weight {row['weight']}; it must be 0 or more")
    if missing := [role for role in roles if not row["responses"].get(role)]:
        raise ValueError(f"example {row['id']} has no {missing[0]} response, which is needed")
    for name in facts:
        if not math.isfinite(row["facts"].get(name, math.nan)):
            raise ValueError(f"example {row['id']} has no figure {name}, which is needed")
