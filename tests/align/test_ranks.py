"""Two processes train what one trains: loss, figures and weights, to rounding.

Ranks are real processes that talk by gloo; parameters, gradients and AdamW's state are sliced by
FSDP2. Within 1e-4 for figures and 1e-3 of the learning rate's reach for weights, where a step of
Adam turns rounding in a gradient next to nothing into a whole step.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from transformers import BloomConfig, BloomForCausalLM

from align import jobs
from align.gpu import checkpoint, data, model, ranks, reward, slices, train, watching
from align.jobs import ModelRef, Weights
from align.run import Run
from tests.align import crowd
from tests.align.conftest import byte_tokenizer, do, metrics, pairs, result, train_job
from tests.align.crowd import doing, together
from tests.align.test_examples_by_algorithm import SHAPES, rows
from tests.align.test_layout import MODELS
from tests.align.test_reward import comparisons, reward_job

Rundir = Callable[..., Path]
RATE = 1e-3  # peak learning rate of the runs that are compared


def weighted(count: int) -> list[dict[str, Any]]:
    return [{**row, "weight": 0.5 + n % 3} for n, row in enumerate(pairs(count))]


def twin(folder: Path) -> Path:
    """Another run directory of the same job, untouched."""
    copy = folder.with_name(f"{folder.name}-twin")
    shutil.copytree(folder, copy)
    return copy


def same(one: Path, two: Path, *, weights: float = 1e-5) -> None:
    """Whether two finished runs say and leave behind the same: all figures of all steps within
    1e-4 (relative), weights within `weights` (absolute), other files to the bit."""
    first, second = metrics(one), metrics(two)
    assert len(first) == len(second)
    for mine, theirs in zip(first, second, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert theirs[name] == pytest.approx(value, rel=1e-4, abs=2e-5), name
    for name in ("steps", "tokens"):
        assert result(one)[name] == result(two)[name]
    manifests = [checkpoint.verify(folder / jobs.WEIGHTS) for folder in (one, two)]
    assert manifests[0].files.keys() == manifests[1].files.keys()
    assert manifests[0].metadata == manifests[1].metadata
    for name, entry in manifests[0].files.items():
        if not name.endswith(".safetensors"):
            assert entry == manifests[1].files[name], name
            continue
        tensors, others = (load_file(folder / jobs.WEIGHTS / name) for folder in (one, two))
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            assert torch.allclose(tensor, others[key], rtol=0, atol=weights), key


def built(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    small = {"vocab_size": 262, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    made: Any = BloomForCausalLM(BloomConfig(**small)) if kind == "padded rows" else MODELS[kind]()
    made.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("kind", [*MODELS, "padded rows"])
def test_two_processes_train_what_one_does_whatever_the_model(
    rundir: Rundir, tmp_path: Path, kind: str, mode: Any
) -> None:
    base = built(kind, tmp_path / "base")
    job = train_job(base, batch_size=5, micro_batch_size=2, learning_rate=RATE, epochs=2)
    job = dataclasses.replace(job, weights=Weights(mode=mode, rank=4, alpha=8))
    alone = rundir(job, "run", examples=weighted(13))
    both = twin(alone)
    do(train.work, alone)
    assert together(2, doing(train.work, both)) == [0, 0]
    same(alone, both)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_layers_computed_again_for_their_gradient_may_be_sliced(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    job = train_job(tiny_base, batch_size=5, learning_rate=RATE, epochs=1)
    weights = Weights(mode=mode, rank=4, alpha=8, activation_checkpointing=True)
    alone = rundir(dataclasses.replace(job, weights=weights), "run", examples=weighted(13))
    both = twin(alone)
    do(train.work, alone)
    assert together(2, doing(train.work, both)) == [0, 0]
    same(alone, both)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_in_half_precision_two_processes_stay_within_its_rounding_of_one(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    job = train_job(tiny_base, batch_size=5, learning_rate=RATE, epochs=1)
    weights = Weights(mode=mode, rank=4, alpha=8, precision="bf16")
    alone = rundir(dataclasses.replace(job, weights=weights), "run", examples=weighted(13))
    both = twin(alone)
    do(train.work, alone)
    assert together(2, doing(train.work, both)) == [0, 0]
    for mine, theirs in zip(metrics(alone), metrics(both), strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=5e-3)
        assert theirs["grad_norm"] == pytest.approx(mine["grad_norm"], rel=2e-2)
    for path in (both / jobs.WEIGHTS).glob("*.safetensors"):
        kept = load_file(alone / jobs.WEIGHTS / path.name)
        found = load_file(path)
        assert {n: t.dtype for n, t in found.items()} == {n: t.dtype for n, t in kept.items()}


@pytest.mark.parametrize(("label", "mode"), list(zip(SHAPES, cycle(["lora", "full"]))))
def test_two_processes_train_what_one_does_whatever_the_algorithm(
    rundir: Rundir, tiny_base: Path, other_base: Path, label: str, mode: Any
) -> None:
    algorithm = SHAPES[label]
    start, other = (ModelRef(base=str(base)) for base in (tiny_base, other_base))
    asked = {*algorithm.references, *algorithm.divergences}
    job = dataclasses.replace(
        train_job(tiny_base, batch_size=5, learning_rate=RATE, epochs=1),
        algorithm=type(algorithm).__module__.rpartition(".")[2],
        knobs=dataclasses.asdict(algorithm),
        references={n: other if n in algorithm.divergences else start for n in sorted(asked)},
        weights=Weights(mode=mode, rank=4),
    )
    alone = rundir(job, "run", examples=rows(algorithm))
    both = twin(alone)
    do(train.work, alone)
    assert together(2, doing(train.work, both)) == [0, 0]
    same(alone, both, weights=RATE / 10)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_two_processes_train_the_reward_model_that_one_does(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    job = reward_job(tiny_base, mode, learning_rate=RATE, epochs=2)
    job = dataclasses.replace(job, folds=2)
    alone = rundir(job, "run", comparisons=comparisons(21))
    both = twin(alone)
    do(reward.work, alone)
    assert together(2, doing(reward.work, both)) == [0, 0]
    same(alone, both, weights=RATE / 10)
    temperatures = [result(folder)["temperature"] for folder in (alone, both)]
    assert temperatures[1] == pytest.approx(temperatures[0], rel=0.01)
    reward.load(both / jobs.WEIGHTS)


def test_three_processes_share_a_batch_of_two(rundir: Rundir, tiny_base: Path) -> None:
    job = train_job(tiny_base, batch_size=2, learning_rate=RATE, epochs=1)
    alone = rundir(job, "run", examples=weighted(5))
    both = twin(alone)
    do(train.work, alone)
    assert together(3, doing(train.work, both)) == [0, 0, 0]
    same(alone, both)


def test_where_policy_and_reference_agree_the_margins_of_two_processes_are_nothing(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    folder = rundir(train_job(tiny_base, adapter, batch_size=12), examples=pairs())
    assert together(2, doing(train.work, folder)) == [0, 0]
    assert abs(metrics(folder)[0]["rewards/margins"]) < 1e-6


def stopping_after(step: int) -> None:
    """The next run of this process is told to stop at a step, as by SIGTERM."""
    real = Run.metrics

    def metrics(self: Run, at: int, values: dict[str, float]) -> None:
        real(self, at, values)
        self.stopping = at == step

    Run.metrics = metrics  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])
def test_a_checkpoint_is_taken_up_by_another_number_of_processes(
    rundir: Rundir, tiny_base: Path, mode: Any, before: int, after: int
) -> None:
    job = train_job(tiny_base, batch_size=5, learning_rate=RATE)
    job = dataclasses.replace(job, weights=Weights(mode=mode, rank=4, alpha=8))
    whole = rundir(job, "run", examples=weighted(13))
    cut = twin(whole)
    do(train.work, whole)

    def until_told() -> None:
        stopping_after(5)
        doing(train.work, cut)()

    assert together(before, until_told) == [75] * before
    newest = checkpoint.numbered(cut / jobs.CHECKPOINTS)[-1]
    assert newest.name == "step-00000005"
    assert len(list(newest.glob("*.safetensors"))) == before
    assert together(after, doing(train.work, cut)) == [0] * after
    assert "resumed from step 5" in (cut / jobs.EVENTS).read_text()
    same(whole, cut)


def test_a_stop_that_reaches_one_process_stops_all_at_the_same_step(
    rundir: Rundir, tiny_base: Path
) -> None:
    folder = rundir(train_job(tiny_base, batch_size=5), examples=weighted(13))

    def one_is_told() -> None:
        if dist.get_rank() == 1:
            stopping_after(4)
        doing(train.work, folder)()

    assert together(2, one_is_told) == [75, 75]
    assert checkpoint.numbered(folder / jobs.CHECKPOINTS)[-1].name == "step-00000004"


def test_a_torn_checkpoint_of_two_is_passed_over_for_the_one_before(
    rundir: Rundir, tiny_base: Path
) -> None:
    folder = rundir(train_job(tiny_base, batch_size=5), examples=weighted(13))

    def until_told() -> None:
        stopping_after(5)
        doing(train.work, folder)()

    assert together(2, until_told) == [75, 75]
    newest = checkpoint.numbered(folder / jobs.CHECKPOINTS)[-1]
    (newest / "state-00002-of-00002.safetensors").write_bytes(b"torn")
    assert together(2, doing(train.work, folder)) == [0, 0]
    said = (folder / jobs.EVENTS).read_text()
    assert "checkpoint passed over" in said
    assert "resumed from step 4" in said


def test_figures_that_blow_up_on_one_process_end_all_as_a_bad_job(
    rundir: Rundir, tiny_base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = train_job(tiny_base, learning_rate=1e20, warmup_ratio=0.0, max_grad_norm=0.0)
    folder = rundir(job, examples=pairs())
    assert together(2, doing(train.work, folder)) == [2, 2]
    assert "at step 1 of 9" in capfd.readouterr().err
    assert not (folder / jobs.WEIGHTS).exists()


def test_memory_that_runs_out_on_one_process_ends_all_and_none_waits(
    rundir: Rundir, tiny_base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = rundir(train_job(tiny_base), examples=pairs())
    started = time.monotonic()

    def one_runs_out() -> None:
        real = watching.read

        def tight(
            policy: model.Policy, some: Sequence[data.Exchange], *, entropy: bool
        ) -> watching.Reading:
            if torch.is_grad_enabled():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(policy, some, entropy=entropy)

        if dist.get_rank() == 1:
            watching.read = tight
        doing(train.work, folder)()

    assert together(2, one_runs_out) == [ranks.LOST, 1]
    assert time.monotonic() - started < crowd.TIMEOUT.total_seconds()
    said = capfd.readouterr().err
    assert "OutOfMemoryError: CUDA out of memory" in said
    assert "This rank lost another one" in said


def test_processes_with_other_data_refuse_to_train_together(
    rundir: Rundir, tiny_base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [rundir(train_job(tiny_base), str(n), examples=pairs(12 - n)) for n in range(2)]

    def apart() -> None:
        doing(train.work, folders[dist.get_rank()])()

    assert together(2, apart) == [2, 2]
    assert "rank 1 has other data" in capfd.readouterr().err


def test_a_batch_is_dealt_out_whole_in_shares_of_like_work() -> None:
    tokens = [7, 1, 9, 3, 8, 2, 6]
    shares = ranks.deal(range(7), tokens, range(7), 2)
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert [sum(tokens[index] for index in share) for share in shares] == [18, 18]


def test_examples_of_one_prompt_go_to_one_process_where_there_are_prompts_enough() -> None:
    prompts = [0, 1, 0, 1, 2, 0]
    shares = ranks.deal(range(6), [5] * 6, prompts, 2)
    assert [{prompts[index] for index in share} for share in shares] == [{0}, {1, 2}]
    assert [len(share) for share in ranks.deal(range(4), [5] * 4, [0] * 4, 2)] == [2, 2]


def test_slices_of_any_number_of_ranks_are_read_by_any_other(tmp_path: Path) -> None:
    whole = torch.arange(7.0)[:, None].expand(7, 3).clone()
    for size in (1, 2, 3, 5):
        folder = tmp_path / str(size)
        folder.mkdir()
        for rank in range(size):
            start, stop = ranks.rows(whole, rank, size)
            tensors = {"w": whole[start:stop], "step": torch.tensor(4.0)}
            slices.write(folder, tensors, ranks.Ranks(rank, size))
        saved = slices.Slices(folder)
        for others in (1, 2, 4, 8):
            found = [saved.part("w", whole, ranks.Ranks(rank, others)) for rank in range(others)]
            assert torch.equal(torch.cat(found), whole)
            assert saved.part("step", torch.tensor(0.0), ranks.Ranks(0, others)) == 4
