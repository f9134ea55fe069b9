"""Examples by role, what a loss is told of them, and the weights a round leaves to choose from."""

from __future__ import annotations

import dataclasses
import math
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from align import jobs
from align.algorithm import MISMATCHED, Algorithm
from align.algorithms.brain import BRAIn
from align.algorithms.dpo import DPO
from align.algorithms.kto import KTO
from align.gpu import checkpoint, data, examples, model, train
from align.gpu.examples import Example
from align.jobs import ModelRef, Weights
from tests.align.conftest import (
    byte_tokenizer,
    die,
    do,
    forked,
    metrics,
    pair,
    pairs,
    response,
    train_job,
)
from tests.align.test_resume import kill_at_step
from tests.align.test_train import training

Rundir = Callable[..., Path]
Row = dict[str, Any]


class Needy(DPO):
    """Reads a third answer and a figure."""

    facts: ClassVar[tuple[str, ...]] = ("win.chosen",)

    @property
    def roles(self) -> tuple[str, ...]:
        return ("chosen", "rejected", "target")


def row(**responses: str) -> Row:
    found = pair("question", "a", "b", id="7")
    return {**found, "responses": {role: response(text) for role, text in responses.items()}}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[Example], int]]:
    def action(
        algorithm: Algorithm, *rows: Row, max_length: int = 60, seed: int = 0
    ) -> tuple[list[Example], int]:
        path = tmp_path / jobs.EXAMPLES
        jobs.write_rows(path, rows)
        encoder = data.Encoder(byte_tokenizer())
        return examples.read(path, algorithm, encoder, max_length, seed)

    return action


Read = Callable[..., tuple[list[Example], int]]
CPU = torch.device("cpu")


def test_an_example_holds_a_sequence_for_each_role_behind_one_prompt(read: Read) -> None:
    given = {**row(chosen="aaa", rejected="b", target="cc"), "facts": {"win.chosen": 0.75}}
    (found,), dropped = read(Needy(), given)
    assert dropped == 0
    assert list(found.sequences) == ["chosen", "rejected", "target"]
    assert len({sequence.prompt for sequence in found.sequences.values()}) == 1
    lengths = {role: len(sequence.response) for role, sequence in found.sequences.items()}
    assert lengths == {"chosen": 4, "rejected": 2, "target": 3}  # the end of turn counts
    prompt = len(found.sequences["chosen"].prompt)
    assert found.tokens == 3 * prompt + 9


def test_labels_are_tensors_by_role_and_figure(read: Read) -> None:
    one = {**row(chosen="aaa", rejected="b", target="cc"), "p": 0.75, "weight": 2.0}
    two = row(chosen="a", rejected="bb", target="c")
    rows = [{**one, "facts": {"win.chosen": 0.5, "tie": 0.25}}, {**two, "facts": {"win.chosen": 1}}]
    found, _ = read(Needy(), *rows)
    baseline = torch.tensor(0.5)
    labels = examples.labels(found, Needy(), CPU, baseline)
    assert labels.p.tolist() == [0.75, 1.0]
    assert labels.of("win.chosen").tolist() == [0.5, 1.0]
    assert labels.of("tie").tolist() == [0.25, 0.0]  # what a row does not carry is 0
    assert {role: t.tolist() for role, t in labels.tokens.items()} == {
        "chosen": [4, 2], "rejected": [2, 3], "target": [3, 2],
    }  # fmt: skip
    assert labels.baseline is baseline


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"p": 1.5}, "example 7 has p = 1.5, which is not a probability"),
        ({"p": math.nan}, "example 7 has p = nan"),
        ({"weight": -1.0}, "example 7 has weight -1.0; it must be 0 or more"),
        ({"weight": math.inf}, "example 7 has weight inf"),
        ({"facts": {}}, "example 7 has no figure win.chosen, which is needed"),
        ({"facts": {"win.chosen": math.nan}}, "example 7 has no figure win.chosen"),
        ({"responses": {"chosen": response("a")}}, "example 7 has no rejected response"),
    ],
)
def test_a_row_that_lies_is_refused_by_name(read: Read, change: Row, sentence: str) -> None:
    good = {**row(chosen="a", rejected="b", target="c"), "facts": {"win.chosen": 1.0}}
    assert len(read(Needy(), good)[0]) == 1
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        read(Needy(), {**good, **change})


def test_the_figures_an_instance_asks_for_are_needed_in_every_row(read: Read) -> None:
    given = row(answer_1="a", answer_2="b", answer_3="c")
    facts = {f"reward.answer_{i}": float(i) for i in (1, 2, 3)}
    assert len(read(BRAIn(n=3), {**given, "facts": facts})[0]) == 1
    del facts["reward.answer_3"]
    with pytest.raises(ValueError, match=r"no figure reward\.answer_3"):
        read(BRAIn(n=3), {**given, "facts": facts})


