"""`python -m align.writer RUNDIR`: ask a model, or the seeded writer, for reward programs.

Each call's reply is kept as soon as it is there, so a job that is killed and resumed pays for no
call twice and ends with the same programs. A reply without a program is a reply like any other: its
problem stands beside it. Nothing that was written is run here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from align import askers, chat, jobs, run, seeded_writer
from align.icpl import replies
from align.judge_jobs import CALLS, WRITTEN, CallRow, WriteJob, WrittenRow
from align.kept import Kept
from align.manners import Manners
from align.programs import RewardProgram, from_json, to_json
from align.rows import Message

PARTS = "written.partial.jsonl"


def work(attempt: run.Run) -> dict[str, Any]:
    """Raises ValueError where no call at all was answered, with the first reason."""
    job = attempt.job
    if not isinstance(job, WriteJob):
        raise ValueError(f"align.writer does write jobs, not {job.kind} jobs")
    calls: list[Any] = list(jobs.read_rows(attempt.folder / CALLS))
    manners = Manners()
    with Kept(attempt.folder / PARTS) as kept:
        missing = [call for call in calls if call["id"] not in kept.rows]

        def keep(row: WrittenRow) -> None:
            kept.add({"key": row["id"], **row})
            attempt.progress(len(kept.rows), len(calls), "replies")

        if job.asked is None:
            for call in missing:
                attempt.check()
                keep(seeded(call, job.rubric))
        else:
            manners = asyncio.run(_ask(attempt, job, missing, keep))
    rows = [kept.rows[call["id"]] for call in calls]
    if rows and all(row["error"] for row in rows):
        raise ValueError(f"The writer answered no call. {rows[0]['error']}")
    jobs.write_rows(attempt.folder / WRITTEN, rows)
    kept.path.unlink(missing_ok=True)
    return {
        "replies": len(rows),
        "programs": sum(row["program"] is not None for row in rows),
        "tokens_in": sum(row["tokens_in"] for row in rows),
        "tokens_out": sum(row["tokens_out"] for row in rows),
        **manners.told(),
    }


def seeded(call: CallRow, rubric: bool) -> WrittenRow:
    """The seeded writer's reply to a call, told as a model's would be."""
    good = [from_json(one) for one in call["good"]]
    if call["wants"] == "sentence":
        text = seeded_writer.describe(good[0], good[1])
        return _row(call, text, None, "")
    bad = from_json(call["bad"]) if call["bad"] else None
    first = good[0] if good else None
    program = seeded_writer.write(call["seed"], call["emphasis"], first, bad, rubric=rubric)
    return _row(call, seeded_writer.reply(program), program, "")


def read(call: CallRow, reply: str) -> WrittenRow:
    """What a model's reply holds. Signs that no database keeps as text are replaced."""
    reply = reply.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if call["wants"] == "sentence":
        return _row(call, replies.sentence(reply), None, "")
    try:
        return _row(call, reply, replies.program(reply), "")
    except (ValueError, TypeError) as error:
        return _row(call, reply, None, str(error))


def merged(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role as one message: many chat templates refuse two in a row."""
    found: list[Message] = []
    for one in messages:
        if found and found[-1]["role"] == one["role"]:
            content = f"{found[-1]['content']}\n\n{one['content']}"
            found[-1] = {"role": one["role"], "content": content}
        else:
            found.append({"role": one["role"], "content": one["content"]})
    return found


async def _ask(
    attempt: run.Run,
    job: WriteJob,
    calls: Sequence[CallRow],
    keep: Callable[[WrittenRow], None],
) -> Manners:
    """How the endpoint wanted to be asked."""
    assert job.asked is not None
    async with chat.connect(job.asked) as endpoint:

        async def some(turns: Iterator[CallRow]) -> None:
            for call in turns:
                keep(await _one(endpoint, job, call))

        await askers.share(attempt, calls, job.asked.concurrency, some)
        return endpoint.manners


async def _one(endpoint: chat.Chat, job: WriteJob, call: CallRow) -> WrittenRow:
    """One call's reply. What the endpoint will not do is that call's trouble alone."""
    try:
        reply = await endpoint.ask(
            merged(call["messages"]),
            temperature=job.temperature if call["wants"] == "program" else 0.0,
            max_tokens=job.max_tokens,
            seed=call["seed"],
        )
    except chat.Refused as refused:
        return {**_row(call, "", None, ""), "error": str(refused)}
    except chat.OverBudget as over:
        return {**_row(call, "", None, ""), "error": f"Not asked: {over}."}
    row = read(call, reply.text)
    if reply.finish_reason == "length" and row["problem"]:
        row["problem"] = f"The reply was cut off at {job.max_tokens} tokens. {row['problem']}"
    return {**row, "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}


def _row(call: CallRow, reply: str, program: RewardProgram | None, problem: str) -> WrittenRow:
    return {
        "id": call["id"],
        "reply": reply,
        "program": to_json(program) if program else None,
        "problem": problem,
        "tokens_in": 0,
        "tokens_out": 0,
        "error": "",
    }


if __name__ == "__main__":
    run.main(work)
