"""The sampling job: all draws of all prompts, once each, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import engine_api, jobs
from align.demo import prompts
from align.engine_api import EngineApi, EngineAway
from align.sample import PARTS, chunk_seed, in_flight
from tests.ports import free_port

Job = Callable[..., Path]


@pytest.fixture
def rundir(embedded: Any, tmp_path: Path) -> Job:
    """A run directory with `count` demo prompts; fields of the SampleJob by keyword."""

    def make(name: str = "run", count: int = 12, **fields: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = {"engine_url": embedded.url, "model": "demo-base", "n": 3, "chunk": 4}
        settings |= {"max_tokens": 48, "seed": 7, **fields}
        jobs.write_json(folder / jobs.JOB, jobs.to_json(jobs.SampleJob(**settings)))
        rows = [
            {"id": f"p{i}", "messages": [{"role": "user", "content": text}]}
            for i, text in enumerate(prompts.texts("train")[:count])
        ]
        jobs.write_rows(folder / jobs.PROMPTS, rows)
        return folder

    return make


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "align.sample", str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def run(folder: Path) -> tuple[int, str]:
    process = start(folder)
    _, stderr = process.communicate(timeout=200)
    return process.returncode, stderr


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(jobs.read_rows(folder / jobs.COMPLETIONS))


def finished_chunks(folder: Path) -> int:
    path = folder / PARTS
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for_chunks(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while finished_chunks(folder) < count:
        assert time.monotonic() < deadline, "no chunk was finished"
        time.sleep(0.005)


def test_every_prompt_gets_its_draws_in_order(rundir: Job) -> None:
    folder = rundir(count=10)
    assert run(folder) == (0, "")
    found = rows(folder)
    assert [(row["prompt"], row["draw"]) for row in found] == [
        (f"p{i}", k) for i in range(10) for k in range(3)
    ]
    assert all(row["token_ids"] and row["finish_reason"] in ("stop", "length") for row in found)
    assert len({row["text"] for row in found}) > 20
    result = json.loads((folder / jobs.RESULT).read_text())
    assert result["completions"] == 30
    assert result["tokens"] == sum(len(row["token_ids"]) for row in found)
    assert result["truncated"] == sum(row["finish_reason"] == "length" for row in found)
    events = [json.loads(line) for line in (folder / jobs.EVENTS).read_text().splitlines()]
    assert [event["done"] for event in events][-1] == 30
    assert events[-1]["total"] == 30


def test_completions_are_on_policy_for_the_trainer(rundir: Job, embedded: Any) -> None:
    """The text is what the token ids say, the end of turn aside."""
    from align import demo
    from align.gpu import model as models

    folder = rundir(count=4)
    run(folder)
    tokenizer = models.load_tokenizer(demo.BASE)
    for row in rows(folder):
        assert tokenizer.decode(row["token_ids"], skip_special_tokens=True) == row["text"]
        ended = row["token_ids"][-1] == tokenizer.eos_token_id
        assert ended == (row["finish_reason"] == "stop")


def test_the_same_job_gives_the_same_file_whatever_its_concurrency(rundir: Job) -> None:
    first, second, third = rundir("a"), rundir("b", concurrency=1), rundir("c", seed=8)
    for folder in (first, second, third):
        assert run(folder)[0] == 0
    one, two, other = (f.joinpath(jobs.COMPLETIONS).read_bytes() for f in (first, second, third))
    assert one == two
    assert one != other


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_killed_job_goes_on_where_it_was_and_ends_the_same(rundir: Job, chunk: int) -> None:
    whole, killed = (
        rundir(name, count=30 * chunk, chunk=chunk, concurrency=2) for name in ("whole", "killed")
    )
    assert run(whole)[0] == 0
    process = start(killed)
    wait_for_chunks(killed, 3)
    process.kill()
    process.communicate()
    done = finished_chunks(killed)
    assert 3 <= done < 30
    assert not (killed / jobs.COMPLETIONS).exists()
    with (killed / PARTS).open("a") as parts:  # the line it was writing when it died
        parts.write('[29, [{"prompt": "p116", "dr')
    assert run(killed)[0] == 0
    one, two = (folder.joinpath(jobs.COMPLETIONS).read_bytes() for folder in (whole, killed))
    assert one == two
    events = [json.loads(line) for line in (killed / jobs.EVENTS).read_text().splitlines()]
    assert sum(event["done"] == 0 for event in events) == 1  # the second attempt began higher


def test_a_job_that_died_before_its_result_only_writes_the_result(rundir: Job) -> None:
    folder = rundir(count=4)
    assert run(folder)[0] == 0
    before = (folder / jobs.COMPLETIONS).read_bytes()
    (folder / jobs.RESULT).unlink()
    assert run(folder)[0] == 0
    assert (folder / jobs.COMPLETIONS).read_bytes() == before
    assert json.loads((folder / jobs.RESULT).read_text())["completions"] == 12


def test_sigterm_stops_a_job_between_chunks(rundir: Job) -> None:
    folder = rundir(count=200, concurrency=1)
    process = start(folder)
    wait_for_chunks(folder, 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 75
    assert 1 <= finished_chunks(folder) < 50
    assert not (folder / jobs.RESULT).exists()


def test_a_job_waits_for_an_engine_that_is_still_starting(rundir: Job, serve: Any) -> None:
    port = free_port()
    folder = rundir(count=4, engine_url=f"http://127.0.0.1:{port}")
    process = start(folder)
    time.sleep(1.0)
    assert process.poll() is None
    engine = serve(port)
    try:
        process.communicate(timeout=200)
        assert process.returncode == 0
    finally:
        engine.kill()
        engine.wait()


def test_a_job_the_engine_refuses_ends_at_once_and_says_why(rundir: Job) -> None:
    status, stderr = run(rundir(count=2, top_p=0.0))
    assert status == 2
    assert "top_p" in stderr
    status, stderr = run(rundir("long", count=2, max_tokens=600))
    assert status == 2
    assert "context is 512" in stderr


def test_another_kind_of_job_is_refused(rundir: Job) -> None:
    folder = rundir()
    jobs.write_json(folder / jobs.JOB, jobs.to_json(jobs.ScoreJob()))
    status, stderr = run(folder)
    assert status == 2
    assert "not score jobs" in stderr


def test_too_long_a_prompt_loses_its_beginning(rundir: Job) -> None:
    folder = rundir(count=1)
    long = "panda " * 700 + "What does a panda eat?"
    jobs.write_rows(
        folder / jobs.PROMPTS, [{"id": "long", "messages": [{"role": "user", "content": long}]}]
    )
    assert run(folder)[0] == 0
    assert len(rows(folder)) == 3
    assert "cut to the last 464" in (folder / jobs.EVENTS).read_text()


def test_no_prompts_give_no_completions(rundir: Job) -> None:
    folder = rundir(count=0)
    assert run(folder)[0] == 0
    assert rows(folder) == []


@pytest.mark.parametrize(
    ("url", "model", "words"),
    [
        ("http://127.0.0.1:9", "demo-base", "ConnectError"),
        (None, "not-loaded-yet", "does not exist"),
    ],
)
def test_patience_with_an_absent_engine_or_model_ends(
    embedded: Any, url: str | None, model: str, words: str
) -> None:
    import asyncio

    async def ask() -> None:
        async with EngineApi(url or embedded.url, model, patience=0.4) as engine:
            await engine.complete([[5, 6]], {"max_tokens": 1})

    with pytest.raises(EngineAway, match=words):
        asyncio.run(ask())


def test_patience_with_an_engine_that_sleeps_does_not_end(
    embedded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it has lent its memory, and however often a request is given up meanwhile."""
    import asyncio

    monkeypatch.setattr(engine_api, "ANSWER_TIME", 1.0)

    async def ask() -> list[dict[str, Any]]:
        async with EngineApi(embedded.url, "demo-base", patience=2) as engine:
            asked = asyncio.create_task(engine.complete([[5, 6]], {"max_tokens": 1}))
            await asyncio.sleep(4)
            assert not asked.done()
            await asyncio.to_thread(embedded.post, "/wake_up")
            return await asked

    assert embedded.post("/sleep").is_success
    try:
        assert len(asyncio.run(ask())) == 1
    finally:
        assert embedded.post("/wake_up").is_success


def test_all_draws_are_in_flight_as_far_as_the_engine_has_room() -> None:
    spec = {"engine_url": "", "model": "", "chunk": 1}
    assert in_flight(jobs.SampleJob(n=4, **spec)) == 64
    assert in_flight(jobs.SampleJob(n=1, **spec)) == 64
    assert in_flight(jobs.SampleJob(n=8, **spec)) == 32
    assert in_flight(jobs.SampleJob(n=1000, **spec)) == 1


def test_every_chunk_has_a_seed_of_its_own() -> None:
    seeds = {chunk_seed(seed, chunk) for seed in range(50) for chunk in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**62 for seed in seeds)


@pytest.fixture
def serve() -> Any:
    from align import demo

    def start(port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "align.gpu.serve", "--model", str(demo.BASE)]
        command += ["--served-model-name", "demo-base", "--port", str(port)]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    return start
