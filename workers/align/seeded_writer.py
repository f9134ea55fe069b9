"""A writer of reward programs that needs no language model: for tests, the demo and the bench.

Its programs weigh features of an answer's surface and, where a rubric is scored, a few criteria.
The first ones differ by emphasis; later ones are the good program with its weights moved, away from
the bad one too, and a term added or dropped. The same seed and parents give the same program.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from align.programs import Criterion, RewardProgram

MOST_TERMS = 8
LENGTH = 2.0  # of the vector of weights, whatever their number
_PHRASES = '["thank", "please", "happy to", "welcome", "glad", "hope this", "good question"]'
_ORNATE = '["golden", "radiant", "glorious", "behold", "velvet", "dream", "sacred", "whisper"]'
_HEDGES = '["maybe", "perhaps", "might", "probably", "i think", "not sure", "it depends"]'


@dataclass(frozen=True)
class Term:
    """A feature between -1 and 1 as an expression, which may name `scale`, its temperature."""

    expression: str
    scale: float = 0.0


TERMS: Mapping[str, Term] = {
    "brevity": Term("math.exp(-len(words) / {scale})", 25.0),
    "detail": Term("math.tanh(len(sentences) / {scale})", 4.0),
    "politeness": Term(f"math.tanh(found({_PHRASES}, low) / {{scale}})", 1.0),
    "lists": Term("math.tanh(len(items) / {scale})", 2.0),
    "plainness": Term(f"math.exp(-found({_ORNATE}, low) / {{scale}})", 1.0),
    "certainty": Term(f"math.exp(-found({_HEDGES}, low) / {{scale}})", 1.0),
    "grounding": Term("len([w for w in asked if w in words]) / (len(asked) + 1)"),
    "variety": Term("len(set(words)) / (len(words) + 1)"),
    "ending": Term('1.0 if response.rstrip()[-1:] in [".", "!", "?"] else 0.0'),
    "exclamation": Term('math.tanh(response.count("!") / {scale})', 1.0),
    "questions": Term('math.tanh(response.count("?") / {scale})', 1.0),
    "figures": Term('math.tanh(len(re.findall("[0-9]", response)) / {scale})', 4.0),
}
CRITERIA: Mapping[str, str] = {
    "helpful": "Does the answer help with what was asked?",
    "true": "Is what the answer says true?",
    "kind": "Does the answer speak kindly to the person?",
}
STARTS: Mapping[str, Mapping[str, float]] = {
    "concise": {"brevity": 1.0, "certainty": 0.4, "helpful": 0.4},
    "complete": {"detail": 1.0, "variety": 0.4, "helpful": 0.8},
    "tone": {"politeness": 1.0, "exclamation": 0.3, "kind": 0.8},
    "grounding": {"grounding": 1.0, "certainty": 0.4, "true": 0.8},
    "structure": {"lists": 1.0, "ending": 0.5, "helpful": 0.4},
    "free": {},
}
_HEAD = """\
import math
import re


def found(phrases, text):
    return len([one for one in phrases if one in text])


def compute_reward(prompt, response, judge, meta):
    p = meta["params"]
    low = response.lower()
    words = re.findall("[a-z0-9']+", low)
    asked = [w for w in re.findall("[a-z0-9']+", prompt.lower()) if len(w) > 3]
    sentences = [s for s in re.split("[.!?]", response) if s.strip()]
    items = [line for line in response.split("\\n") if line.startswith("- ")]
    components = {}
"""
_TAIL = """\
    return {"total": sum(components.values()), "components": components}
