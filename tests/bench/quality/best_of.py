"""Gold against KL when the best of n answers is picked by a reward model: alone, or by a reading.

Answers are drawn once and scored once by every member of a few worlds; what the best of any n of
them is worth follows without drawing again (`align.measure.best_of_n`). The single model is each
member in turn. KL is a bound, and where answers repeat far below it, so both are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from align.measure import best_of_n, overoptimisation
from align.measure.intervals import Interval, over_groups
from tests.bench.alignment import intervals as across
from tests.bench.alignment import world
from tests.bench.alignment.workshop import Workshop, response
from tests.bench.alignment.world import BASE, Reply
from tests.bench.quality import proxies
from tests.bench.quality.proxies import ALONE, Proxies

SEED = 77  # of the answers that are picked from
PORTION = 20  # questions that are drawn at a time: a bench that was stopped goes on from there
Marks = list[list[float]]  # of one prompt's answers, by each proxy of a name in turn


@dataclass(frozen=True)
class Answers:
    """One prompt's answers: what is in them, what they are worth, and their scores by reading,
    world after world; the single model's are each member's in turn."""

    texts: Sequence[str]
    gold: Sequence[float]
    scores: Mapping[str, Marks]
    worlds: Sequence[int] = (0,)


def drawn(
    workshop: Workshop, worlds: Sequence[Proxies], questions: Sequence[str], count: int, each: int
) -> dict[str, Answers]:
    """`count` answers to each question, judged in `each` of the worlds, in turn by question."""
    replies = drawn_in_portions(workshop, questions, count)
    found = {
        question: Answers(
            [reply.text for reply in row],
            [world.gold(question, reply) for reply in row],
            {name: [] for name in (ALONE, *proxies.READINGS)},
            sorted((k + step) % len(worlds) for step in range(each)),
        )
        for k, (question, row) in enumerate(zip(questions, replies, strict=True))
    }
    for place, judges in enumerate(worlds):
        mine = [
            (question, row)
            for question, row in zip(questions, replies, strict=True)
            if place in found[question].worlds
        ]
        items = [
            {"id": f"{k}:{d}", "messages": world.messages(question), "response": response(reply)}
            for k, (question, row) in enumerate(mine)
            for d, reply in enumerate(row)
        ]
        said = judges.said(items)
        scores: dict[str, list[list[float]]] = {ALONE: said.T.tolist()}
        scores |= {name: [judges.read(name, said)] for name in proxies.READINGS}
        for k, (question, _) in enumerate(mine):
            part = slice(k * count, (k + 1) * count)
            for name, lines in scores.items():
                more = [line[part] for line in lines]
                found[question].scores[name].extend(more)
    return found


def drawn_in_portions(
    workshop: Workshop, questions: Sequence[str], count: int
) -> list[list[Reply]]:
    """`count` answers of the base to each question."""
    return [
        row
        for at in range(0, len(questions), PORTION)
        for row in workshop.draw(BASE, questions[at : at + PORTION], count, 1.0, SEED + at)
    ]


def report(found: Mapping[str, Answers], answers: int) -> dict[str, Any]:
    """Gold against KL for every reading, with fits, and each reading against the single model.

    `apart`: the reading's interval at the largest n lies above the single model's; `paired`: that
    of the difference, prompt by prompt, lies above zero. `over_worlds`: the same difference with
    worlds for the sample, of which there are few.
    """
    counts = [2**k for k in range(int(math.log2(answers)) + 1)]
    distances = [math.sqrt(best_of_n.kl_bound(n)) for n in counts]
    gains: dict[str, dict[str, list[float]]] = {}  # by reading and prompt, for each n
    rows: list[dict[str, Any]] = []
    readings: dict[str, dict[str, Any]] = {}
    for name in (ALONE, *proxies.READINGS):
        lines = {prompt: gain(one, name, counts) for prompt, one in found.items()}
        gains[name] = lines
        rows += [row(found, name, n, lines, at) for at, n in enumerate(counts)]
        fit = overoptimisation.fit("best_of_n", distances, list(lines.values()))
        readings[name] = {"gold": asdict(last(lines)), "fit": asdict(fit)}
        if name != ALONE:
            readings[name] |= against(lines, gains[ALONE])
    by_world = {name: worldly(found, name, answers) for name in gains}
    for name, one in by_world.items():
        readings[name]["by_world"] = one
        if name != ALONE:
            gap = across.difference(one, by_world[ALONE])
            readings[name]["over_worlds"] = asdict(gap)
    return {
        "answers": answers,
        "prompts": len(found),
        "rows": rows,
        "readings": readings,
    }


def gain(one: Answers, name: str, counts: Sequence[int]) -> list[float]:
    """What the best of n is worth above one answer, for each n."""
    start = fmean(one.gold)
    return [
        fmean(best_of_n.expected(marks, one.gold, n) for marks in one.scores[name]) - start
        for n in counts
    ]


def worldly(found: Mapping[str, Answers], name: str, n: int) -> list[float]:
    """What the best of n is worth above one answer in each world, over the prompts it judged."""
    worlds: dict[int, list[float]] = {}
    for one in found.values():
        start, marks = fmean(one.gold), one.scores[name]
        size = len(marks) // len(one.worlds)
        for at, place in enumerate(one.worlds):
            part = marks[at * size : (at + 1) * size]
            worth = fmean(best_of_n.expected(line, one.gold, n) for line in part)
            worlds.setdefault(place, []).append(worth - start)
    return [fmean(worlds[place]) for place in sorted(worlds)]


def row(
    found: Mapping[str, Answers],
    name: str,
    n: int,
    gains: Mapping[str, Sequence[float]],
    at: int,
) -> dict[str, Any]:
    everything = [(one, marks) for one in found.values() for marks in one.scores[name]]
    kl = fmean(best_of_n.kl_of_samples(one.texts, marks, n) for one, marks in everything)
    return {
        "reading": name,
        "n": n,
        "d_bound": math.sqrt(best_of_n.kl_bound(n)),
        "d": math.sqrt(max(0.0, kl)),
        "gold": asdict(mean_of({prompt: line[at] for prompt, line in gains.items()})),
        "proxy": fmean(proxy_gain(marks, n) for _, marks in everything),
        "win_rate": fmean(best_of_n.win_rate(marks, one.gold, n) for one, marks in everything),
    }


def proxy_gain(marks: Sequence[float], n: int) -> float:
    """What the best of n is worth by the very scores that picked it."""
    return best_of_n.expected(marks, marks, n) - fmean(marks)


def against(
    ours: Mapping[str, Sequence[float]], single: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    gap = mean_of({prompt: line[-1] - single[prompt][-1] for prompt, line in ours.items()})
    return {
        "against_single": asdict(gap),
        "apart": last(ours).low > last(single).high,
        "paired": gap.low > 0,
    }


def last(lines: Mapping[str, Sequence[float]]) -> Interval:
    """At the largest n."""
    return mean_of({prompt: line[-1] for prompt, line in lines.items()})


def mean_of(values: Mapping[str, float]) -> Interval:
    def figure(rows: Sequence[Sequence[float]]) -> float:
        return fmean(row[0] for row in rows)

    found = over_groups({key: [value] for key, value in values.items()}, figure)
    assert found is not None, "there are prompts"
    return found
