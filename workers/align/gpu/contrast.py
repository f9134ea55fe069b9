"""`python -m align.gpu.contrast RUNDIR`: which two answers to a prompt teach most about taste.

A vote between a true and a false answer says little about their manners, and most differences
between samples are of the first kind. So: of a prompt's pairs, those that contradict the base model
about equally (the tenth where `align.gpu.probe`'s d differs least), and of these the two whose
mean hidden states lie farthest apart. The idea and its tenth are ours, chosen on the demo's base;
nothing here is trained, and a killed job begins again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from align import jobs
from align.gpu import data, model, probe, score
from align.jobs import ContrastJob
from align.run import Run, main

SHARE = 0.1  # of a prompt's pairs that count as contradicting the base alike


def work(run: Run) -> dict[str, Any]:
    """Choose a pair for each prompt with two answers that fit. Raises ValueError for a bad job."""
    job = run.job
    if not isinstance(job, ContrastJob):
        raise ValueError(f"align.gpu.contrast runs contrast jobs, not {job.kind} jobs")
    if job.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {job.batch_size}")
    model.deterministic(0)
    policy = model.load(job.base)
    items = score.read_items(run.folder / jobs.ITEMS)
    encoded = score.encode(items, data.Encoder(policy.tokenizer), job.max_length)
    found: dict[str, Tensor] = {}
    for batch in score.batches(encoded, job.batch_size):
        run.check()
        features = probe.features(policy, [encoded[key] for key in batch])
        found.update(zip(batch, features.cpu(), strict=True))
        run.progress(len(found), len(encoded), "answers")
    pairs = [_pair(keys, found) for keys in by_prompt(items, found).values() if len(keys) > 1]
    jobs.write_rows(run.folder / jobs.CONTRASTS, pairs)
    return {"prompts": len(pairs), "skipped": len(items) - len(encoded)}


def by_prompt(
    items: Mapping[str, Mapping[str, Any]], known: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """Ids of the answers to each prompt that something is known of, in the order they came."""
    prompts: dict[str, list[str]] = {}
    for key, row in items.items():
        if key in known:
            prompts.setdefault(json.dumps(row["messages"]), []).append(key)
    return prompts


def contrast(features: Tensor) -> tuple[int, int]:
    """The pair (i, j), i < j, of two or more answers with the features (R, H + 1)."""
    states, contradicts = features[:, :-1], features[:, -1]
    pairs = list(combinations(range(len(features)), 2))
    pairs.sort(key=lambda pair: abs(contradicts[pair[0]] - contradicts[pair[1]]).item())
    alike = pairs[: math.ceil(len(pairs) * SHARE)]
    return max(alike, key=lambda pair: (states[pair[0]] - states[pair[1]]).norm().item())


def _pair(keys: Sequence[str], found: Mapping[str, Tensor]) -> jobs.ContrastRow:
    i, j = contrast(torch.stack([found[key] for key in keys]))
    return {"first": keys[i], "second": keys[j]}


if __name__ == "__main__":
    main(work)
