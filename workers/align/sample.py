"""Draw completions from an engine: `python -m align.sample RUNDIR`.

Reads job.json (a SampleJob) and prompts.jsonl, asks in fixed chunks with seeds of their own, and
keeps each finished chunk on disk at once, so a killed job goes on where it was. completions.jsonl
appears whole, in the order of the prompts. Speaks HTTP only; loads no model.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from align import failpoints, jobs, run
from align.engine_api import EngineApi
from align.jobs import CompletionRow, PromptRow, SampleJob

PARTS = "completions.parts.jsonl"  # one line a finished chunk: [chunk, rows]
IN_FLIGHT = 256  # draws asked for at a time: what keeps an engine busy and leaves clients room
WAKE = 0.2  # seconds between looks at whether the job was told to stop


def work(attempt: run.Run) -> dict[str, Any]:
    """Sample all that is still missing.

    Raises ValueError for a job that cannot work, EngineAway when the engine stays away.
    """
    job = attempt.job
    if not isinstance(job, SampleJob):
        raise ValueError(f"align.sample does sample jobs, not {job.kind} jobs")
    started = time.monotonic()
    prompts = _prompts(attempt.folder / jobs.PROMPTS)
    parts = Parts(attempt.folder / PARTS)
    if not (attempt.folder / jobs.COMPLETIONS).is_file():
        with parts:
            asyncio.run(Sampler(attempt, job, prompts, parts).run())
        rows = [row for _, chunk in sorted(parts.done.items()) for row in chunk]
        jobs.write_rows(attempt.folder / jobs.COMPLETIONS, rows)
    parts.path.unlink(missing_ok=True)
    return _result(attempt.folder / jobs.COMPLETIONS, time.monotonic() - started)


class Parts:
    """The chunks finished so far, durable one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[int, list[CompletionRow]] = {}
        self._out: TextIO | None = None

    def __enter__(self) -> None:
        """Read what an earlier attempt left; a line that was being written when it died goes."""
        good = 0
        if self.path.is_file():
            for line in self.path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                chunk, rows = json.loads(line)
                self.done[chunk] = rows
                good += len(line)
        self._out = self.path.open("a", encoding="utf-8")
        self._out.truncate(good)

    def __exit__(self, *error: object) -> None:
        assert self._out is not None
        self._out.close()

    def add(self, chunk: int, rows: list[CompletionRow]) -> None:
        assert self._out is not None
        self._out.write(json.dumps([chunk, rows], ensure_ascii=False) + "\n")
        self._out.flush()
        os.fsync(self._out.fileno())
        failpoints.reach("sample.part")
        self.done[chunk] = rows


class Sampler:
    """Sends the missing chunks, a few at a time."""

    def __init__(
        self, attempt: run.Run, job: SampleJob, prompts: list[PromptRow], parts: Parts
    ) -> None:
        self._attempt = attempt
        self._job = job
        self._parts = parts
        self._total = len(prompts) * job.n
        self._chunks = [prompts[i : i + job.chunk] for i in range(0, len(prompts), job.chunk)]

    async def run(self) -> None:
        missing = [i for i in range(len(self._chunks)) if i not in self._parts.done]
        self._progress()
        async with EngineApi(self._job.engine_url, self._job.model) as engine:
            turns = iter(missing)  # shared: each sender takes the next chunk
            senders = [
                asyncio.create_task(self._send(engine, turns))
                for _ in range(min(in_flight(self._job), len(missing)))
            ]
            try:
                await self._watch(senders)
            finally:
                for sender in senders:
                    sender.cancel()
                await asyncio.gather(*senders, return_exceptions=True)

    async def _watch(self, senders: Sequence[asyncio.Task[None]]) -> None:
        """Until all are done, one fails, or the job is told to stop."""
        pending = set(senders)
        while pending:
            self._attempt.check()
            done, pending = await asyncio.wait(
                pending, timeout=WAKE, return_when=asyncio.FIRST_COMPLETED
            )
            for sender in done:
                sender.result()

    async def _send(self, engine: EngineApi, turns: Any) -> None:
        for chunk in turns:
            self._parts.add(chunk, await self._draw(engine, chunk))
            self._progress()

    async def _draw(self, engine: EngineApi, chunk: int) -> list[CompletionRow]:
        job = self._job
        rows = self._chunks[chunk]
        prompts = await asyncio.gather(*(self._tokens(engine, row) for row in rows))
        choices = await engine.complete(
            prompts,
            {
                "n": job.n,
                "temperature": job.temperature,
                "top_p": job.top_p,
                # Said outright, or vLLM takes what the model's generation_config suggests.
                "top_k": 0,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "max_tokens": job.max_tokens,
                "seed": chunk_seed(job.seed, chunk),
            },
        )
        if len(choices) != len(rows) * job.n:
            raise ValueError(f"asked for {len(rows) * job.n} answers, got {len(choices)}")
        return [
            CompletionRow(
                prompt=rows[i // job.n]["id"],
                draw=i % job.n,
                text=choice["text"],
                token_ids=choice["token_ids"],
                finish_reason=choice["finish_reason"],
            )
            for i, choice in enumerate(choices)
        ]

    async def _tokens(self, engine: EngineApi, row: PromptRow) -> list[int]:
        """The prompt's token ids; too long a prompt loses its beginning, as it does in training."""
        tokens, context = await engine.tokenize(row["messages"])
        room = context - self._job.max_tokens
        if room < 1:
            raise ValueError(
                f"max_tokens is {self._job.max_tokens}, but the engine's context is {context}"
            )
        if len(tokens) > room:
            self._attempt.log(f"prompt {row['id']}: {len(tokens)} tokens cut to the last {room}")
        return tokens[-room:]

    def _progress(self) -> None:
        done = sum(len(rows) for rows in self._parts.done.values())
        self._attempt.progress(done, self._total, "completions")


def in_flight(job: SampleJob) -> int:
    """How many requests are sent at a time."""
    return max(1, min(job.concurrency, IN_FLIGHT // (job.n * job.chunk)))


def chunk_seed(seed: int, chunk: int) -> int:
    """A seed for each chunk, unlike those of its neighbours and of nearby job seeds."""
    digest = hashlib.sha256(f"{seed}:{chunk}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _prompts(path: Path) -> list[PromptRow]:
    rows = [PromptRow(id=row["id"], messages=row["messages"]) for row in jobs.read_rows(path)]
    if len({row["id"] for row in rows}) != len(rows):
        raise ValueError("two prompts have the same id")
    return rows


def _result(path: Path, seconds: float) -> dict[str, Any]:
    rows = list(jobs.read_rows(path))
    return {
        "completions": len(rows),
        "tokens": sum(len(row["token_ids"]) for row in rows),
        "truncated": sum(row["finish_reason"] == "length" for row in rows),
        "seconds": round(seconds, 3),
    }


if __name__ == "__main__":
    run.main(work)
