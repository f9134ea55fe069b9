"""Ask a language model questions and what follows on its answers: `python -m align.ask RUNDIR`.

Reads job.json (an AskJob) and questions.jsonl, and keeps each finished row on disk at once, so a
killed job asks no finished row again. replies.jsonl appears whole, in the order of the questions;
rows that a cap on tokens or dollars left unasked are missing from it. Speaks HTTP only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

from align import askers, chat, jobs, run
from align.askers import UNFIT
from align.chat import Chat, OverBudget, Refused
from align.judge_jobs import QUESTIONS, REPLIES, AskJob, QuestionRow, ReplyRow
from align.kept import Kept
from align.manners import Manners
from align.rows import Message

SAMPLE = 300  # characters of the first answer, for a look at it
ANSWERED = "asked.parts.jsonl"  # one line a finished row


def work(attempt: run.Run) -> dict[str, Any]:
    """Ask all that is still missing.

    Raises ValueError for a job that cannot work, and where the endpoint refuses every row;
    `chat.EndpointAway` when it stays away.
    """
    job = attempt.job
    if not isinstance(job, AskJob):
        raise ValueError(f"align.ask does ask jobs, not {job.kind} jobs")
    started = time.monotonic()
    rows = [cast(QuestionRow, row) for row in jobs.read_rows(attempt.folder / QUESTIONS)]
    if len({row["id"] for row in rows}) != len(rows):
        raise ValueError("two questions have the same id")
    with Kept(attempt.folder / ANSWERED) as kept:
        asker = Asker(attempt, job, rows, kept)
        asyncio.run(asker.run())
    found = [kept.rows[row["id"]] for row in rows if row["id"] in kept.rows]
    if found and all(row["error"] for row in found):
        raise ValueError(found[0]["error"])
    jobs.write_rows(attempt.folder / REPLIES, [_reply(row) for row in found])
    return {
        "questions": len(rows),
        "answered": sum(not row["error"] for row in found),
        "unasked": len(rows) - len(found),
        "tokens_in": asker.spent.tokens_in,
        "tokens_out": asker.spent.tokens_out,
        "dollars": round(asker.spent.dollars, 6),
        **asker.manners.told(),
        "stopped": asker.stopped,
        "sample": next((row["texts"][-1][:SAMPLE] for row in found if row["texts"]), ""),
        "seconds": round(time.monotonic() - started, 3),
    }


class Asker:
    """Asks the rows that are missing, a few at a time."""

    def __init__(
        self, attempt: run.Run, job: AskJob, rows: Sequence[QuestionRow], kept: Kept
    ) -> None:
        self._attempt, self._job, self._rows, self._kept = attempt, job, rows, kept
        self.spent = chat.Spent(job.asked.price_in, job.asked.price_out)
        self.stopped = ""  # the cap's sentence, when it was met
        self.manners = Manners()

    async def run(self) -> None:
        missing = [row for row in self._rows if row["id"] not in self._kept.rows]
        self._progress()
        async with chat.connect(self._job.asked) as client:
            self.spent, self.manners = client.spent, client.manners
            for row in self._kept.rows.values():  # what earlier attempts spent counts
                self.spent.add(row["tokens_in"], row["tokens_out"])
            at_a_time = self._job.asked.concurrency
            await askers.share(
                self._attempt, missing, at_a_time, lambda turns: self._ask(client, turns)
            )

    async def _ask(self, client: Chat, turns: Iterator[QuestionRow]) -> None:
        try:
            for row in turns:
                if self.stopped:
                    return
                self._kept.add({"key": row["id"], **await self._converse(client, row)})
                self._progress()
        except OverBudget as error:
            if not self.stopped:
                self.stopped = str(error)
                self._attempt.log(f"{error}: no further question is asked")

    async def _converse(self, client: Chat, row: QuestionRow) -> ReplyRow:
        """The answers to a row's turns. One that the endpoint will not take ends it."""
        messages: list[Message] = list(row["messages"])
        follow = list(row.get("then", []))
        texts: list[str] = []
        tokens_in = tokens_out = 0
        error = ""
        try:
            for turn in range(1 + len(follow)):
                last = turn == len(follow)
                reply = await client.ask(
                    messages,
                    schema=row.get("shape") if last else None,
                    temperature=self._job.temperature,
                    max_tokens=self._job.max_tokens,
                    seed=self._job.seed,
                )
                tokens_in, tokens_out = tokens_in + reply.tokens_in, tokens_out + reply.tokens_out
                texts.append(reply.text)
                messages.append({"role": "assistant", "content": reply.text})
                if not last:
                    messages.append({"role": "user", "content": follow[turn]})
        except Refused as refused:
            if refused.status not in UNFIT:
                raise
            texts, error = [], str(refused)
        return ReplyRow(
            id=row["id"], texts=texts, tokens_in=tokens_in, tokens_out=tokens_out, error=error
        )

    def _progress(self) -> None:
        self._attempt.progress(len(self._kept.rows), len(self._rows), "questions")


def _reply(kept: dict[str, Any]) -> ReplyRow:
    return ReplyRow(
        id=kept["id"],
        texts=kept["texts"],
        tokens_in=kept["tokens_in"],
        tokens_out=kept["tokens_out"],
        error=kept["error"],
    )


if __name__ == "__main__":
    run.main(work)
