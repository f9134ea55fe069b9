"""`python -m align.gpu.features RUNDIR`: where answers lie among what a reward model could learn.

A reward model that is linear in its last hidden state learns from differences of that between
answers to one prompt. So: the state that the model's head reads, less its mean over the prompt's
answers, in the few directions along which those vary most (PCA). Before there is a reward model,
and for one that has no such state, what `align.gpu.probe` reads of the base. A killed job begins
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align import jobs
from align.gpu import contrast, data, model, probe, reward, score
from align.gpu.data import Exchange
from align.gpu.heads import RewardModel
from align.gpu.members import Committee
from align.gpu.probe import Probe
from align.jobs import FeatureJob
from align.run import Run, main

Read = Callable[[Sequence[Exchange]], Tensor]  # (B, D) fp32


def work(run: Run) -> dict[str, Any]:
    """At most `dims` numbers for each answer that fits. Raises ValueError for a bad job."""
    job = run.job
    if not isinstance(job, FeatureJob):
        raise ValueError(f"align.gpu.features runs features jobs, not {job.kind} jobs")
    if job.batch_size < 1 or job.dims < 1:
        raise ValueError("batch_size and dims must be at least 1")
    model.deterministic(0)
    policy, read = _reader(job)
    items = score.read_items(run.folder / jobs.ITEMS)
    encoded = score.encode(items, data.Encoder(policy.tokenizer), job.max_length)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for batch in score.batches(encoded, job.batch_size):
            run.check()
            rows = read([encoded[key] for key in batch])
            found.update(zip(batch, rows.cpu().double(), strict=True))
            run.progress(len(found), len(encoded), "answers")
    prompts = contrast.by_prompt(items, found)
    keys = [key for some in prompts.values() for key in some]
    sizes = [len(some) for some in prompts.values()]
    table = projected([found[key] for key in keys], sizes, job.dims)
    jobs.write_rows(
        run.folder / jobs.FEATURES,
        ({"id": key, "features": row} for key, row in zip(keys, table, strict=True)),
    )
    return {"answers": len(keys), "skipped": len(items) - len(keys)}


def projected(rows: Sequence[Tensor], sizes: Sequence[int], dims: int) -> list[list[float]]:
    """Features (D,) of answers, by prompt as many as `sizes` says, less their prompt's mean, along
    the `dims` directions in which they vary most (fewer where there are fewer)."""
    if not rows:
        return []
    by_prompt = torch.split(torch.stack(list(rows)), list(sizes))
    apart = torch.cat([part - part.mean(0) for part in by_prompt])
    variances, directions = torch.linalg.eigh(apart.T @ apart)
    kept = min(dims, int((variances > 1e-9 * variances[-1].clamp(min=1e-30)).sum()))
    best = directions[:, -max(1, kept) :].flip(1)
    largest = best.gather(0, best.abs().argmax(0, keepdim=True))  # a direction has no sign
    found: list[list[float]] = (apart @ (best * largest.sign())).tolist()
    return found


def _reader(job: FeatureJob) -> tuple[model.Policy, Read]:
    judge = reward.load(Path(job.reward_model)) if job.reward_model else None
    if isinstance(judge, Committee):
        judge = judge.judges[0]
    if isinstance(judge, RewardModel):
        return judge.policy, partial(_last, judge.policy)
    policy = judge.policy if isinstance(judge, Probe) else model.load(job.base)
    return policy, partial(_balanced, policy)


def _last(policy: model.Policy, rows: Sequence[Exchange]) -> Tensor:
    """The hidden state of each answer's last token, which a head reads."""
    layout = policy.lay(rows, ends=True)
    last = policy.hidden(layout).index_select(0, layout.last)
    return last.float().index_select(0, layout.rows)


def _balanced(policy: model.Policy, rows: Sequence[Exchange]) -> Tensor:
    """What a probe reads, with its one number on a contradiction as large as all of the state."""
    found = probe.features(policy, rows)
    return torch.cat([found[:, :-1], found[:, -1:] * found.shape[1] ** 0.5], dim=1)


if __name__ == "__main__":
    main(work)