def test_what_cannot_be_trained_on_is_left_out_and_counted(read: Read) -> None:
    good = row(chosen="a", rejected="b")
    rows = [
        good,
        {**good, "weight": 0.0},
        row(chosen="same", rejected="same"),
        row(chosen="a" * 60, rejected="b"),
    ]
    found, dropped = read(DPO(), *rows)
    assert (len(found), dropped) == (1, 3)
    with pytest.raises(ValueError, match=r"no examples to train on \(3 were left out\)"):
        read(DPO(), *rows[1:])


@pytest.mark.parametrize(("chosen", "share"), [("aaa", 1.0), ("aa", 0.5), ("a", 0.0)])
def test_whether_the_chosen_answer_is_longer_is_counted_in_tokens(
    read: Read, chosen: str, share: float
) -> None:
    (found,), _ = read(DPO(), row(chosen=chosen, rejected="bb"))
    assert examples.chosen_longer(found) == share


def test_an_unpaired_example_has_no_longer_side(read: Read) -> None:
    (found,), _ = read(KTO(), row(answer="a"))
    assert examples.chosen_longer(found) is None


def unpaired(counts: dict[str, int]) -> list[Row]:
    """Rows with `counts[prompt]` different answers to each prompt."""
    return [
        {**row(answer=f"{prompt}{n}"), "messages": [{"role": "user", "content": prompt}]}
        for prompt, count in counts.items()
        for n in range(count)
    ]


def test_every_answer_is_once_under_another_prompt(read: Read) -> None:
    found, _ = read(KTO(), *unpaired({"a": 4, "b": 1, "c": 3, "d": 2}))
    for example in found:
        own, other = example.sequences["answer"], example.sequences[MISMATCHED]
        assert other.prompt == own.prompt
        theirs = next(e for e in found if e.sequences["answer"].response == other.response)
        assert theirs.sequences["answer"].prompt != own.prompt
    responses = Counter(e.sequences[MISMATCHED].response for e in found)
    assert responses == Counter(e.sequences["answer"].response for e in found)


def test_the_pairing_repeats_by_its_seed(read: Read) -> None:
    rows = unpaired(dict.fromkeys("abcdefgh", 2))
    assert read(KTO(), *rows, seed=3) == read(KTO(), *rows, seed=3)
    assert read(KTO(), *rows, seed=3) != read(KTO(), *rows, seed=4)


def test_a_prompt_with_most_answers_meets_some_of_its_own(read: Read) -> None:
    found, _ = read(KTO(), *unpaired({"a": 3, "b": 1}))
    assert len({e.sequences[MISMATCHED].response for e in found}) == 4
    (alone,), _ = read(KTO(), *unpaired({"a": 1}))
    assert alone.sequences[MISMATCHED] == alone.sequences["answer"]


def test_a_longer_mismatched_answer_cuts_the_prompt_on_the_left(read: Read) -> None:
    short = {**row(answer="x"), "messages": [{"role": "user", "content": "p" * 40}]}
    long = {**row(answer="y" * 30), "messages": [{"role": "user", "content": "q"}]}
    found, _ = read(KTO(), short, long, max_length=50)
    own, other = found[0].sequences["answer"], found[0].sequences[MISMATCHED]
    assert len(other) == 50
    assert own.prompt[-len(other.prompt) :] == other.prompt


def job(base: Path, start: Path | None = None, **settings: Any) -> jobs.TrainJob:
    """Two epochs of three steps that leave two weights each."""
    found = train_job(base, start, epochs=2, checkpoint_every=3, **settings)
    return dataclasses.replace(found, candidates=2)


def kept(result: Row) -> list[tuple[int, str]]:
    return [(one["step"], one["sha256"]) for one in result["candidates"]]


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_round_leaves_evenly_spaced_weights_to_choose_from(
    rundir: Rundir, tiny_base: Path, mode: Any
) -> None:
    folder = rundir(
        dataclasses.replace(job(tiny_base), weights=Weights(mode=mode)), examples=pairs()
    )
    found = do(train.work, folder)
    assert [one["step"] for one in found["candidates"]] == [1, 3, 4, 6]
    assert len({one["sha256"] for one in found["candidates"]}) == 4
    assert found["candidates"][-1]["weights"] == found["weights"]
    assert found["candidates"][-1]["sha256"] == found["sha256"]
    for one in found["candidates"]:
        path = folder / one["weights"]
        checkpoint.verify(path, one["sha256"])
        lora = ModelRef(base=str(tiny_base), adapter=str(path))
        model.load(lora if mode == "lora" else ModelRef(base=str(path)))


