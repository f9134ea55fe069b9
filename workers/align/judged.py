"""From replies to verdicts: which questions a pair takes, what one reply says, and what the replies
on a pair say together. A pair without a word in one of its orders has no verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align import judging
from align.chat import Reply
from align.judge_jobs import Held, JudgeJob, PairRow, VerdictRow
from align.judging import Names

LONGEST_ANALYSIS = 4000  # characters of a judge's words that are kept


@dataclass(frozen=True)
class Question:
    """One order of a pair, by one principle or none."""

    pair: PairRow
    order: int
    principle: Held | None = None

    @property
    def key(self) -> str:
        return f"{self.pair['id']}|{self.principle.id if self.principle else ''}|{self.order}"


@dataclass(frozen=True)
class Reading:
    """What was read from one reply; `q` is None where nothing could be."""

    q: float | None
    told: Mapping[str, Any]
    error: str = ""


def questions(job: JudgeJob, pair: PairRow) -> list[Question]:
    """What is asked about a pair; nothing where no judge is needed."""
    if judging.without_asking(pair) is not None:
        return []
    held: Sequence[Held | None] = [None]
    if job.principles:
        one = [judging.drawn(job.principles, job.seed, pair)]
        held = one if job.choose == "one" else job.principles
    return [Question(pair, order, one) for one in held for order in (0, 1)]


def read(job: JudgeJob, mode: str, reply: Reply, called: Names) -> Reading:
    """What one reply says: P(the answer shown first is better), and what is worth keeping."""
    sides = {"one": called.one, "two": called.two, "tie": called.tie}
    told: dict[str, Any] = {"names": sides}
    if mode == "tokens":
        likely = reply.logprobs[0][1] if reply.logprobs else {}
        q = judging.by_token(likely, called, job.least_mass)
        told |= {"said": reply.text[:LONGEST_ANALYSIS]}
        error = "" if q is not None else _no_letter(reply, called)
        return Reading(q, told, error)
    levels = called.levels(job.slight, job.clear)
    if mode == "schema":
        found = judging.last_json(reply.text) or {}
        said, analysis = found.get("verdict"), str(found.get("analysis", ""))
        told |= {"analysis": analysis[:LONGEST_ANALYSIS]}
        told |= {"confidence": _share(found.get("confidence"))}
    else:
        said = judging.last_marker(reply.text)
        told |= {"analysis": judging.own_words(reply.text)[:LONGEST_ANALYSIS]}
    if isinstance(said, str) and said in levels:
        return Reading(levels[said], {**told, "verdict": said})
    error = "The judge's reply, asked for twice, names no verdict."
    if reply.finish_reason == "length":
        error = "The judge's reply, asked for twice, was cut at its token limit without a verdict."
    return Reading(None, told, error)


def verdict(
    job: JudgeJob, pair: PairRow, kept: Mapping[str, Mapping[str, Any]]
) -> VerdictRow | None:
    """A pair's verdict out of its kept readings; None where some are missing."""
    alone = judging.without_asking(pair)
    if alone is not None:
        return _row(pair, alone[0], alone[1], {"not_asked": alone[2]}, [], "")
    asked = questions(job, pair)
    if any(one.key not in kept for one in asked):
        return None
    found = [kept[one.key] for one in asked]
    if not job.principles:
        detail = {"orders": [_order(one) for one in found]}
        error = next((one["error"] for one in found if one["q"] is None), "")
        return _row(pair, found[0]["q"], found[1]["q"], detail, found, error)
    return _by_principles(pair, [one.principle for one in asked[::2]], found)


def _by_principles(
    pair: PairRow, held: Sequence[Held | None], found: Sequence[Mapping[str, Any]]
) -> VerdictRow:
    """Each order's log-odds averaged by weight. A principle without a word in one of the orders is
    left out of both; there is no verdict where those left out weigh half or more."""
    said: list[dict[str, Any]] = []
    counted: list[tuple[float, float, float]] = []
    weight_of_all, error = 0.0, ""
    for at, principle in enumerate(held):
        assert principle is not None
        one, other = found[2 * at], found[2 * at + 1]
        weight_of_all += principle.weight
        row = {
            "id": principle.id,
            "text": principle.text,
            "weight": principle.weight,
            "orders": [_order(one), _order(other)],
        }
        if one["q"] is not None and other["q"] is not None:
            counted.append((one["q"], other["q"], principle.weight))
            row["p"] = 0.5 + (one["q"] - other["q"]) / 2
        else:
            error = one["error"] or other["error"]
        said.append(row)
    weighed = sum(weight for *_, weight in counted)
    if 2 * weighed <= weight_of_all:
        return _row(pair, None, None, {"principles": said}, found, error)
    q_first = judging.mean_log_odds([(q, weight) for q, _, weight in counted])
    q_second = judging.mean_log_odds([(q, weight) for _, q, weight in counted])
    return _row(pair, q_first, q_second, {"principles": said}, found, "")


def _order(kept: Mapping[str, Any]) -> dict[str, Any]:
    error = {"error": kept["error"]} if kept["error"] else {}
    return {"q": kept["q"], **kept["told"], **error}


def _row(
    pair: PairRow,
    q_first: float | None,
    q_second: float | None,
    detail: dict[str, Any],
    found: Sequence[Mapping[str, Any]],
    error: str,
) -> VerdictRow:
    void = q_first is None or q_second is None
    return {
        "id": pair["id"],
        "q_first": None if void else q_first,
        "q_second": None if void else q_second,
        "detail": detail,
        "tokens_in": sum(one["tokens_in"] for one in found),
        "tokens_out": sum(one["tokens_out"] for one in found),
        "error": error if void else "",
    }


def summary(pairs: Sequence[PairRow], rows: Sequence[VerdictRow]) -> dict[str, Any]:
    """Counts and rates over the verdicts; `first` is how often the answer shown first is picked,
    half where the order does not matter."""
    q = [
        (row["q_first"], row["q_second"])
        for row in rows
        if row["q_first"] is not None and row["q_second"] is not None
    ]
    agree = sum((one > 0.5) == (other < 0.5) and (one < 0.5) == (other > 0.5) for one, other in q)
    return {
        "pairs": len(pairs),
        "judged": len(q),
        "null": len(rows) - len(q),
        "unasked": len(pairs) - len(rows),
        "consistent": agree,
        "first": round(sum(map(sum, q)) / (2 * len(q)), 6) if q else None,
    }


def _share(value: Any) -> float | None:
    """A judge's own figure, where it is one from 0 to 1."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _no_letter(reply: Reply, called: Names) -> str:
    if not reply.logprobs:
        return "The endpoint gave no log-probabilities; read verdicts as schema or marker."
    return (
        f"The judge's reply, asked for twice, is none of {called.one}, {called.two} and "
        f"{called.tie}."
    )


def check_not_all_refused(kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where the endpoint took no question at all: then it is no pair's fault."""
    refused = [row for row in kept.values() if row["told"].get("refused")]
    if refused and len(refused) == len(kept):
        raise ValueError(refused[0]["error"])
