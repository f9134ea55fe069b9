"""`python -m align.gpu.compare RUNDIR`: which of two answers a pairwise generative reward model
prefers, in both orders.

Every finished pair is on disk at once, so a killed job goes on where it was; verdicts.jsonl appears
whole at the end. A pair that does not fit the model is not cut: it gets no verdict. Members of an
ensemble count alike: their probabilities are averaged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch

from align import jobs
from align.gpu import data, model, reward
from align.gpu.members import Committee
from align.gpu.side_by_side import SideBySide
from align.judge_jobs import PAIRS, VERDICTS, CompareJob, PairRow, VerdictRow
from align.kept import Kept
from align.objectives.pairwise_generative import PairwiseGenerative
from align.run import Run, main

COMPARED = "compared.parts.jsonl"  # one line a pair


def work(run: Run) -> dict[str, Any]:
    """Compare everything, and say how much. Raises ValueError for a bad job or model."""
    job = run.job
    if not isinstance(job, CompareJob):
        raise ValueError(f"align.gpu.compare runs compare jobs, not {job.kind} jobs")
    started = time.monotonic()
    model.deterministic(0)
    pairs = [cast(PairRow, row) for row in jobs.read_rows(run.folder / PAIRS)]
    judges = members(Path(job.reward_model))
    encoder = data.Encoder(judges[0].policy.tokenizer)
    with Kept(run.folder / COMPARED) as kept:
        for done, pair in enumerate(pairs):
            run.check()
            if pair["id"] not in kept.rows:
                found = compare(judges, encoder, pair, job.max_length)
                kept.add({"key": pair["id"], **found})
            run.progress(done + 1, len(pairs), "pairs")
        rows = [_row(pair, kept.rows[pair["id"]]) for pair in pairs]
    jobs.write_rows(run.folder / VERDICTS, rows)
    judged = sum(row["q_first"] is not None for row in rows)
    return {
        "pairs": len(rows),
        "judged": judged,
        "null": len(rows) - judged,
        "unasked": 0,
        "seconds": round(time.monotonic() - started, 3),
    }


def members(folder: Path) -> Sequence[SideBySide]:
    """The model behind a committed folder, or each of an ensemble's."""
    judge = reward.load(folder)
    found = judge.judges if isinstance(judge, Committee) else [judge]
    for one in found:
        if not isinstance(one, SideBySide):
            raise ValueError(f"{folder} scores answers one by one; it compares none")
    return cast(Sequence[SideBySide], found)


def compare(
    judges: Sequence[SideBySide], encoder: data.Encoder, pair: PairRow, max_length: int
) -> dict[str, Any]:
    """`q_first`, `q_second` and, of several, what each member says; None where the pair does not
    fit."""
    responses = [
        {"id": side, "text": text, "token_ids": None, "finish_reason": None}
        for side, text in (("first", pair["first"]), ("second", pair["second"]))
    ]
    messages = cast(Sequence[Mapping[str, str]], pair["messages"])
    both = encoder.example(messages, responses, max_length)
    asked = [] if both is None else [judge.asked(both[0], both[1]) for judge in judges]
    if not asked or not all(asked):
        return {"q_first": None, "q_second": None, "members": []}
    said = []
    with torch.no_grad():
        for judge, sequences in zip(judges, asked, strict=True):
            assert sequences is not None
            first = PairwiseGenerative.says_first(judge.values(sequences))  # (2,), one an order
            said.append([float(q) for q in first])
    orders = list(zip(*said, strict=True))
    members = said if len(said) > 1 else []
    return {"q_first": fmean(orders[0]), "q_second": fmean(orders[1]), "members": members}


def _row(pair: PairRow, found: Mapping[str, Any]) -> VerdictRow:
    void = found["q_first"] is None
    return {
        "id": pair["id"],
        "q_first": found["q_first"],
        "q_second": found["q_second"],
        "detail": {"members": found["members"]} if found["members"] else {},
        "tokens_in": 0,
        "tokens_out": 0,
        "error": "The two answers do not fit the model beside their prompt." if void else "",
    }


if __name__ == "__main__":
    main(work)
