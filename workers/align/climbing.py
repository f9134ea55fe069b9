"""The rungs of a program's ladder that run it, and its scores of a pool of answers.

The static rung (`align.ladder`) comes first and needs no sandbox. What falls here says why in
sentences that its writer can mend it by.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from align import ladder
from align.programs import RewardProgram
from align.sandbox import Breach, Case, Outcome, Sandbox

SPREAD = 1e-6  # standard deviation of a prompt's totals that tells its answers apart
APART = 0.8  # of the prompts
SLOW = 250.0  # milliseconds of a call
LONG = 20_000  # characters


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One of the pool. `judge`: the rubric's scores; a criterion that got none is None, and the
    answer is not scored: `unjudged` says why."""

    id: str
    prompt: str
    response: str
    tokens: int
    turns: int
    judge: Mapping[str, int | None]
    unjudged: str = ""


@dataclass(frozen=True, kw_only=True)
class Climb:
    """How far a program got, and its outcome of each answer, in order."""

    outcomes: list[Outcome]
    rung: str = ""
    problems: tuple[str, ...] = ()
    milliseconds: float = 0.0

    @property
    def valid(self) -> bool:
        return not self.rung


def smoke(program: RewardProgram, sandbox: Sandbox) -> Climb:
    """The rungs that need no pool: what can be read, and twenty odd answers. The outcomes are those
    of `SMOKE`, the rubric's scores being made up."""
    cases = smoke_cases(program)
    if problems := ladder.check(program):
        return _fallen("static", problems, cases)
    try:
        outcomes = _run(program, [_case(program, one) for one in cases], sandbox)
    except Breach as breach:
        return _fallen("smoke", [f"The program {breach}."], cases)
    problems = [
        f"Smoke case {case.id!r}: {one.error}."
        for case, one in zip(cases, outcomes, strict=True)
        if one.error is not None
    ]
    return Climb(outcomes=outcomes, rung="smoke" if problems else "", problems=tuple(problems))


def climb(
    program: RewardProgram,
    pool: Sequence[Answer],
    first: Sandbox,
    second: Sandbox,
    smoked: Climb | None = None,
) -> Climb:
    """All rungs; `smoked` is what `smoke` said, where it was asked before. The two sandboxes are
    two processes: both have to say the same."""
    smoked = smoked or smoke(program, first)
    if not smoked.valid:
        return _fallen(smoked.rung, smoked.problems, pool)
    scored = score(program, pool, first)
    return _agreeing(program, smoked, pool, scored, second) if scored.valid else scored


def score(program: RewardProgram, pool: Sequence[Answer], sandbox: Sandbox) -> Climb:
    """Only what it says of the pool: for a program that has climbed its ladder before."""
    asked = [one for one in pool if None not in one.judge.values()]
    try:
        found = iter(_run(program, [_case(program, one) for one in asked], sandbox))
    except Breach as breach:
        return _fallen("scoring", [f"The program {breach}."], pool)
    outcomes = [_unjudged(one) or next(found) for one in pool]
    failed = [
        (answer.id, one.error)
        for answer, one in zip(pool, outcomes, strict=True)
        if one.error is not None and _unjudged(answer) is None
    ]
    times = [one.milliseconds for one in outcomes if one.error is None]
    middle = round(statistics.median(times), 3) if times else 0.0
    if not failed:
        return Climb(outcomes=outcomes, milliseconds=middle)
    item, error = failed[0]
    problem = f"{len(failed)} of {len(pool)} answers were not scored; of answer {item}: {error}."
    return Climb(outcomes=outcomes, rung="scoring", problems=(problem,), milliseconds=middle)


def _agreeing(
    program: RewardProgram, smoked: Climb, pool: Sequence[Answer], scored: Climb, second: Sandbox
) -> Climb:
    """The rungs above scoring. The second sandbox gets everything in the opposite order."""
    judged = [one for one in pool if _unjudged(one) is None]
    cases = [_case(program, one) for one in (*smoke_cases(program), *judged)]
    before = [*smoked.outcomes, *(one for one in scored.outcomes if one.total is not None)]
    try:
        after = _run(program, cases[::-1], second)[::-1]
    except Breach as breach:
        return replace(scored, rung="determinism", problems=(f"The program {breach}.",))
    differing = [
        (one.total, other.total)
        for one, other in zip(before, after, strict=True)
        if (one.total, dict(one.components)) != (other.total, dict(other.components))
    ]
    if differing:
        one, other = differing[0]
        problem = (
            f"{len(differing)} of {len(before)} cases scored differently the second time"
            f" ({one!r}, then {other!r})."
        )
        return replace(scored, rung="determinism", problems=(problem,))
    if problem := degenerate(pool, scored.outcomes):
        return replace(scored, rung="pool", problems=(problem,))
    if scored.milliseconds > SLOW:
        problem = f"A call takes {scored.milliseconds:.0f} ms; {SLOW:.0f} ms are allowed."
        return replace(scored, rung="speed", problems=(problem,))
    return scored


