"""Ask a language model which of two answers is better: `python -m align.judge RUNDIR`.

Reads job.json (a JudgeJob) and pairs.jsonl, asks every pair in both orders, and keeps each reply on
disk at once, so a killed job asks nothing twice. verdicts.jsonl appears whole, in the order of the
pairs. Where a cap on tokens or dollars is met the job ends well with what it has, and says how many
pairs were not asked. Speaks HTTP only; loads no model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from align import askers, chat, jobs, judged, judging, run
from align.askers import UNFIT
from align.chat import Chat, OverBudget, Refused, Reply
from align.judge_jobs import PAIRS, VERDICTS, JudgeJob, PairRow
from align.judged import Question, Reading
from align.judging import Names
from align.kept import Kept
from align.manners import Manners

ANSWERED = "judged.parts.jsonl"  # one line a question: what `Question.key` names, and its reading
LIKELY = 20  # tokens whose log-probabilities are asked for: as many as endpoints give
FALLBACKS = {"tokens": "schema", "schema": "marker"}  # in mode "auto", where an endpoint lacks one


def work(attempt: run.Run) -> dict[str, Any]:
    """Ask all that is still missing.

    Raises ValueError for a job that cannot work, `chat.EndpointAway` when the endpoint stays away.
    """
    job = attempt.job
    if not isinstance(job, JudgeJob):
        raise ValueError(f"align.judge does judge jobs, not {job.kind} jobs")
    started = time.monotonic()
    pairs = read_pairs(attempt.folder / PAIRS)
    with Kept(attempt.folder / ANSWERED) as kept:
        judge = Judge(attempt, job, pairs, kept)
        asyncio.run(judge.run())
    judged.check_not_all_refused(kept.rows)
    rows = [row for pair in pairs if (row := judged.verdict(job, pair, kept.rows)) is not None]
    jobs.write_rows(attempt.folder / VERDICTS, rows)
    return {
        **judged.summary(pairs, rows),
        "questions": len(kept.rows),
        "tokens_in": judge.spent.tokens_in,
        "tokens_out": judge.spent.tokens_out,
        "dollars": round(judge.spent.dollars, 6),
        **judge.manners.told(),
        "stopped": judge.stopped,
        "seconds": round(time.monotonic() - started, 3),
    }


class Judge:
    """Asks the questions that are missing, a few pairs at a time."""

    def __init__(
        self, attempt: run.Run, job: JudgeJob, pairs: Sequence[PairRow], kept: Kept
    ) -> None:
        self._attempt, self._job, self._pairs, self._kept = attempt, job, pairs, kept
        self.spent = chat.Spent(job.asked.price_in, job.asked.price_out)
        self.stopped = ""  # the cap's sentence, when it was met
        self.manners = Manners()
        self._mode: str | None = None if job.mode == "auto" else job.mode
        self._done = 0
        self._finding = asyncio.Lock()  # of the mode: one question finds it for all

    async def run(self) -> None:
        missing = [pair for pair in self._pairs if self._left(pair)]
        self._done = len(self._pairs) - len(missing)
        self._progress()
        if not missing:
            self._count_kept(self.spent)
            return
        async with chat.connect(self._job.asked) as client:
            self.spent, self.manners = client.spent, client.manners
            self._count_kept(self.spent)
            at_a_time = self._job.asked.concurrency
            await askers.share(
                self._attempt, missing, at_a_time, lambda turns: self._ask_pairs(client, turns)
            )

    def _count_kept(self, spent: chat.Spent) -> None:
        """What earlier attempts spent counts towards the cap."""
        for row in self._kept.rows.values():
            spent.add(row["tokens_in"], row["tokens_out"])
        if self._mode is None and self._kept.rows:
            self._mode = next(iter(self._kept.rows.values()))["told"].get("mode")

    def _left(self, pair: PairRow) -> list[Question]:
        return [one for one in judged.questions(self._job, pair) if one.key not in self._kept.rows]

    async def _ask_pairs(self, client: Chat, turns: Iterator[PairRow]) -> None:
        try:
            for pair in turns:
                for question in self._left(pair):
                    if self.stopped:
                        return
                    await self._answer(client, question)
                self._done += 1
                self._progress()
        except OverBudget as error:
            if not self.stopped:
                self.stopped = str(error)
                self._attempt.log(f"{error}: no further pair is asked")

    async def _answer(self, client: Chat, question: Question) -> None:
        """Ask a question, once more where the reply cannot be read, and keep what came."""
        mode, first = await self._find_mode(client, question)
        tokens = [0, 0]
        found = Reading(None, {})
        for again in (False, True):
            try:
                if again or first is None:
                    reply = await self._send(client, question, mode, again)
                else:
                    reply = first
            except Refused as error:
                if error.status not in UNFIT:
                    raise
                found = Reading(None, {"mode": mode, "refused": True}, str(error))
                break
            tokens = [tokens[0] + reply.tokens_in, tokens[1] + reply.tokens_out]
            found = judged.read(self._job, mode, reply, self._names(question))
            if found.q is not None:
                break
        told = {**found.told, "mode": mode}
        self._kept.add(
            {
                "key": question.key,
                "q": found.q,
                "told": told,
                "error": found.error,
                "tokens_in": tokens[0],
                "tokens_out": tokens[1],
            }
        )

    async def _find_mode(self, client: Chat, question: Question) -> tuple[str, Reply | None]:
        """How verdicts are read: in mode "auto" the first way that the endpoint takes, with the
        reply by which that was found."""
        if self._mode is not None:
            return self._mode, None
        async with self._finding:
            mode = "tokens"
            while self._mode is None:
                reply = None
                try:
                    reply = await self._send(client, question, mode, False)
                except Refused as error:
                    if error.status not in UNFIT:
                        raise
                if mode not in FALLBACKS or (reply and (reply.logprobs or mode != "tokens")):
                    self._mode = mode
                    self._attempt.log(f"verdicts are read as {mode}")
                    return mode, reply
                mode = FALLBACKS[mode]
            return self._mode, None

    def _names(self, question: Question) -> Names:
        return judging.names(self._job.labels, self._job.seed, question.pair, question.order)

    async def _send(self, client: Chat, question: Question, mode: str, again: bool) -> Reply:
        job, pair, called = self._job, question.pair, self._names(question)
        messages = judging.question(
            pair,
            question.order,
            called,
            mode,
            system=job.system,
            template=job.question,
            nonce=judging.nonce(job.seed, pair),
            guidance=job.guidance,
            principle=question.principle.text if question.principle else "",
            again=again,
        )
        words = mode != "tokens"
        return await client.ask(
            messages,
            schema=judging.schema(called) if mode == "schema" else None,
            logprobs=0 if words else LIKELY,
            temperature=job.temperature if words else 0.0,
            max_tokens=job.max_tokens if words else 1,
            seed=job.seed,
        )

    def _progress(self) -> None:
        self._attempt.progress(self._done, len(self._pairs), "pairs")


def read_pairs(path: Path) -> list[PairRow]:
    """Raises ValueError when two rows share an id."""
    rows = [cast(PairRow, row) for row in jobs.read_rows(path)]
    if len({row["id"] for row in rows}) != len(rows):
        raise ValueError("two pairs have the same id")
    return rows


if __name__ == "__main__":
    run.main(work)
