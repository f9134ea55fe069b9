"""The speed benches' plumbing on a toy model: the same work for both sides, and honest arithmetic.

Nothing here says how fast anything is.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from align import jobs  # noqa: E402
from align.gpu import data  # noqa: E402
from align.gpu.model import load_tokenizer  # noqa: E402
from tests.bench import memory, reward, round, train  # noqa: E402
from tests.bench.speed import (  # noqa: E402
    cases,
    comparisons,
    contest,
    equality,
    ours,
    rounds,
    shapes,
    trl_side,
)
from tests.bench.speed.cases import Bench, Case  # noqa: E402
from tests.bench.speed.clock import Clock, Moment  # noqa: E402
from tests.bench.speed.comparisons import Lengths  # noqa: E402
from tests.bench.speed.work import Work  # noqa: E402

SHORT = Lengths(prompt=(8, 16), answer=(4, 12), median=7)
TOY = shapes.SHAPES["toy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speed")


def toy(folder: Path, **fields: Any) -> Work:
    return Work(
        **{
            "base": str(shapes.build(TOY, folder)),
            "vocabulary": TOY.vocabulary,
            "steps": 3,
            "batch": 2,
            "at_once": 2,
            "lengths": SHORT,
            **fields,
        }
    )


def options(work: Work, scratch: Path, **more: Any) -> dict[str, Any]:
    """As a child gets them: by way of JSON."""
    found: dict[str, Any] = json.loads(
        json.dumps({**work.options(), "scratch": str(scratch), **more})
    )
    return found


def report(seconds: list[float], first: float = 0.0) -> dict[str, Any]:
    """A side's report with these seconds a step, 100 tokens each."""
    count = len(seconds) + 1
    spans = {"cpu": seconds, "wall": [2 * s for s in seconds]}
    whole = first + sum(seconds)
    return {
        "tokens": 100 * count,
        "tokens_per_step": 100,
        "steps": spans,
        "whole": {"cpu": whole, "wall": 2 * whole},
        "first": {"rewards/margins": 0.0, "rewards/accuracies": 0.0},
        "rss_gib": 1.0,
    }


def test_lengths_are_those_of_published_preferences() -> None:
    found = comparisons.questions(400, 2_048)
    prompts = [len(q.prompt) + shapes.AROUND for q in found]
    answers = [len(answer) + 1 for q in found for answer in q.answers]
    assert min(prompts) >= 128
    assert max(prompts) <= 256
    assert sum(prompts) / len(prompts) == pytest.approx(192, abs=6)
    assert (min(answers), max(answers)) == (64, 256)
    assert sum(answers) / len(answers) == pytest.approx(140, abs=6)


def test_useful_tokens_count_every_pair_with_its_prompt_twice() -> None:
    question = comparisons.Question("0", [9] * 6, [[9] * 3, [9] * 4, [9] * 5])
    # Prompt 6 + 4 around it; answers 4, 5 and 6 with their ends, in pairs 4+5, 4+6, 5+6.
    assert question.useful() == 3 * 2 * 10 + 9 + 10 + 11


def test_both_sides_read_the_same_tokens(folder: Path) -> None:
    work = toy(folder, answers=4, batch=6)
    words = load_tokenizer(Path(work.base))
    encoder = data.Encoder(words)
    mine: list[Any] = list(comparisons.examples(work.questions))
    theirs = list(comparisons.texts(work.questions))
    total = 0
    for row, pair in zip(mine, theirs, strict=True):
        for side in ("chosen", "rejected"):
            found = encoder.example(row["messages"], [row["responses"][side]], 512)
            assert found is not None
            (exchange,) = found
            whole = words.apply_chat_template(pair["prompt"] + pair[side], tokenize=False)
            ids = words(whole, add_special_tokens=False)["input_ids"]
            assert [*exchange.prompt, *exchange.response] == ids
            total += len(exchange)
    assert total == work.tokens


def test_a_side_is_timed_step_by_step_and_saves(folder: Path, tmp_path: Path) -> None:
    work = toy(folder)
    mine = ours.train(options(work, tmp_path / "a"))
    peer = trl_side.train(options(work, tmp_path / "b", settings="tuned"))
    for found, weights in (
        (mine, tmp_path / "a/run" / jobs.WEIGHTS),
        (peer, tmp_path / "b/weights"),
    ):
        assert found["tokens"] == work.tokens
        assert len(found["steps"]["cpu"]) == work.steps - 1
        assert all(span > 0 for span in found["steps"]["wall"])
        assert sum(found["steps"]["wall"]) < found["whole"]["wall"]
        assert (weights / "model.safetensors").is_file()
    assert cases.start_margin([mine]) == 0


def test_a_reward_model_is_timed_on_both_sides(folder: Path, tmp_path: Path) -> None:
    work = toy(folder, answers=3, batch=3, at_once=1, mode="lora")
    mine = ours.reward(options(work, tmp_path / "a"))
    peer = trl_side.reward(options(work, tmp_path / "b", settings="tuned"))
    assert len(mine["steps"]["cpu"]) == len(peer["steps"]["cpu"]) == work.steps - 1
    assert mine["tokens"] == peer["tokens"]
    assert cases.start_margin([mine]) is None


