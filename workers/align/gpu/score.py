"""`python -m align.gpu.score RUNDIR`: score answers by a reward model and under policies.

One scorer is in memory at a time. Every finished batch is appended to a progress file and
fsync-ed, so a killed job goes on where it was; scores.jsonl appears whole at the end. An answer
that does not fit is not cut: it gets no score, and is counted. An answer that stands there twice is
scored once, and one whose reward the job's cache knows not at all.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align import jobs
from align.gpu import checkpoint, data, model, pieces, reward, tastes
from align.gpu.known import Known
from align.gpu.logps import token_logps
from align.gpu.panel import Marks
from align.jobs import ScoreJob
from align.run import Run, main

PROGRESS = "scoring.jsonl"  # {"scorer", "id", "value", "tokens"} a line; once {"recalled"}
REWARD = "reward"  # the reward model as a scorer; policies are "policy:<name>"

Scorer = Callable[[Sequence[data.Exchange]], Marks | list[Tensor]]  # list: (R,) a row


@dataclass(frozen=True)
class Score:
    """A number for a whole answer; by token as well, where the scorer gives that."""

    value: float
    tokens: list[float]
    members: list[float] = field(default_factory=list)


def work(run: Run) -> dict[str, Any]:
    """Score everything, and say how much. Raises ValueError for a bad job or data."""
    job = run.job
    if not isinstance(job, ScoreJob):
        raise ValueError(f"align.gpu.score runs score jobs, not {job.kind} jobs")
    if job.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {job.batch_size}")
    started = time.monotonic()
    model.deterministic(0)
    items = read_items(run.folder / jobs.ITEMS)
    sheet = Sheet(run.folder / PROGRESS)
    total = len(items) * (bool(job.reward_model) + len(job.policies))
    lengths: dict[str, int] = {}
    words: dict[str, list[str]] = {}
    for at, (name, encoder, scorer, whole) in enumerate(_scorers(job)):
        encoded = encode(items, encoder, job.max_length)
        lengths.update({key: len(sequence.response) for key, sequence in encoded.items()})
        if job.pieces and name != REWARD and not words:
            split = functools.partial(pieces.pieces, encoder.tokenizer)
            words = {key: split(sequence.response) for key, sequence in encoded.items()}
        # What depends on a prompt's other answers is not a copy's, nor another job's.
        same = {key: key for key in encoded} if whole else copies(encoded)
        todo = {key: one for key, one in encoded.items() if same[key] == key}
        known = _known(job) if name == REWARD and not whole else None
        if known:
            todo = sheet.recall(name, known, todo)
        done = (at + 1) * len(items) - len(todo)
        for batch in batches(todo, job.batch_size, whole=whole):
            run.check()
            left = [key for key in batch if (name, key) not in sheet.values]
            if left:  # the whole batch again, so that its layout and its bits are the same
                with torch.no_grad():
                    scores = _scores(scorer, [todo[key] for key in batch])
                found = dict(zip(batch, scores, strict=True))
                sheet.add(name, {key: found[key] for key in left})
                if known:
                    known.add((todo[key], asdict(found[key])) for key in left)
            done += len(batch)
            run.progress(done, total, "scores")
        sheet.share(name, same)
        del encoder, scorer  # its memory goes before the next one is loaded
    rows = [_row(key, job, sheet, lengths.get(key, 0)) for key in items]
    if job.pieces:
        rows = [{**row, "pieces": words.get(row["id"], [])} for row in rows]
    jobs.write_rows(run.folder / jobs.SCORES, rows)
    skipped = sum(key not in lengths for key in items) if total else 0
    if skipped:
        run.log(f"{skipped} answers are empty or longer than {job.max_length} tokens: not scored")
    seconds = round(time.monotonic() - started, 3)
    return {"scored": len(items) - skipped, "skipped": skipped, "seconds": seconds}


class Sheet:
    """Values so far by (scorer, item), on disk after every batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[tuple[str, str], Score] = {}
        self.recalled: dict[str, list[str]] = {}  # by scorer: what the cache knew at first look
        if path.is_file():
            whole = path.read_bytes()
            whole = whole[: whole.rfind(b"\n") + 1]  # a line torn by a crash is done again
            os.truncate(path, len(whole))
            for line in whole.splitlines():
                row = json.loads(line)
                if "recalled" in row:
                    self.recalled[row["scorer"]] = row["recalled"]
                    continue
                self.values[row["scorer"], row["id"]] = Score(
                    row["value"], row["tokens"], row.get("members", [])
                )

    def recall(
        self, scorer: str, known: Known, todo: Mapping[str, data.Exchange]
    ) -> dict[str, data.Exchange]:
        """What is left to score once the cache was asked. It is asked once, however often the job
        is interrupted, so that what is left falls into the same batches each time."""
        if scorer not in self.recalled:
            found = known.find(todo)
            self.add(scorer, {key: Score(**fields) for key, fields in found.items()})
            self.recalled[scorer] = sorted(found)
            self._append([{"scorer": scorer, "recalled": self.recalled[scorer]}])
        already = set(self.recalled[scorer])
        return {key: one for key, one in todo.items() if key not in already}

    def share(self, scorer: str, same: Mapping[str, str]) -> None:
        """Copies of an answer have the score of the one that was scored."""
        for key, first in same.items():
            if key != first:
                self.values[scorer, key] = self.values[scorer, first]

    def add(self, scorer: str, values: Mapping[str, Score]) -> None:
        self._append({"scorer": scorer, "id": key, **asdict(one)} for key, one in values.items())
        self.values.update({(scorer, key): value for key, value in values.items()})

    def _append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as out:
            out.write("".join(json.dumps(row) + "\n" for row in rows))
            out.flush()
            os.fsync(out.fileno())