def test_a_candidate_is_the_policy_of_its_step(rundir: Rundir, tiny_base: Path) -> None:
    folder = rundir(job(tiny_base), examples=pairs())
    do(train.work, folder)
    state = load_file(folder / jobs.CHECKPOINTS / "step-00000003" / "state.safetensors")
    there = load_file(folder / jobs.CANDIDATES / "step-000003" / "adapter_model.safetensors")
    assert there
    for name, tensor in there.items():
        stem, _, kind = name.rpartition(".")
        assert torch.equal(tensor, state[f"weight.{stem}.default.{kind}"]), name


def test_with_no_candidates_asked_for_there_is_no_choice(rundir: Rundir, tiny_base: Path) -> None:
    folder = rundir(train_job(tiny_base), examples=pairs())
    found = do(train.work, folder)
    assert kept(found) == [(9, found["sha256"])]
    assert not (folder / jobs.CANDIDATES).exists()


def test_more_candidates_than_steps_are_every_step(rundir: Rundir, tiny_base: Path) -> None:
    many = dataclasses.replace(job(tiny_base), candidates=50)
    found = do(train.work, rundir(many, examples=pairs()))
    assert [one["step"] for one in found["candidates"]] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def fresh(rundir: Rundir, tiny_base: Path, tmp_path: Path) -> Callable[[str], Path]:
    rundir(job(tiny_base), "template", examples=pairs())
    return lambda name: Path(shutil.copytree(tmp_path / "template", tmp_path / name))


def test_killed_at_any_step_it_leaves_the_same_choice(fresh: Callable[[str], Path]) -> None:
    whole = kept(do(train.work, fresh("whole")))
    for step in range(1, 7):
        folder = fresh(f"step-{step}")
        assert kill_at_step(folder, step) == -signal.SIGKILL
        assert kept(do(train.work, folder)) == whole, f"killed at step {step}"


def test_killed_while_a_candidate_is_written_nothing_half_done_stays(
    fresh: Callable[[str], Path],
) -> None:
    whole = kept(do(train.work, fresh("whole")))
    folder = fresh("half")

    def crash() -> None:
        real = model.save

        def save(policy: model.Policy, to: Path, state: Any = None) -> None:
            real(policy, to, state)
            if to.parent.name == jobs.CANDIDATES and (folder / jobs.CHECKPOINTS).exists():
                die()

        model.save = save
        do(train.work, folder)

    assert forked(crash) == -signal.SIGKILL
    assert list((folder / jobs.CANDIDATES).glob(f"{checkpoint.STRAY}*"))
    assert kept(do(train.work, folder)) == whole
    assert sorted(path.name for path in (folder / jobs.CANDIDATES).iterdir()) == [
        "step-000001", "step-000003", "step-000004",
    ]  # fmt: skip


def test_a_candidate_that_the_disk_spoilt_is_no_choice(fresh: Callable[[str], Path]) -> None:
    whole = kept(do(train.work, fresh("whole")))
    folder = fresh("spoilt")
    kill_at_step(folder, 6)
    weights = folder / jobs.CANDIDATES / "step-000001" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x00")
    assert kept(do(train.work, folder)) == whole[1:]
    assert "candidate passed over" in (folder / jobs.EVENTS).read_text()


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_at_the_first_step_nothing_has_drifted_whatever_the_reference(
    rundir: Rundir, tiny_base: Path, other_base: Path, adapter: Path, mode: Any
) -> None:
    for name, start in (("cold", None), ("warm", adapter)):
        asked = dataclasses.replace(
            train_job(tiny_base, start, batch_size=12),
            references={"reference": ModelRef(base=str(other_base))},
            weights=Weights(mode=mode),
        )
        folder = rundir(asked, name, examples=pairs())
        found = do(train.work, folder)
        first, last = metrics(folder)[0], metrics(folder)[-1]
        assert first["drift/chosen"] == first["drift/rejected"] == 0
        assert last["drift/chosen"] > last["drift/rejected"]
        assert found["drift_chosen"] == last["drift/chosen"]
        assert found["drift_rejected"] == last["drift/rejected"]


def test_drift_is_how_far_log_probabilities_moved_since_the_start(
    rundir: Rundir, tiny_base: Path, adapter: Path
) -> None:
    with training(rundir, train_job(tiny_base, adapter), "run", pairs()) as round_:
        with torch.no_grad():
            before = round_.logps(range(12), ["chosen"])["chosen"]
            for p in round_.policy.parameters().values():
                p *= 1.5
            after = round_.logps(range(12), ["chosen"])["chosen"]
        moved, count = round_.share(range(12)).sums["drift/chosen"]
        assert count == 12
        assert abs(moved) > 0.1
        assert moved == pytest.approx((after - before).sum().item(), rel=1e-4)
