"""Judges on real engines: the embedded one by its letters' chances, vLLM held to a schema."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import jobs, judging
from align.chat import Chat, Reply
from align.judge_jobs import PAIRS, VERDICTS, Asked, JudgeJob
from align.rows import Message

Job = Callable[..., dict[str, Any]]


@pytest.fixture
def judge(tmp_path: Path) -> Job:
    """Run a judging job on an engine and return its verdict, with its result as `told`."""

    def run(engine: Any, **fields: Any) -> dict[str, Any]:
        asked = Asked(url=f"{engine.url}/v1", model="demo-base", own=True)
        # Short, because the demo's context is.
        settings = {"system": "Judge.", "question": "{first}\n{second}\n{reply}", **fields}
        job = JudgeJob(asked=asked, least_mass=0.0, **settings)
        jobs.write_json(tmp_path / jobs.JOB, jobs.to_json(job))
        message = [{"role": "user", "content": "What does a panda eat?"}]
        pair = {"id": "p", "messages": message, "first": "Bamboo.", "second": "Fish and meat."}
        jobs.write_rows(tmp_path / PAIRS, [pair])
        command = [sys.executable, "-m", "align.judge", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        (row,) = jobs.read_rows(tmp_path / VERDICTS)
        return {**row, "told": next(jobs.read_rows(tmp_path / jobs.RESULT))}

    return run


def check(row: dict[str, Any], mode: str) -> None:
    assert {one["mode"] for one in row["detail"]["orders"]} == {mode}
    assert row["error"] == ""
    assert all(0 <= row[order] <= 1 for order in ("q_first", "q_second"))
    assert row["told"]["tokens_in"] > 20


def test_the_embedded_engine_gives_the_chances_of_letters(embedded, judge):
    row = judge(embedded, mode="auto")
    check(row, "tokens")
    assert row["told"]["tokens_out"] == 2


@pytest.mark.vllm
def test_vllm_gives_the_chances_of_letters(vllm, judge):
    check(judge(vllm, mode="auto"), "tokens")


@pytest.mark.vllm
def test_vllm_holds_a_reply_to_a_schema(vllm):
    """The tiny base could not write a verdict by itself. It may put spaces where JSON allows them
    until its tokens end, so what is looked at is how its reply begins."""
    levels = list(judging.Names("A", "B", "C").levels(0.75, 0.95))
    verdict = {"type": "string", "enum": levels}
    shape = {"type": "object", "properties": {"verdict": verdict}, "required": ["verdict"]}
    shape["additionalProperties"] = False

    async def ask() -> Reply:
        async with Chat(f"{vllm.url}/v1", "demo-base", own=True) as chat:
            message: Message = {"role": "user", "content": "Which is better?"}
            return await chat.ask([message], schema=shape, max_tokens=64)

    reply = asyncio.run(ask())
    begun = "".join(reply.text.split())
    assert any(f'{{"verdict":"{one}"}}'.startswith(begun) for one in levels), reply.text
    assert reply.tokens_in > 0
    assert reply.tokens_out > 0


@pytest.mark.vllm
def test_vllm_takes_the_schema_of_a_verdict(vllm, judge):
    """Whether its analysis ends in time or not, the request is one that it takes."""
    row = judge(vllm, mode="schema", max_tokens=48)
    cut = "The judge's reply, asked for twice, was cut at its token limit without a verdict."
    assert row["error"] in ("", cut)
