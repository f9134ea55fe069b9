"""Scores: rewards and log-probabilities, the same however often the job was interrupted."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align import jobs
from align.gpu import checkpoint, data, model, reward, score
from align.gpu.known import Known, digest
from align.gpu.logps import sequence_logps
from align.gpu.panel import Marks
from align.gpu.score import work
from align.jobs import ModelRef, Optimiser, RewardJob, ScoreJob, Weights
from tests.align.conftest import do, forked, response
from tests.align.test_reward import comparisons

Rundir = Callable[..., Path]
ASK = [{"role": "user", "content": "well?"}]


@pytest.fixture(scope="session")
def reward_model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    job = RewardJob(
        base=ModelRef(base=str(tiny_base)),
        weights=Weights(rank=4),
        optimiser=Optimiser(learning_rate=1e-2, epochs=3, batch_size=8, micro_batch_size=8),
    )
    jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
    jobs.write_rows(folder / jobs.COMPARISONS, comparisons(24))
    do(reward.work, folder)
    return folder / jobs.WEIGHTS


def items(count: int = 11) -> list[dict[str, Any]]:
    return [
        {"id": f"item-{n}", "messages": ASK, "response": response("good"[: n % 4] + "x" * n)}
        for n in range(count)
    ]


@pytest.fixture
def job(tiny_base: Path, adapter: Path, reward_model: Path) -> ScoreJob:
    base = ModelRef(base=str(tiny_base))
    return ScoreJob(
        reward_model=str(reward_model),
        policies={"initial": base, "policy": dataclasses.replace(base, adapter=str(adapter))},
        batch_size=3,
    )


def scores(folder: Path) -> list[dict[str, Any]]:
    return list(jobs.read_rows(folder / jobs.SCORES))


def test_every_item_gets_its_reward_and_its_log_probabilities(
    rundir: Rundir, job: ScoreJob
) -> None:
    folder = rundir(job, items=items())
    found = do(work, folder)
    assert (found["scored"], found["skipped"]) == (11, 0)
    rows = scores(folder)
    assert [row["id"] for row in rows] == [row["id"] for row in items()]
    policy = model.load(job.policies["policy"])
    encoder = data.Encoder(policy.tokenizer)
    for row, item in zip(rows, items(), strict=True):
        alone = encoder.example(ASK, [item["response"]], 1024)
        assert alone is not None
        with torch.no_grad():
            value = sequence_logps(policy, alone).item()
        assert row["logps"]["policy"] == pytest.approx(value, rel=1e-4)
        assert row["logps"]["initial"] != row["logps"]["policy"]
        assert row["tokens"] == len(alone[0].response)
        assert isinstance(row["reward"], float)


def test_without_a_reward_model_there_is_no_reward(rundir: Rundir, job: ScoreJob) -> None:
    folder = rundir(dataclasses.replace(job, reward_model=None), items=items(2))
    do(work, folder)
    assert [row["reward"] for row in scores(folder)] == [None, None]


def test_an_answer_that_does_not_fit_gets_no_score(rundir: Rundir, job: ScoreJob) -> None:
    long = {"id": "long", "messages": ASK, "response": response("x" * 500)}
    folder = rundir(dataclasses.replace(job, max_length=100), items=[*items(2), long])
    found = do(work, folder)
    assert (found["scored"], found["skipped"]) == (2, 1)
    assert scores(folder)[-1] == {
        "id": "long",
        "reward": None,
        "members": [],
        "spread": None,
        "logps": {},
        "token_logps": {},
        "tokens": 0,
    }


def test_killed_between_batches_it_goes_on_where_it_was(
    rundir: Rundir, job: ScoreJob, tmp_path: Path
) -> None:
    folder = rundir(job, "template", items=items())
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    do(work, whole)
    for batches in (1, 4, 7):
        folder = Path(shutil.copytree(tmp_path / "template", tmp_path / f"after-{batches}"))

        def crash(folder: Path = folder, batches: int = batches) -> None:
            real, seen = score.Sheet.add, [0]

            def add(self: score.Sheet, scorer: str, values: dict[str, float]) -> None:
                real(self, scorer, values)
                seen[0] += 1
                if seen[0] == batches:
                    with self.path.open("a") as torn:
                        torn.write('{"scorer": "rew')
                    signal.raise_signal(signal.SIGKILL)

            score.Sheet.add = add  # type: ignore[method-assign,assignment]
            do(work, folder)

        assert forked(crash) == -signal.SIGKILL
        assert not (folder / jobs.SCORES).exists()
        before = len((folder / score.PROGRESS).read_text().splitlines()) - 1
        do(work, folder)
        lines = (folder / score.PROGRESS).read_text().splitlines()
        assert len(lines) == 3 * 11, "nothing is scored twice"
        assert before < len(lines)
        assert scores(folder) == scores(whole)


def test_a_spoilt_reward_model_is_refused(
    rundir: Rundir,
    job: ScoreJob,
    reward_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Path(shutil.copytree(reward_model, tmp_path / "copy"))
    head = bytearray((copy / reward.HEAD).read_bytes())
    head[-3] ^= 4
    (copy / reward.HEAD).write_bytes(head)
    with pytest.raises(SystemExit) as stop:
        do(work, rundir(dataclasses.replace(job, reward_model=str(copy)), items=items()))
    assert stop.value.code == 2
    assert reward.HEAD in capsys.readouterr().err


def test_two_rows_with_one_id_are_refused(
    rundir: Rundir, job: ScoreJob, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        do(work, rundir(job, items=[*items(2), *items(1)]))
    assert "two rows with the id 'item-0'" in capsys.readouterr().err


def test_copies_of_an_answer_are_scored_once(rundir: Rundir, job: ScoreJob) -> None:
    twice = [*items(4), {**items(4)[2], "id": "again"}]
    folder = rundir(job, items=twice)
    do(work, folder)
    assert len((folder / score.PROGRESS).read_text().splitlines()) == 3 * 4
    *_, third, _, again = scores(folder)
    assert {**again, "id": third["id"]} == third


def test_an_answer_is_never_scored_twice_by_the_same_model(
    rundir: Rundir,
    job: ScoreJob,
    reward_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cached = dataclasses.replace(job, policies={}, cache=str(tmp_path / "cache"))
    first = rundir(cached, "first", items=items(6))
    do(work, first)
    seen: list[int] = []
    real = reward.RewardModel.marks

    def counted(self: reward.RewardModel, rows: list[data.Exchange]) -> Marks:
        seen.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(reward.RewardModel, "marks", counted)
    second = rundir(cached, "second", items=items(9))
    do(work, second)
    assert sum(seen) == 3, "six of nine were known"
    assert scores(second)[:6] == scores(first)
    other = Path(shutil.copytree(reward_model, tmp_path / "other"))
    manifest = checkpoint.verify(other)
    (other / checkpoint.MANIFEST).unlink()
    checkpoint.commit(
        tmp_path / "renamed",
        lambda folder: [shutil.copy(other / name, folder / name) for name in manifest.files],
        {**manifest.metadata, "note": "another model"},
    )
    renamed = dataclasses.replace(cached, reward_model=str(tmp_path / "renamed"))
    do(work, rundir(renamed, "third", items=items(6)))
    assert sum(seen) == 3 + 6, "another model knows nothing of it"


def test_what_the_cache_learns_meanwhile_changes_no_batch_of_an_interrupted_job(
    rundir: Rundir, job: ScoreJob, tmp_path: Path
) -> None:
    cached = dataclasses.replace(job, policies={}, cache=str(tmp_path / "cache"))
    do(work, rundir(cached, "earlier", items=items(2)))
    folder = rundir(cached, "template", items=items())
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    alone = dataclasses.replace(cached, cache=str(tmp_path / "copy"))
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    jobs.write_json(whole / jobs.JOB, jobs.to_json(alone))
    do(work, whole)

    def crash() -> None:
        real, seen = score.Sheet.add, [0]

        def add(self: score.Sheet, scorer: str, values: dict[str, score.Score]) -> None:
            real(self, scorer, values)
            seen[0] += 1
            if seen[0] == 3:  # the recalled ones, then two batches
                signal.raise_signal(signal.SIGKILL)

        score.Sheet.add = add  # type: ignore[method-assign]
        do(work, folder)

    assert forked(crash) == -signal.SIGKILL
    do(work, rundir(cached, "meanwhile", items=items()))
    do(work, folder)
    assert scores(folder) == scores(whole)


def test_a_torn_line_of_the_cache_is_passed_over(tmp_path: Path) -> None:
    one, two = data.Exchange((1, 2), (3,)), data.Exchange((1,), (2, 3))
    known = Known(tmp_path, "model")
    known.add([(one, {"value": 1.5, "tokens": []})])
    with known.path.open("a") as torn:
        torn.write(digest(two) + ' {"value": 2')
    assert known.find({"a": one, "b": two}) == {"a": {"value": 1.5, "tokens": []}}
    known.add([(two, {"value": 3.0, "tokens": []})])
    assert known.find({"b": two, "c": two}) == dict.fromkeys("bc", {"value": 3.0, "tokens": []})
