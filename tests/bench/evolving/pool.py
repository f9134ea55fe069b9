"""Answers of the demo's base to questions, the features that tastes are made of, and tastes.

A hidden taste is linear in features of an answer: of its surface, or of what a rubric's judge would
say. People are proxies: they rank by the taste with Gumbel noise, so every pair is as Bradley and
Terry have it. Nobody that learns sees a feature's weight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

from align import seeded_writer
from align.demo import prompts, raters
from align.icpl.arms import Ranking
from align.programs import RewardProgram
from tests.bench.alignment import world
from tests.bench.alignment.workshop import Workshop
from tests.bench.alignment.world import BASE, Reply

SURFACE = tuple(seeded_writer.TERMS)
CRITERIA = tuple(seeded_writer.CRITERIA)
NOISE = 0.5  # of a proxy's Gumbel noise, in standard deviations of the taste within a prompt
WEIGHED = 4  # features in a taste


@dataclass
class Prompt:
    """A question with its different answers: texts, features, and what a rubric says of them."""

    question: str
    replies: list[Reply]
    features: list[dict[str, float]]
    levels: list[dict[str, int]]
    scores: dict[str, list[float]] = field(default_factory=dict)  # by a program's hash


def drawn(workshop: Workshop, part: str, count: int, answers: int, seed: int) -> list[Prompt]:
    """Questions that got at least six different answers."""
    questions = prompts.texts(part)
    random.Random(f"icpl:{seed}").shuffle(questions)
    asked = questions[:count]
    found = []
    for question, replies in zip(
        asked, workshop.draw(BASE, asked, answers, 1.0, seed), strict=True
    ):
        kept = [replies[k] for k in world.different(replies) if replies[k].text.strip()]
        if len(kept) >= 6:
            found.append(told(question, kept))
    return found


def told(question: str, replies: Sequence[Reply]) -> Prompt:
    """Features by the seeded writer's own expressions; criteria as a judge that errs a little."""
    whole = seeded_writer.build(dict.fromkeys(SURFACE, 1.0), {})
    made = Prompt(question, list(replies), [], [])
    for number, reply in enumerate(replies):
        seen = raters.features(world.messages(question), reply.text)
        rng = random.Random(f"judge:{question}:{number}:{reply.text}")
        raw = {
            "helpful": 0.6 * seen["truth"] + 0.4 * seen["plainness"],
            "true": seen["truth"],
            "kind": seen["politeness"],
        }
        levels = {
            name: min(5, max(1, round(3 + 2 * value + rng.gauss(0, 0.4))))
            for name, value in raw.items()
        }
        made.levels.append(levels)
        parts = run(whole, question, reply.text, levels)["components"]
        parts |= {name: (level - 3) / 2 for name, level in levels.items()}
        made.features.append(parts)
    return made


_COMPILED: dict[str, Any] = {}


def run(program: RewardProgram, question: str, text: str, levels: Mapping[str, int]) -> Any:
    """What a program of the seeded writer says. Run here and without walls: it is our own code."""
    key = program.code
    if key not in _COMPILED:
        space: dict[str, Any] = {}
        exec(compile(key, "program", "exec"), space)
        _COMPILED[key] = space["compute_reward"]
    meta = {"params": dict(program.params), "tokens": len(text.split()), "turns": 1}
    return _COMPILED[key](question, text, dict(levels), meta)


def scored(program: RewardProgram, prompt: Prompt) -> list[float]:
    """The totals of a prompt's answers, computed once."""
    if program.sha256 not in prompt.scores:
        prompt.scores[program.sha256] = [
            run(program, prompt.question, one.text, levels)["total"]
            for one, levels in zip(prompt.replies, prompt.levels, strict=True)
        ]
    return prompt.scores[program.sha256]


@dataclass(frozen=True)
class Taste:
    """Weights of features, and the noise of who has it."""

    name: str
    weights: Mapping[str, float]
    noise: float

    def of(self, features: Mapping[str, float]) -> float:
        return sum(weight * features[name] for name, weight in self.weights.items())

    def rank(
        self, rng: random.Random, prompt: Prompt, shown: Sequence[int]
    ) -> tuple[tuple[int, ...], ...]:
        """A proxy's full order of some answers, best first."""
        perceived = {
            k: self.of(prompt.features[k])
            - self.noise * math.log(-math.log(min(max(rng.random(), 1e-12), 1 - 1e-12)))
            for k in shown
        }
        return tuple((k,) for k in sorted(shown, key=lambda k: -perceived[k]))


def taste(kind: str, seed: int, some: Sequence[Prompt]) -> Taste:
    """Four features drawn by chance, each weighed so that it matters as much as its draw says; of
    kind "criteria" three of them are a rubric's."""
    rng = random.Random(f"taste:{kind}:{seed}")
    spread = {
        name: fmean(pstdev([one[name] for one in prompt.features]) for prompt in some)
        for name in (*SURFACE, *CRITERIA)
    }
    known = [name for name in SURFACE if spread[name] > 0.01]
    names = rng.sample(known, WEIGHED if kind == "surface" else 1)
    names += [] if kind == "surface" else [name for name in CRITERIA if spread[name] > 0.01]
    weights = {name: rng.choice((-1, 1)) * rng.uniform(0.5, 1.5) / spread[name] for name in names}
    quiet = Taste("", weights, 0.0)
    scale = fmean(pstdev([quiet.of(one) for one in prompt.features]) for prompt in some)
    return Taste(f"{kind} {seed}", weights, NOISE * scale)


def agreement(scores: Sequence[Sequence[float]], told_by: Taste, some: Sequence[Prompt]) -> float:
    """How many pairs of answers to a prompt are ordered as the taste orders them, half for a tie;
    the mean over prompts."""
    shares = []
    for values, prompt in zip(scores, some, strict=True):
        gold = [told_by.of(one) for one in prompt.features]
        right, count = 0.0, 0
        for i in range(len(gold)):
            for j in range(i):
                if abs(gold[i] - gold[j]) < 1e-9:
                    continue
                count += 1
                gap = values[i] - values[j]
                right += 0.5 if not gap else float((gap > 0) == (gold[i] > gold[j]))
        if count:
            shares.append(right / count)
    return fmean(shares)


def as_arms(
    order: Sequence[Sequence[int]], picked: Mapping[int, Sequence[int]], name: str
) -> Ranking:
    """An order of answers as one of the programs that picked them."""
    groups = tuple(tuple(arm for k in group for arm in picked.get(k, ())) for group in order)
    return Ranking(name, tuple(group for group in groups if group))
