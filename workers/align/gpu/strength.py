"""How strongly models that never saw a preference support it: cross-fitted ensembles of probes.

Every preference's prompt is left out of the fit of those that judge it, else they would repeat its
noise. The judges are probes of the frozen base (`align.gpu.probe`) on resampled votes: seconds,
whatever kind of reward model is trained on the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from align.gpu import probe, resample
from align.gpu.comparisons import Comparison
from align.gpu.probe import FOLDS, Table
from align.labels import Key

MEMBERS = 5


def strengths(table: Table, compared: Sequence[Comparison], seed: int) -> dict[Key, float]:
    """Log-odds of i over j by preference, the mean of the members that did not see its prompt.
    Empty where there are fewer than two prompts."""
    found = judged(table, compared, seed).mean(1).tolist()
    keys = [(one.id, i, j) for one in compared for i, j, *_ in one.preferences]
    if len(set(table.prompts.tolist())) < 2:
        return {}
    return dict(zip(keys, found, strict=True))


def judged(table: Table, compared: Sequence[Comparison], seed: int) -> Tensor:
    """Log-odds by preference and member, (P, M)."""
    said = table.preferences
    x = table.features[said.i] - table.features[said.j]  # (P, D)
    ridge = probe.best(table).ridge
    folds = table.prompts % FOLDS
    times = counted(compared, seed)
    found = torch.zeros(len(x), MEMBERS, dtype=torch.float64)
    for fold in sorted(set(folds.tolist())):
        others = folds != fold
        for member in range(MEMBERS):
            weight = said.weight * times[:, member]
            drawn = Table(table.features, replace(said, weight=weight), table.prompts)
            if (seen := others & (weight > 0)).any():
                w = probe.fit(drawn.only(seen), ridge)
                found[~others, member] = x[~others].double() @ w
    return found


def counted(compared: Sequence[Comparison], seed: int, members: int = MEMBERS) -> Tensor:
    """How often each member counts each preference, (P, M)."""
    rows = [
        [resample.times(one.sequences[0].prompt, member, seed) for member in range(members)]
        for one in compared
        for _ in one.preferences
    ]
    return torch.tensor(rows, dtype=torch.float32)