@pytest.mark.parametrize("compare", [equality.train, equality.reward])
def test_at_equal_weights_losses_and_gradients_are_equal(
    compare: Any, folder: Path, tmp_path: Path
) -> None:
    found = compare(options(toy(folder, steps=2), tmp_path))
    assert found["batches"] == 2
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-4  # a toy's gradients nearly cancel
    if compare is equality.train:
        assert found["ours_from_fp64"]["loss"] < 1e-5
        assert found["trl_from_fp64"]["gradient"] < 1e-4


def test_a_round_is_made_by_all_sides(folder: Path, tmp_path: Path) -> None:
    shape = TOY.ending_early(32)
    work = toy(folder, base=str(shapes.build(shape, folder)), steps=2)
    asked = {"draws": 4, "max_tokens": 8, "vllm": None, "settings": "tuned"}
    for name in ("product", "trl_online", "transformers_then_dpo"):
        scratch = tmp_path / name
        scratch.mkdir()
        found = getattr(rounds, name)(options(work, scratch, **asked))
        assert 4 * 4 <= found["tokens"] <= 4 * 4 * 8, name
        assert 0 < found["stages"]["sample"]["wall"] < found["whole"]["wall"], name


def test_consecutive_draws_are_compared() -> None:
    assert rounds.judged([0.5, 0.2, 0.1, 0.9]) == [(0, 1), (3, 2)]
    assert rounds.score("w13 w2 w7") == pytest.approx(2 / 3)


def test_the_clock_leaves_the_first_step_out_of_the_pace() -> None:
    clock = Clock(begun=Moment(1, 2), steps=[Moment(3, 4), Moment(4, 6), Moment(6, 9)])
    found = clock.report(300)
    assert found["steps"] == {"cpu": [1, 2], "wall": [2, 3]}
    assert found["whole"] == {"cpu": 5, "wall": 7}
    assert contest.pace(found, "cpu") == pytest.approx(200 / 3)
    assert contest.whole_pace(found, "cpu") == 60


def test_a_ratio_is_of_medians_with_the_range_of_rounds() -> None:
    mine = [report([1.0]), report([2.0]), report([1.0])]
    theirs = [report([3.0]), report([3.0]), report([2.0])]
    assert contest.ratios(mine, theirs)["cpu"] == {"median": 3.0, "low": 1.5, "high": 3.0}


def test_a_margin_at_the_start_shows() -> None:
    off = report([1.0])
    off["first"]["rewards/accuracies"] = 0.5  # some above 0, as many below
    assert cases.start_margin([report([1.0]), off]) == 0.5


def test_sides_take_turns_and_leave_a_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns: list[tuple[str, int]] = []

    def run(side: contest.Side, threads: int) -> contest.Report:
        turns.append((side.name, side.options["seed"]))
        return {}

    monkeypatch.setattr(contest, "run", run)
    contest.measure([contest.Side("a", ""), contest.Side("b", "")], 2, 1, tmp_path / "log")
    assert turns == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    logged = [json.loads(line)["side"] for line in (tmp_path / "log").read_text().splitlines()]
    assert logged == ["a", "b", "a", "b"]


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="(?s)nobody ended with 1.*missing.*'base'"):
        contest.run(contest.Side("nobody", "ours:train"), 1)


def test_the_result_is_one_json_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contest, "run", lambda side, threads: report([1.0, 2.0]))
    monkeypatch.setattr(cases, "equality", lambda call, work: {"loss": 0.0})
    case = Case("toy", "full", 4, 2, 2, {"tuned": 0.5, "defaults": 2.0})
    bench = Bench("train", {"toy": case}, usual=("toy",), quick=("toy",))
    cases.main(bench, "", ["--quick", "--folder", str(folder)])
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == 1
    assert found["met"]
    assert found["cases"][0]["met"] == {"tuned": True, "defaults": False}


def test_every_bench_knows_its_cases() -> None:
    for bench in (train.BENCH, reward.BENCH):
        assert {*bench.usual, *bench.quick} <= bench.cases.keys()
        assert bench.quick[0] == bench.usual[0]
        assert all(case.shape in shapes.SHAPES for case in bench.cases.values())
    assert next(iter(memory.POINTS)) == next(iter(memory.QUICK)) == "m125-full"
    assert round.PROMPTS % round.BATCH == 0


def test_a_point_of_memory_has_both_sides_peaks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter([1.0, 4.0])
    monkeypatch.setattr(contest, "run", lambda side, threads: {"rss_gib": next(peaks)})
    found = memory.measure(memory.Point("toy", length=20), "toy", folder, 1, 1)
    assert found["share"] == 0.25
    assert found["of"] == "rss_gib"


def test_rounds_asked_for_are_rounds_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "run", lambda side, threads: report([1.0]))
    case = Case("toy", "full", 2, 2, 2, {"tuned": 1.0})
    bench = Bench("train", {"toy": case}, usual=("toy",), quick=("toy",))
    for asked, made in ((3, 3), (None, 2)):
        space = Namespace(rounds=asked, quick=True, folder=folder, threads=1)
        assert cases.contend(bench, "toy", case, space)["rounds"] == made
