"""What a score follows besides quality: how long an answer is, and how it is dressed.

Scores are known only up to a shift a prompt, so everything is first centred by prompt: the
correlation is between being longer than the other answers and being scored above them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from align.measure.intervals import RESAMPLES, Interval, over_groups

STYLES: Mapping[str, re.Pattern[str]] = {
    "list items": re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE),
    "headings": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*"),
    "exclamation marks": re.compile(r"!"),
    "questions": re.compile(r"\?"),
    "digits": re.compile(r"\d"),
}


@dataclass(frozen=True)
class Scored:
    """An answer with its score and its length in tokens (or whatever counts)."""

    prompt: str
    text: str
    score: float
    length: float


def style(text: str) -> dict[str, float]:
    """How often an answer uses each mark."""
    return {name: float(len(mark.findall(text))) for name, mark in STYLES.items()}


def length_correlation(answers: Sequence[Scored]) -> Interval | None:
    """Pearson's correlation of score and length, centred by prompt; None where nothing varies."""
    return _correlation(answers, lambda answer: answer.length)


def length_change(
    ours: Sequence[Scored], theirs: Sequence[Scored], resamples: int = RESAMPLES
) -> Interval | None:
    """Our correlation with length less theirs, on the same answers in the same order."""
    groups: dict[str, list[tuple[Scored, Scored]]] = {}
    for a, b in zip(ours, theirs, strict=True):
        assert (a.prompt, a.length) == (b.prompt, b.length), "the same answers"
        groups.setdefault(a.prompt, []).append((a, b))
    points = {
        prompt: list(
            zip(
                centred([a.score for a, _ in found]),
                centred([b.score for _, b in found]),
                centred([a.length for a, _ in found]),
                strict=True,
            )
        )
        for prompt, found in groups.items()
        if len(found) > 1
    }

    def gap(rows: Sequence[Sequence[tuple[float, float, float]]]) -> float | None:
        flat = [point for row in rows for point in row]
        lengths = [point[2] for point in flat]
        mine = pearson([point[0] for point in flat], lengths)
        yours = pearson([point[1] for point in flat], lengths)
        return None if mine is None or yours is None else mine - yours

    return over_groups(points, gap, resamples)


def style_correlations(answers: Sequence[Scored]) -> dict[str, Interval]:
    """The same for each mark of style that varies."""
    found = {}
    for name, mark in STYLES.items():

        def count(answer: Scored, mark: re.Pattern[str] = mark) -> float:
            return float(len(mark.findall(answer.text)))

        one = _correlation(answers, count)
        if one is not None:
            found[name] = one
    return found


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """None where either does not vary."""
    a, b = centred(x), centred(y)
    scale = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
    return sum(p * q for p, q in zip(a, b, strict=True)) / scale if scale > 1e-12 else None


def centred(values: Sequence[float]) -> list[float]:
    mean = fmean(values)
    return [value - mean for value in values]


def kendall(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Concordant less discordant pairs, and the root of pairs untied in x times untied in y: tau-b
    is their quotient, and sums over prompts give a pooled one."""
    agree, in_x, in_y = 0, 0, 0
    for i in range(len(x)):
        for j in range(i):
            a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
            agree += a * b
            in_x += a != 0
            in_y += b != 0
    return float(agree), math.sqrt(in_x * in_y)


def _correlation(answers: Sequence[Scored], of: Callable[[Scored], float]) -> Interval | None:
    prompts: dict[str, list[Scored]] = {}
    for answer in answers:
        prompts.setdefault(answer.prompt, []).append(answer)
    groups = {
        prompt: list(
            zip(
                centred([answer.score for answer in found]),
                centred([of(answer) for answer in found]),
                strict=True,
            )
        )
        for prompt, found in prompts.items()
        if len(found) > 1
    }

    def pooled(rows: Sequence[Sequence[tuple[float, float]]]) -> float | None:
        flat = [point for row in rows for point in row]
        return pearson([a for a, _ in flat], [b for _, b in flat])

    return over_groups(groups, pooled)
