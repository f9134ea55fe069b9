"""Asks for a rubric's scores of answers, and keeps what was said, so an answer is paid for once.

A job keeps its own replies, also across its attempts; a folder that jobs share keeps the scores by
rubric, judge and texts, whichever program asks.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align import askers, chat, rubric, run
from align.chat import Chat, OverBudget, Refused, Reply
from align.judge_jobs import UNASKED, Asked, ProgramItemRow, ProgramJob
from align.kept import Kept
from align.manners import Manners
from align.programs import Criterion, RewardProgram

REPLIED = "rubric.parts.jsonl"  # what this job's attempts asked so far
TOKENS = 256  # of a reply; eight numbers need fewer

Scores = Mapping[str, int | None]
Levels = Mapping[tuple[str, str], Scores]  # by (hash of the rubric, item)
Turn = tuple[str, ProgramItemRow]


@dataclass
class Judged:
    """`errors`: why there are none, where there are none. `told`: figures for the job's result."""

    levels: dict[tuple[str, str], Scores] = field(default_factory=dict)
    errors: dict[tuple[str, str], str] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)


def ask(
    attempt: run.Run,
    job: ProgramJob,
    programs: Iterable[RewardProgram],
    items: Sequence[ProgramItemRow],
) -> Judged:
    """Scores of every item by every rubric; equal rubrics are asked once. Nobody is asked, and
    nothing spent, where no program has one.

    A criterion without a score is None: the reply could not be read twice, the endpoint would not
    take the answer, or the cap was met. Raises ValueError where a rubric has nobody to ask and
    where the endpoint takes no answer at all, and what `Chat.ask` raises otherwise.
    """
    rubrics = {rubric.sha256(one): one.rubric for one in programs}
    if not rubrics:
        return Judged()
    if job.asked is None:
        raise ValueError("a program has a rubric, and the job names nobody to ask")
    with Kept(attempt.folder / REPLIED) as kept:
        asking = Asking(attempt, job.asked, rubrics, items, kept, job.cache)
        asyncio.run(asking.run())
    return asking.judged()


