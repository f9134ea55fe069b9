"""What a policy became: gold win rate, distance to the base, length, variety; its place in a cycle.

Held-out questions only, fresh answers at temperature 1. Every policy meets the same answers of the
base, each of its own against each of the base's to the same question.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from align import jobs
from align.demo.raters import STYLES
from align.jobs import ModelRef
from tests.bench.alignment import intervals, world
from tests.bench.alignment.workshop import Workshop, response
from tests.bench.alignment.world import BASE, Reply

SEED = 20_240_601  # of held-out draws: never a training seed
OPPONENTS = 8  # answers of the base to each question


@dataclass
class Ruler:
    """Held-out questions with the base's answers to them, drawn once."""

    workshop: Workshop
    questions: Sequence[str]
    answers: int = 4

    def __post_init__(self) -> None:
        drawn = self.workshop.draw(BASE, self.questions, OPPONENTS, 1.0, SEED)
        self.theirs = [self.utilities(q, row) for q, row in zip(self.questions, drawn, strict=True)]

    def measure(self, policy: ModelRef, seed: int) -> dict[str, Any]:
        """Figures of one policy."""
        drawn = self.workshop.draw(policy, self.questions, self.answers, 1.0, SEED + 1 + seed)
        replies = [reply for row in drawn for reply in row]
        styles = Counter(world.style(reply) for reply in replies)
        shares = [styles[k] / len(replies) for k in range(len(STYLES))]
        return {
            "gold_win_rate": self.against_base(drawn),
            "gold": fmean(
                u
                for q, row in zip(self.questions, drawn, strict=True)
                for u in self.utilities(q, row)
            ),
            **self.divergence(policy, drawn),
            "truth": fmean(
                world.truth(q, reply)
                for q, row in zip(self.questions, drawn, strict=True)
                for reply in row
            ),
            "tokens": fmean(len(reply.token_ids) for reply in replies),
            "truncated": fmean(reply.finish_reason == "length" for reply in replies),
            "distinct": distinct(drawn),
            "styles": dict(zip(STYLES, shares, strict=True)),
            "gap": intervals.duality_gap(shares, world.CYCLE.matrix),
        }

    def glance(self, policy: ModelRef, seed: int) -> dict[str, Any]:
        """The win rate alone, from one answer to each question."""
        drawn = self.workshop.draw(policy, self.questions, 1, 1.0, SEED + 1 + seed)
        return {"gold_win_rate": self.against_base(drawn)}

    def against_base(self, drawn: Sequence[Sequence[Reply]]) -> float:
        """Win rate of some answers to each question against the base's: the mean over questions."""
        mine = [self.utilities(q, row) for q, row in zip(self.questions, drawn, strict=True)]
        return fmean(intervals.win_rate(a, b) for a, b in zip(mine, self.theirs, strict=True))

    def utilities(self, question: str, replies: Sequence[Reply]) -> list[float]:
        return [world.gold(question, reply) for reply in replies]

    def divergence(self, policy: ModelRef, drawn: Sequence[Sequence[Reply]]) -> dict[str, float]:
        """KL(policy || base) in nats an answer by k1 and k3, from half of the fresh answers.

        k1 is the mean log-ratio; k3 the sum over tokens of e^d - d - 1, d = log base - log policy.
        """
        if policy == BASE:
            return {"kl": 0.0, "kl_k3": 0.0}
        items = [
            {"id": f"{i}:{k}", "messages": world.messages(q), "response": response(reply)}
            for i, (q, row) in enumerate(zip(self.questions, drawn, strict=True))
            for k, reply in enumerate(row[: max(1, self.answers // 2)])
        ]
        job = jobs.ScoreJob(policies={"policy": policy, "base": BASE}, batch_size=64, by_token=True)
        result = self.workshop.do(job, {jobs.ITEMS: items})
        rows = list(jobs.read_rows(result["folder"] / jobs.SCORES))
        return {
            "kl": fmean(row["logps"]["policy"] - row["logps"]["base"] for row in rows),
            "kl_k3": fmean(k3(row["token_logps"]) for row in rows),
        }


def k3(logps: Mapping[str, Sequence[float]]) -> float:
    pairs = zip(logps["policy"], logps["base"], strict=True)
    return sum(math.expm1(min(q - p, 80.0)) - (q - p) for p, q in pairs)


def distinct(drawn: Sequence[Sequence[Reply]]) -> float:
    """Share of answers that no other answer to the same question repeats word for word."""
    texts = [len({reply.text for reply in row}) for row in drawn]
    return sum(texts) / sum(len(row) for row in drawn)
