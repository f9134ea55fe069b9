"""Steps are random batches, prompts stay together, and memory that runs out costs time only."""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from align import jobs
from align.gpu import data, layout, model, reward, train, watching
from align.gpu.batches import Cuts, Examples, micro_batches, plan
from align.gpu.data import Exchange
from align.jobs import Optimiser
from tests.align.conftest import do, pair, pairs, train_job
from tests.align.test_reward import comparisons, reward_job

Rundir = Callable[..., Path]
SIZES = [1, 28, 3, 1, 6, 10, 2, 1, 15, 1]  # examples of each prompt
PROMPTS = [prompt for prompt, size in enumerate(SIZES) for _ in range(size)]


def ranked(prompts: int = 5, answers: int = 4, seed: int = 0) -> Examples:
    """All pairs between the answers to each prompt."""
    rng = random.Random(seed)
    rows = []
    for prompt in range(prompts):
        asked = tuple(rng.choices(range(9), k=rng.randint(5, 30))) + (prompt,)
        given = [Exchange(asked, (n, *[0] * rng.randint(1, 40))) for n in range(answers)]
        rows += list(itertools.combinations(given, 2))
    return Examples([1.0] * len(rows), [len(a) + len(b) for a, b in rows], rows)


def test_every_epoch_takes_every_example_once_and_a_prompt_comes_in_short_runs() -> None:
    prompts = [prompt for prompt in range(30) for _ in range(6)]
    for epoch in plan(180, Optimiser(epochs=3, batch_size=12), prompts):
        assert sorted(index for batch in epoch for index in batch) == list(range(180))
        assert {len(batch) for batch in epoch} == {12}
        mixed = [len({prompts[index] for index in batch}) for batch in epoch]
        assert min(mixed) >= 3  # two of a step's four runs may be of one prompt, as chance has it
        assert 4 <= sum(mixed) / len(mixed) < 6  # of examples one by one, 10 would be different


def test_each_example_is_as_likely_in_any_step_as_in_any_other() -> None:
    sizes = [1, 1, 9, 2, 3]
    prompts = [prompt for prompt, size in enumerate(sizes) for _ in range(size)]
    drawn: collections.Counter[tuple[int, int]] = collections.Counter()
    rounds = 4000
    for seed in range(rounds):
        epoch = plan(16, Optimiser(batch_size=8, seed=seed), prompts)[0]
        drawn.update((at, index) for at, batch in enumerate(epoch) for index in batch)
    for count in drawn.values():
        assert abs(count - rounds / 2) < 5 * (rounds / 4) ** 0.5
    assert len(drawn) == 32


def test_where_no_prompt_has_two_examples_the_order_is_the_plain_permutation() -> None:
    settings = Optimiser(epochs=2, batch_size=8)
    assert plan(20, settings, list(range(20))) == plan(20, settings)
    small = Optimiser(batch_size=7)  # too small for two examples of a prompt among four
    assert plan(len(PROMPTS), small, PROMPTS) == plan(len(PROMPTS), small)


@pytest.mark.parametrize("budget", [0, 1, 40, 150, 10**6])
@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_a_cut_holds_every_example_once_and_keeps_to_its_measure(size: int, budget: int) -> None:
    given = ranked()
    parts = micro_batches(range(30), given, size, budget)
    assert sorted(index for part in parts for index in part) == list(range(30))
    for part in parts:
        if budget:
            assert len(part) == 1 or given.packed(part) <= budget
        else:
            assert len(part) <= size


def test_examples_of_a_prompt_are_computed_together_where_they_fit() -> None:
    given = ranked()
    order = random.Random(0).sample(range(30), 30)
    for parts in (micro_batches(order, given, 8), micro_batches(order, given, 99, budget=250)):
        homes = {(given.prompts[index], at) for at, part in enumerate(parts) for index in part}
        assert len(homes) == 5
    whole = given.packed(range(30))
    assert whole < sum(given.tokens) / 3