def degenerate(pool: Sequence[Answer], outcomes: Sequence[Outcome]) -> str:
    """What is wrong where a program cannot tell a prompt's answers apart; "" where it can, or where
    no prompt has two answers."""
    totals: dict[tuple[str, int], list[float]] = {}
    for answer, one in zip(pool, outcomes, strict=True):
        if one.total is not None:
            totals.setdefault((answer.prompt, answer.turns), []).append(one.total)
    several = [found for found in totals.values() if len(found) > 1]
    apart = sum(statistics.pstdev(found) > SPREAD for found in several)
    if apart >= APART * len(several):
        return ""
    return (
        f"It scores all answers alike on {len(several) - apart} of {len(several)} prompts; it has"
        f" to tell them apart on {APART:.0%}."
    )


SMOKE: dict[str, tuple[str, str]] = {
    "empty answer": ("What is the capital of Peru?", ""),
    "empty prompt": ("", "Lima."),
    "both empty": ("", ""),
    "one character": ("Say a letter.", "a"),
    "one space": ("Say nothing.", " "),
    "plain": ("What is the capital of Peru?", "The capital of Peru is Lima."),
    "20,000 characters": ("Tell me a long story.", "Once upon a time. " * (LONG // 18)),
    "20,000 characters without a space": ("Count.", "1" * LONG),
    "only emoji": ("How are you?", "\U0001f600\U0001f44d\U0001f3fd\u200d\U0001f4bb\u2764\ufe0f"),
    "right to left": ("ما هي عاصمة بيرو؟", "عاصمة بيرو هي ليما. שלום."),
    "Chinese": ("秘鲁的首都是哪里？", "秘鲁的首都是利马。"),
    "combining marks": ("Spell it.", "e\u0301" * 200 + "Z" + "\u0335" * 300),
    "code block": (
        "Write a loop.",
        "Here:\n```python\nfor i in range(3):\n    print(i)\n```\n",
    ),
    "null bytes": ("What?", "a\x00b\x00\x00c\x1b[31m\x07"),
    "prompt repeated": ("Say it again.", "Say it again."),
    "only newlines": ("Go on.", "\n" * 500),
    "markdown": (
        "List three.",
        "# Three\n\n1. **one**\n2. _two_\n3. [three](http://x)\n\n|a|b|",
    ),
    "JSON": ("Give JSON.", '{"a": [1, 2.5, null, true], "b": {"c": "\\u00e9"}}'),
    "braces and percents": ("Format it.", "{0} {x.y} %s %d {{}} \\d+ (a+)+$ $1 ${x}"),
    "prompt of 20,000 characters": ("word " * (LONG // 5), "Yes."),
}


def smoke_cases(program: RewardProgram) -> list[Answer]:
    """Twenty odd answers, the rubric's scores going through 1 to 5."""
    return [
        Answer(
            id=name,
            prompt=prompt,
            response=response,
            tokens=len(response.split()),
            turns=1 + place % 3,
            judge={one.id: 1 + (place + at) % 5 for at, one in enumerate(program.rubric)},
        )
        for place, (name, (prompt, response)) in enumerate(SMOKE.items())
    ]


def _run(program: RewardProgram, cases: Sequence[Case], sandbox: Sandbox) -> list[Outcome]:
    """One outcome a case; a rubric alone needs no sandbox."""
    if program.kind == "rubric":
        return [rubric_mean(program, case.judge) for case in cases]
    return sandbox.score(program.code, cases)


def rubric_mean(program: RewardProgram, judge: Mapping[str, int]) -> Outcome:
    """The weighted mean of the criteria, each scaled to 0..1."""
    parts = {one.id: (judge[one.id] - 1) / 4 for one in program.rubric}
    weight = sum(one.weight for one in program.rubric)
    total = sum(one.weight * parts[one.id] for one in program.rubric) / weight
    return Outcome(total=total, components=parts)


def _case(program: RewardProgram, answer: Answer) -> Case:
    return Case(
        prompt=answer.prompt,
        response=answer.response,
        judge={name: level for name, level in answer.judge.items() if level is not None},
        meta={"params": dict(program.params), "tokens": answer.tokens, "turns": answer.turns},
    )


def _unjudged(answer: Answer) -> Outcome | None:
    if None not in answer.judge.values():
        return None
    return Outcome(total=None, error=answer.unjudged or "the judge gave no score")


def _fallen(rung: str, problems: Sequence[str], pool: Sequence[Answer]) -> Climb:
    """Without a score: one that may depend on which answers came first is none."""
    outcome = Outcome(total=None, error=problems[0])
    return Climb(outcomes=[outcome for _ in pool], rung=rung, problems=tuple(problems))