class Asking:
    """Asks what neither this job nor the shared folder knows, a few answers at a time."""

    def __init__(
        self,
        attempt: run.Run,
        asked: Asked,
        rubrics: Mapping[str, tuple[Criterion, ...]],
        items: Sequence[ProgramItemRow],
        kept: Kept,
        cache: str | None,
    ) -> None:
        self._attempt, self._asked, self._rubrics, self._kept = attempt, asked, rubrics, kept
        self._cache = Cache(Path(cache)) if cache else None
        self._turns = [(one, item) for one in rubrics for item in items]
        self._found: dict[str, dict[str, int]] = {}  # by the key of `rubric.key`
        self._known = 0  # of them in the shared folder
        self._spent = chat.Spent(asked.price_in, asked.price_out)
        self._stopped = ""  # the cap's sentence, when it was met
        self._manners = Manners()
        self._shaped = True

    async def run(self) -> None:
        missing = list(self._missing())
        self._progress()
        if not missing:
            return
        async with chat.connect(self._asked) as client:
            self._spent, self._manners = client.spent, client.manners
            for row in self._kept.rows.values():  # what earlier attempts spent counts
                self._spent.add(row["tokens_in"], row["tokens_out"])
            await askers.share(
                self._attempt,
                missing,
                max(1, self._asked.concurrency),
                lambda turns: self._ask(client, turns),
            )
        refused = [row["error"] for row in self._kept.rows.values() if row["refused"]]
        if refused and len(refused) == len(self._kept.rows):  # then it is no answer's fault
            raise ValueError(refused[0])

    def judged(self) -> Judged:
        found = Judged()
        for name, item in self._turns:
            key = self._key(name, item)
            nothing = dict.fromkeys((one.id for one in self._rubrics[name]), None)
            found.levels[name, item["id"]] = self._found.get(key, nothing)
            if key not in self._found:
                error = self._kept.rows[key]["error"] if key in self._kept.rows else UNASKED
                found.errors[name, item["id"]] = error
        asked = len(self._kept.rows)
        found.told = {
            "rubric_scores": len(self._found),
            "from_cache": self._known,
            "asked": asked,
            "unread": asked + self._known - len(self._found),
            "unasked": len({self._key(*one) for one in self._turns}) - asked - self._known,
            "tokens_in": self._spent.tokens_in,
            "tokens_out": self._spent.tokens_out,
            "dollars": round(self._spent.dollars, 6),
            **self._manners.told(),
            "stopped": self._stopped,
        }
        return found

    def _missing(self) -> Iterator[Turn]:
        """Each text once, also where two items have the same."""
        seen: set[str] = set()
        for name, item in self._turns:
            key = self._key(name, item)
            if key in seen:
                continue
            seen.add(key)
            if key in self._kept.rows:
                self._learn(key, self._kept.rows[key]["scores"])
                continue
            known = self._cache.get(key) if self._cache else None
            if known is not None and known.keys() == {one.id for one in self._rubrics[name]}:
                self._learn(key, known)
                self._known += 1
            else:
                yield name, item

    async def _ask(self, client: Chat, turns: Iterator[Turn]) -> None:
        try:
            for name, item in turns:
                if self._stopped:
                    return
                key = self._key(name, item)
                row = await self._score(client, self._rubrics[name], item)
                self._kept.add({"key": key, **row})
                self._learn(key, row["scores"])
                if row["scores"] is not None and self._cache:
                    self._cache.put(key, row["scores"])
                self._progress()
        except OverBudget as error:
            if not self._stopped:
                self._stopped = str(error)
                self._attempt.log(f"{error}: no further answer is scored by a rubric")

    async def _score(
        self, client: Chat, criteria: Sequence[Criterion], item: ProgramItemRow
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"scores": None, "tokens_in": 0, "tokens_out": 0}
        row |= {"refused": False, "error": ""}
        for again in (False, True):
            try:
                reply = await self._reply(client, criteria, item, again)
            except Refused as refused:
                if refused.status not in askers.UNFIT:
                    raise
                return row | {"refused": True, "error": str(refused)}
            row["tokens_in"] += reply.tokens_in
            row["tokens_out"] += reply.tokens_out
            if (scores := rubric.read(reply.text, criteria)) is not None:
                return row | {"scores": scores}
        return row | {"error": "the judge's reply, asked for twice, does not score the rubric"}

    async def _reply(
        self, client: Chat, criteria: Sequence[Criterion], item: ProgramItemRow, again: bool
    ) -> Reply:
        """An endpoint that knows no JSON schema is asked in words alone, from then on."""
        messages = rubric.question(criteria, item, again=again)
        if self._shaped:
            shape = rubric.schema(criteria)
            try:
                return await client.ask(messages, schema=shape, max_tokens=TOKENS, seed=0)
            except Refused as refused:
                if refused.status not in askers.UNFIT:
                    raise
        reply = await client.ask(messages, max_tokens=TOKENS, seed=0)
        self._shaped = False
        return reply

    def _learn(self, key: str, scores: dict[str, int] | None) -> None:
        if scores is not None:
            self._found[key] = scores

    def _key(self, name: str, item: ProgramItemRow) -> str:
        return rubric.key(name, self._asked.model, item)

    def _progress(self) -> None:
        done = self._known + len(self._kept.rows)
        self._attempt.progress(done, max(done, len(self._turns)), "rubric scores")


class Cache:
    """Scores on disk, one file each, so that jobs on several machines may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, int] | None:
        """None also of a file that is not what `put` writes."""
        try:
            found = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        fine = isinstance(found, dict) and all(rubric.is_level(level) for level in found.values())
        return found if fine else None

    def put(self, key: str, scores: Mapping[str, int]) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(scores))
        temporary.replace(path)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