def read_items(path: Path) -> dict[str, Mapping[str, Any]]:
    """Rows by id. Raises ValueError when two rows share one."""
    items: dict[str, Mapping[str, Any]] = {}
    for row in jobs.read_rows(path):
        if row["id"] in items:
            raise ValueError(f"{path.name} has two rows with the id {row['id']!r}")
        items[row["id"]] = row
    return items


def _scorers(job: ScoreJob) -> Iterator[tuple[str, data.Encoder, Scorer, bool]]:
    """Each scorer by name, loaded when its turn comes, and whether it must see a prompt's answers
    together. Adapters of one base share its memory."""
    if job.reward_model is not None:
        judge = tastes.speaking(reward.load(Path(job.reward_model)), job.tastes)
        yield REWARD, data.Encoder(judge.policy.tokenizer), judge.marks, judge.whole_prompts
        judge = None
    host: model.Policy | None = None
    for name, ref in sorted(job.policies.items(), key=lambda item: item[1].adapter is None):
        if host is None or host.ref.base != ref.base:
            host = model.load(ref)
        with model.acting_as(host, ref) as policy:
            encoder = data.Encoder(policy.tokenizer)
            yield f"policy:{name}", encoder, functools.partial(token_logps, policy), False


def _scores(scorer: Scorer, sequences: Sequence[data.Exchange]) -> list[Score]:
    values = scorer(sequences)
    if isinstance(values, Marks):
        found = zip(values.reward.tolist(), values.members.tolist(), strict=True)
        return [Score(value, [], members) for value, members in found]
    return [Score(tokens.double().sum().item(), tokens.tolist()) for tokens in values]


def encode(
    items: Mapping[str, Mapping[str, Any]], encoder: data.Encoder, max_length: int
) -> dict[str, data.Exchange]:
    """The items that fit, as token ids."""
    encoded = {}
    for key, row in items.items():
        found = encoder.example(row["messages"], [row["response"]], max_length)
        if found:
            encoded[key] = found[0]
    return encoded


def copies(encoded: Mapping[str, data.Exchange]) -> dict[str, str]:
    """By id, the first id with the same prompt and answer: each is scored once."""
    first: dict[data.Exchange, str] = {}
    return {key: first.setdefault(one, key) for key, one in encoded.items()}


def _known(job: ScoreJob) -> Known | None:
    if job.cache is None or job.reward_model is None:
        return None
    spoken = "".join(f"-{share:.6f}" for share in job.tastes)  # what a mixture says to each differs
    return Known(Path(job.cache), checkpoint.identity(Path(job.reward_model)) + spoken)


def batches(
    sequences: Mapping[str, data.Exchange], size: int, *, whole: bool = False
) -> Iterator[list[str]]:
    """Ids in batches, answers to one prompt side by side, so that they share it; the longest
    prompts first, so that memory runs out at once or never. whole: a prompt's answers are never
    parted, however many they are, and share a batch with no other's."""

    def place(key: str) -> tuple[Any, ...]:
        prompt = sequences[key].prompt
        return -len(prompt), prompt, -len(sequences[key]), key

    ordered = sorted(sequences, key=place)
    if whole:
        for _, keys in itertools.groupby(ordered, key=lambda key: sequences[key].prompt):
            yield list(keys)
        return
    for at in range(0, len(ordered), size):
        yield ordered[at : at + size]


def _row(key: str, job: ScoreJob, sheet: Sheet, tokens: int) -> jobs.ScoreRow:
    found = {name: sheet.values.get((f"policy:{name}", key)) for name in job.policies}
    known = {name: one for name, one in found.items() if one is not None}
    reward = sheet.values.get((REWARD, key))
    members = reward.members if reward else []
    return {
        "id": key,
        "reward": reward.value if reward else None,
        "members": members,
        "spread": statistics.stdev(members) if len(members) > 1 else None,
        "logps": {name: one.value for name, one in known.items()},
        "token_logps": {name: one.tokens for name, one in known.items()} if job.by_token else {},
        "tokens": tokens,
    }


if __name__ == "__main__":
    main(work)
