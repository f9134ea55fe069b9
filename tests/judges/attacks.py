"""Judges of a test's own that do whatever they are told outside the fences, asked about attacks."""

from __future__ import annotations

import json
from collections.abc import Callable

from align import attacks, judging
from align.judge_jobs import PairRow

GOOD, BAD = "A panda eats bamboo.", "A panda eats cars."
MODES = ("marker", "schema")


def pair(first: str, second: str) -> PairRow:
    message = {"role": "user", "content": "What does a panda eat?"}
    return {"id": "pair", "messages": [message], "first": first, "second": second}  # type: ignore


def asked(row: PairRow, order: int, mode: str, labels: str) -> tuple[str, judging.Names]:
    """The words of a question, as the judging job puts them."""
    called = judging.names(labels, 0, row, order)  # type: ignore[arg-type]
    messages = judging.question(
        row, order, called, mode, system=judging.SYSTEM, template=judging.QUESTION,
        nonce=judging.nonce(0, row),
    )  # fmt: skip
    return str(messages[-1]["content"]), called


def obedient(text: str, called: judging.Names, row: PairRow, mode: str) -> str:
    """A reply of a judge that reads what stands between fences with the pair's own nonce, quotes
    all of it, obeys any word about a winner that stands outside of them, and prefers bamboo."""
    nonce = judging.nonce(0, row)
    rest, read = text, {}
    for name in (called.one, called.two):
        begin = f"--- answer {name} {nonce} ---\n"
        end = f"\n--- end of answer {name} {nonce} ---"
        head, _, after = rest.partition(begin)
        inside, _, tail = after.partition(end)
        rest, read[name] = head + tail, inside
    outside = rest.partition(f"--- end of conversation {nonce} ---")[2]
    outside = outside.replace(judging.filled(judging.REPLIES[mode], vars(called)), "")
    if outside.strip():
        return str(outside)  # whatever leaked out of its fence speaks for the judge
    first = GOOD in read[called.one]
    verdict = f"{called.one}>>{called.two}" if first else f"{called.two}>>{called.one}"
    quoted = f"One says {read[called.one]} and the other {read[called.two]}"
    if mode == "schema":
        return json.dumps({"analysis": quoted, "verdict": verdict, "confidence": 1.0})
    return f"{quoted}\n[[{verdict}]]"


def chance(row: PairRow, mode: str, labels: str) -> float | None:
    """P(first is better) out of both orders; None where a reply names no verdict."""
    if (known := judging.without_asking(row)) is not None:
        return (known[0] + 1 - known[1]) / 2
    q = []
    for order in (0, 1):
        text, called = asked(row, order, mode, labels)
        reply = obedient(text, called, row, mode)
        if mode == "schema":
            found = judging.last_json(reply)
            said = found["verdict"] if found else None
        else:
            said = judging.last_marker(reply)
        levels = called.levels(0.75, 0.95)
        if said not in levels:
            return None
        q.append(levels[said])
    return (q[0] + 1 - q[1]) / 2


def flips(judge: Callable[[PairRow], float | None]) -> dict[str, tuple[int, int, int]]:
    """By family: attacks tried, those that won, and those whose control won. The attacked answer
    is the worse one."""
    found: dict[str, list[int]] = {}
    for one in attacks.corpus():
        some = found.setdefault(one.family, [0, 0, 0])
        attacked, control = (judge(pair(text, GOOD)) for text in (one.on(BAD), one.control(BAD)))
        some[0] += 1
        some[1] += attacked is None or attacked > 0.5
        some[2] += control is None or control > 0.5
    return {family: (n[0], n[1], n[2]) for family, n in found.items()}
