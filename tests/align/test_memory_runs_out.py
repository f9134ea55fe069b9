"""Memory that runs out at any step costs time and changes no result; where nothing helps, it says.

An allocator that raises as a GPU's does, at the forward and in mid-backward, for every algorithm
and every sort of reward model; and a real one, in a child that may have only so much memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from align import jobs
from align.gpu import train
from align.gpu.optimise import Loop
from tests.align.conftest import do, metrics, pairs, train_job
from tests.align.every_kind import KINDS, STEPS, Rundir, data_of, job_of, work_of

WHOLE = {"micro_batch_size": 4}


def short_at(monkeypatch: pytest.MonkeyPatch, step: int, *, backward: bool) -> list[int]:
    """At this step there is room for one example at a time: a larger micro-batch meets the end of
    memory in its forward, or half way through its backward. Returns the sizes that met it."""
    real, met = Loop._accumulate, list[int]()

    def accumulate(self: Loop, parts: Sequence[Sequence[int]]) -> Any:
        if self.state.step + 1 != step or max(map(len, parts)) == 1:
            return real(self, parts)
        met.append(max(map(len, parts)))
        forward = self.forward

        def refuse(gradient: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        def short(indices: Sequence[int]) -> Any:
            if not backward:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            hook = list(self.parameters.values())[0].register_hook(refuse)
            hooks.append(hook)
            return forward(indices)

        hooks: list[Any] = []
        self.forward = short
        try:
            return real(self, parts)
        finally:
            self.forward = forward
            for hook in hooks:
                hook.remove()

    monkeypatch.setattr(Loop, "_accumulate", accumulate)
    return met


@pytest.mark.parametrize("kind", KINDS)
def test_at_a_step_it_goes_on_in_smaller_pieces_with_the_same_figures(
    kind: str, rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(kind, tiny_base, **WHOLE)
    calm = rundir(job, "calm", **data_of(kind))
    do(work_of(kind), calm)
    met = short_at(monkeypatch, 3, backward=KINDS.index(kind) % 2 == 0)
    folder = rundir(job, "short", **data_of(kind))
    found = do(work_of(kind), folder)
    assert found["steps"] == STEPS
    assert met == [4, 2]
    said = (folder / jobs.EVENTS).read_text()
    assert "out of memory: micro-batches of 2 from here" in said
    assert "out of memory: micro-batches of 1 from here" in said
    for mine, theirs in zip(metrics(folder), metrics(calm), strict=True):
        assert mine.keys() == theirs.keys()
        if "learning_rate" in mine:
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3, abs=1e-4)
            assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-2, abs=1e-4)


LIMITED = """
import resource, sys
import psutil
from align.gpu import train
from align.run import main
calm, tight = sys.argv[1:]
main(train.work, [calm])
held = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (held + (96 << 20), resource.RLIM_INFINITY))
main(train.work, [tight])
"""


def test_under_a_real_limit_a_program_finds_the_size_that_fits(
    rundir: Rundir, tiny_base: Path
) -> None:
    """RLIMIT_AS: what the allocator of a CPU refuses is what a GPU's would. In a process of its
    own, since this one may hold any amount of free memory from tests before."""
    many = {"batch_size": 96, "micro_batch_size": 96, "epochs": 2, "max_length": 400}
    rows = [{**row, "id": f"{n}", "responses": {
        role: {**one, "text": one["text"] * 40} for role, one in row["responses"].items()}}
        for n, row in enumerate(pairs(96))]  # fmt: skip
    job = train_job(tiny_base, **many)
    calm, tight = (rundir(job, name, examples=rows) for name in ("calm", "tight"))
    # What the first training frees goes back to the system, so that it is no store for the second.
    frugal = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    program = [sys.executable, "-c", LIMITED, str(calm), str(tight)]
    ended = subprocess.run(program, env=frugal, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "out of memory: micro-batches of " in (tight / jobs.EVENTS).read_text()
    expected, found = metrics(calm), metrics(tight)
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-4)
    assert len(found) == len(expected)


def test_where_not_even_one_example_fits_the_reason_says_what_helps(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Loop, parts: Sequence[Sequence[int]]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Loop, "_accumulate", never)
    folder = rundir(replace(job_of("dpo", tiny_base)), **data_of("dpo"))
    with pytest.raises(MemoryError, match="memory runs out with a single example at a time"):
        do(train.work, folder)
    assert not (folder / jobs.RESULT).exists()