def test_tokens_are_counted_as_they_are_laid_out() -> None:
    given = ranked(3)
    rows = [row for index in (0, 1, 7, 13) for row in given.rows[index]]
    packed = layout.pack(rows, torch.device("cpu"), ends=True)
    assert given.packed([0, 1, 7, 13]) == packed.ids.numel()
    apart = Examples(given.weights, given.tokens, given.rows, shared=False)
    assert apart.packed([0, 1, 7, 13]) == sum(map(len, rows))


def exhausted(kind: str) -> None:
    """Fail as an allocation does: the CPU's allocator for real, the GPU's by its exception."""
    if kind == "cpu":
        torch.empty(2**55)
    if kind == "python":
        raise MemoryError
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def tight(monkeypatch: pytest.MonkeyPatch, kind: str, most: int) -> list[int]:
    """Memory for `most` sequences at a time; returns how many were asked for, each time."""
    real, asked = watching.read, list[int]()

    def limited(
        policy: model.Policy, rows: Sequence[data.Exchange], *, entropy: bool
    ) -> watching.Reading:
        asked.append(len(rows))
        if len(rows) > most:
            exhausted(kind)
        return real(policy, rows, entropy=entropy)

    monkeypatch.setattr(watching, "read", limited)
    return asked


@pytest.mark.parametrize("kind", ["cpu", "python", "cuda"])
@pytest.mark.parametrize("tokens", [0, 10**6])
def test_memory_that_runs_out_halves_the_micro_batches_and_changes_nothing_else(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tokens: int
) -> None:
    settings: dict[str, Any] = {"batch_size": 4, "micro_batch_size": 4}
    job = train_job(tiny_base, **settings, micro_batch_tokens=tokens)
    calm = rundir(job, "calm", examples=pairs())
    expected = do(train.work, calm)
    asked = tight(monkeypatch, kind, 4)
    folder = rundir(job, "tight", examples=pairs())
    found = do(train.work, folder)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    names = "weights/adapter_model.safetensors"
    mine, theirs = load_file(folder / names), load_file(calm / names)
    for name, tensor in mine.items():
        # Adam turns rounding in near-zero gradients into steps of the learning rate at most.
        assert torch.allclose(tensor, theirs[name], atol=2e-3), name
    said = (folder / jobs.EVENTS).read_text()
    assert "out of memory: micro-batches of " in said
    assert ("tokens from here" in said) == bool(tokens)
    assert asked.count(8) == 2  # once in the reference pass, once in training; never again


@pytest.mark.parametrize("tokens", [0, 200])
def test_where_one_example_is_too_much_it_says_how_long_it_is_and_what_helps(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    job = train_job(tiny_base, micro_batch_tokens=tokens, max_length=200)
    rows = [*pairs(3), pair("q", "long " * 20, "short", id="long")]
    folder = rundir(job, examples=rows)
    tight(monkeypatch, "cpu", 1)
    with pytest.raises(MemoryError, match=r"longest sequence of this step has 106 tokens. A lower"):
        do(train.work, folder)
    assert not (folder / jobs.RESULT).exists()


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **settings: Any) -> watching.Reading:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(watching, "read", broken)
    with pytest.raises(RuntimeError, match="size mismatch"):
        do(train.work, rundir(train_job(tiny_base), examples=pairs()))


def test_a_reward_model_is_trained_and_measured_in_what_memory_there_is(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rundir(reward_job(tiny_base), comparisons=comparisons())
    real = reward.RewardModel.values

    def limited(self: reward.RewardModel, rows: Sequence[Exchange]) -> torch.Tensor:
        if len(rows) > 4:
            exhausted("cpu")
        return real(self, rows)

    monkeypatch.setattr(reward.RewardModel, "values", limited)
    do(reward.work, folder)
    assert (folder / jobs.EVENTS).read_text().count("out of memory") >= 2  # held-out, then a step


def test_a_cut_that_was_halved_stays_so() -> None:
    said: list[str] = []
    cuts = Cuts(ranked(), Optimiser(micro_batch_size=12), said.append)

    def work(parts: list[list[int]]) -> int:
        if max(map(len, parts)) > 4:
            raise MemoryError
        return len(parts)

    assert cuts.run(range(30), work) == 10
    assert cuts.run(range(30), work) == 10
    assert said == [
        "out of memory: micro-batches of 6 from here",
        "out of memory: micro-batches of 3 from here",
    ]
