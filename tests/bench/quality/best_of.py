"""Gold against KL when the best of n answers is picked by a reward model: alone, or by a reading.

Answers are drawn once and scored once by every member; what the best of any n of them is worth
follows without drawing again (`align.measure.best_of_n`). The single model is each member in turn.
KL is a bound, and where answers repeat far below it, so both are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from align.measure import best_of_n, overoptimisation
from align.measure.intervals import Interval, over_groups
from tests.bench.alignment import world
from tests.bench.alignment.workshop import Workshop, response
from tests.bench.alignment.world import BASE
from tests.bench.quality import proxies
from tests.bench.quality.proxies import ALONE, Proxies

SEED = 77  # of the answers that are picked from
Marks = Sequence[Sequence[float]]  # of one prompt's answers, by each proxy of a name in turn


@dataclass(frozen=True)
class Answers:
    """One prompt's answers in one world: what is in them, what they are worth, and their scores,
    by reading; the single model's are each member's in turn."""

    texts: Sequence[str]
    gold: Sequence[float]
    scores: Mapping[str, Marks]


def drawn(
    workshop: Workshop, worlds: Sequence[Proxies], questions: Sequence[str], count: int
) -> list[dict[str, Answers]]:
    """`count` answers to each question, scored by the proxies of each world."""
    replies = workshop.draw(BASE, questions, count, 1.0, SEED)
    items = [
        {"id": f"{k}:{d}", "messages": world.messages(question), "response": response(reply)}
        for k, (question, row) in enumerate(zip(questions, replies, strict=True))
        for d, reply in enumerate(row)
    ]
    found = []
    for one in worlds:
        said = one.said(items)
        scores: dict[str, list[list[float]]] = {ALONE: said.T.tolist()}
        scores |= {name: [one.read(name, said)] for name in proxies.READINGS}
        found.append(
            {
                question: Answers(
                    [reply.text for reply in row],
                    [world.gold(question, reply) for reply in row],
                    {
                        name: [line[k * count : (k + 1) * count] for line in lines]
                        for name, lines in scores.items()
                    },
                )
                for k, (question, row) in enumerate(zip(questions, replies, strict=True))
            }
        )
    return found


def report(worlds: Sequence[Mapping[str, Answers]], answers: int) -> dict[str, Any]:
    """Gold against KL for every reading, with fits, and each reading against the single model.

    `apart`: the reading's interval at the largest n lies above the single model's; `paired`: that
    of the difference, prompt by prompt, lies above zero.
    """
    counts = [2**k for k in range(int(math.log2(answers)) + 1)]
    gains: dict[str, dict[str, list[float]]] = {}  # by reading and prompt: the mean over worlds
    by_world: dict[str, list[float]] = {}
    rows: list[dict[str, Any]] = []
    for name in (ALONE, *proxies.READINGS):
        found = [{prompt: gain(one[prompt], name, counts) for prompt in one} for one in worlds]
        by_world[name] = [fmean(line[-1] for line in one.values()) for one in found]
        gains[name] = {
            prompt: [fmean(parts) for parts in zip(*(one[prompt] for one in found), strict=True)]
            for prompt in worlds[0]
        }
        rows += [row(worlds, name, n, gains[name], at) for at, n in enumerate(counts)]
    distances = [math.sqrt(best_of_n.kl_bound(n)) for n in counts]
    readings = {}
    for name, lines in gains.items():
        fit = overoptimisation.fit("best_of_n", distances, list(lines.values()))
        readings[name] = {"gold": asdict(last(lines)), "fit": asdict(fit)}
        readings[name]["by_world"] = by_world[name]
        if name != ALONE:
            readings[name] |= against(lines, gains[ALONE])
    return {"answers": answers, "prompts": len(worlds[0]), "rows": rows, "readings": readings}


def gain(one: Answers, name: str, counts: Sequence[int]) -> list[float]:
    """What the best of n is worth above one answer, for each n."""
    start = fmean(one.gold)
    return [
        fmean(best_of_n.expected(marks, one.gold, n) for marks in one.scores[name]) - start
        for n in counts
    ]


def row(
    worlds: Sequence[Mapping[str, Answers]],
    name: str,
    n: int,
    gains: Mapping[str, Sequence[float]],
    at: int,
) -> dict[str, Any]:
    everything = [
        (one, marks) for found in worlds for one in found.values() for marks in one.scores[name]
    ]
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