"""


def write(
    seed: int,
    emphasis: str,
    good: RewardProgram | None = None,
    bad: RewardProgram | None = None,
    *,
    rubric: bool = False,
) -> RewardProgram:
    """A first program of the emphasis, or the next one after `good`."""
    rng = random.Random(f"writer:{seed}:{emphasis}")
    known = [*TERMS, *(CRITERIA if rubric else ())]
    if good is None:
        found = _begun(rng, emphasis, known)
    else:
        found = _moved(rng, emphasis, weights(good), weights(bad) if bad else {}, known)
    scales = {
        name: _scale(rng, name, good) for name in found if name in TERMS and TERMS[name].scale
    }
    return build(found, scales)


def build(weighed: Mapping[str, float], scales: Mapping[str, float]) -> RewardProgram:
    """The program that sums weight times feature, terms in a fixed order."""
    lines, params = [], {}
    for name in [one for one in (*TERMS, *CRITERIA) if one in weighed]:
        params[f"{name}_weight"] = round(weighed[name], 4)
        if name in CRITERIA:
            value = f'(judge["{name}"] - 3) / 2'
        else:
            value = TERMS[name].expression.replace("{scale}", f'p["{name}_scale"]')
            if TERMS[name].scale:
                params[f"{name}_scale"] = round(scales.get(name, TERMS[name].scale), 4)
        lines.append(f'    components["{name}"] = p["{name}_weight"] * ({value})\n')
    criteria = tuple(
        Criterion(
            id=name,
            question=question,
            anchors={"1": "Not at all", "3": "In part", "5": "Fully"},
        )
        for name, question in CRITERIA.items()
    )
    asked = any(name in weighed for name in CRITERIA)
    return RewardProgram(
        kind="hybrid" if asked else "code",
        code=_HEAD + "".join(lines) + _TAIL,
        rubric=criteria if asked else (),
        params=params,
    )


def weights(program: RewardProgram) -> dict[str, float]:
    """By term, what a program of this writer weighs it with; {} of anybody else's."""
    return {
        name: float(program.params[f"{name}_weight"])
        for name in (*TERMS, *CRITERIA)
        if f"{name}_weight" in program.params
    }


def reply(program: RewardProgram) -> str:
    """As a language model would send it."""
    rubric = [
        {"id": one.id, "question": one.question, "anchors": dict(one.anchors)}
        for one in program.rubric
    ]
    data = {
        "kind": program.kind,
        "code": program.code,
        "rubric": rubric,
        "params": dict(program.params),
    }
    return f"```json\n{json.dumps(data, indent=1)}\n```"


def describe(before: RewardProgram, after: RewardProgram) -> str:
    """One sentence on what the second rewards more and less than the first."""
    old, new = weights(before), weights(after)
    moved = {name: new.get(name, 0.0) - old.get(name, 0.0) for name in {*old, *new}}
    order = sorted(moved, key=lambda name: (-abs(moved[name]), name))
    more = [name for name in order if moved[name] > 0.05][:3]
    less = [name for name in order if moved[name] < -0.05][:3]
    parts = [f"{', '.join(more)} more"] * bool(more) + [f"{', '.join(less)} less"] * bool(less)
    return f"It rewards {' and '.join(parts)}." if parts else "It hardly changed."


def _begun(rng: random.Random, emphasis: str, known: list[str]) -> dict[str, float]:
    found = {name: w for name, w in STARTS[emphasis].items() if name in known}
    others = [name for name in known if name not in found]
    for name in rng.sample(others, 1 if found else 3):
        found[name] = rng.choice((-1, 1)) * rng.uniform(0.2, 0.6)
    return _scaled(found)


def _moved(
    rng: random.Random,
    emphasis: str,
    good: Mapping[str, float],
    bad: Mapping[str, float],
    known: list[str],
) -> dict[str, float]:
    """The good weights, some way further from the bad ones, with noise and another term."""
    away, noise = rng.uniform(0.0, 0.5), rng.uniform(0.1, 0.6)
    found = {
        name: value + away * (value - bad.get(name, 0.0)) + rng.gauss(0, noise)
        for name, value in good.items()
        if name in known
    }
    new = [name for name in known if name not in found]
    liked = [name for name in STARTS[emphasis] if name in new]
    if new and rng.random() < 0.7:
        name = rng.choice(liked) if liked and rng.random() < 0.5 else rng.choice(new)
        found[name] = rng.choice((-1, 1)) * rng.uniform(0.3, 1.2)
    while len(found) > MOST_TERMS or (len(found) > 2 and rng.random() < 0.2):
        found.pop(min(sorted(found), key=lambda name: abs(found[name])))
    return _scaled(found)


def _scaled(found: Mapping[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(value * value for value in found.values())) or 1.0
    return {name: LENGTH * value / length for name, value in found.items()}


def _scale(rng: random.Random, name: str, good: RewardProgram | None) -> float:
    usual = TERMS[name].scale
    before = float(good.params.get(f"{name}_scale", usual)) if good else usual
    moved = before * math.exp(rng.gauss(0, 0.15))
    return min(max(moved, usual / 4), usual * 4)
