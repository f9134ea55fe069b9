"""From judged answers to examples to a trained policy: what every algorithm in the folder does."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from align.algorithm import MISMATCHED, Algorithm, Example
from align.gpu import train
from align.jobs import ModelRef
from align.margin import MarginAlgorithm
from align.pairing import RULES, Answer, Judged, Mark, Vote
from tests.align.batches import SIDES, VARIED, fact, of_pairs
from tests.align.conftest import do, metrics, response, train_job


def shapes() -> dict[str, Algorithm]:
    """The default settings, and those that ask for other answers, policies or figures."""
    found: dict[tuple[Any, ...], str] = {}
    for label, it in VARIED.items():
        key = (type(it), it.roles, it.references, it.divergences, it.probes, it.facts)
        found.setdefault(key, label)
    return {label: VARIED[label] for label in found.values()}


SHAPES = shapes()


@pytest.fixture(params=SHAPES)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return SHAPES[request.param]


def judged(algorithm: Algorithm, seed: int, *, scored: bool) -> Judged:
    """A prompt's answers as the algorithm asked for them, some cut off, some alike, judged."""
    rng = random.Random(seed)
    sources = [draw.source for draw in algorithm.draws(9, 1.0) for _ in range(draw.n)]
    sources += ["teacher"] * algorithm.teacher
    answers = [
        Answer(
            id=str(k),
            text=f"text {rng.randrange(2 * len(sources))}",
            tokens=rng.randrange(1, 40),
            truncated=rng.random() < 0.1,
            score=rng.choice([-1.0, 0.5, rng.gauss(0, 3)]) if scored else None,
            source=source,
        )
        for k, source in enumerate(sources)
    ]
    count = len(answers)
    votes = []
    for _ in range(rng.randrange(2 * count)):
        i, j = rng.sample(range(count), 2)
        votes.append(Vote(i, j, rng.choice([0.0, 0.25, 0.5, 1.0]), 4.0, rng.choice([0.0, 0.5])))
    votes = list({frozenset((v.i, v.j)): v for v in votes}.values())
    marks = [Mark(k, good=rng.random() < 0.5, weight=1.0) for k in range(count) if k % 3 == 0]
    return Judged("prompt", tuple(answers), tuple(votes), tuple(marks))


def found_examples(algorithm: Algorithm) -> list[tuple[Judged, list[Example]]]:
    """Of many prompts: by its own rule and by all others from scores, by "voted" without them."""
    settings = [(True, rule) for rule in RULES] + [(False, "voted")]
    prompts = [
        (judged(algorithm, seed, scored=scored), rule)
        for seed in range(15)
        for scored, rule in settings
    ]
    return [(data, algorithm.examples(data, rule, 0)) for data, rule in prompts]


def test_examples_name_answers_by_role_and_carry_the_figures(algorithm: Algorithm) -> None:
    drawn = [role for role in algorithm.probes if role != MISMATCHED]
    made = found_examples(algorithm)
    assert sum(len(examples) for _, examples in made) > 50
    for data, examples in made:
        for example in examples:
            assert set(example.answers) == {*algorithm.roles, *drawn}
            assert all(0 <= index < len(data.answers) for index in example.answers.values())
            assert ("rejected" in example.answers) / 2 <= example.p <= 1
            assert math.isfinite(example.weight)
            assert example.weight > 0
            carried = set(example.facts) - {"tie"}
            assert carried >= set(algorithm.facts)
            assert carried <= {*algorithm.facts, *algorithm.written}
            assert all(math.isfinite(value) for value in example.facts.values())
            win_rates = [v for name, v in example.facts.items() if name.startswith("win.")]
            assert all(0 <= value <= 1 for value in win_rates)


def test_what_is_held_up_was_never_cut_off(algorithm: Algorithm) -> None:
    for data, examples in found_examples(algorithm):
        for example in examples:
            if "chosen" in example.answers:
                assert not data.answers[example.answers["chosen"]].truncated
            elif len(example.answers) == 1 and example.p > 0.5:
                (only,) = example.answers.values()
                assert not data.answers[only].truncated


@pytest.mark.parametrize("label", of_pairs(SHAPES))
def test_a_text_never_meets_itself(label: str) -> None:
    algorithm = SHAPES[label]
    for data, examples in found_examples(algorithm):
        for example in examples:
            texts = {data.answers[example.answers[role]].text for role in SIDES}
            assert len(texts) == 2


def test_the_same_seed_gives_the_same_examples(algorithm: Algorithm) -> None:
    assert found_examples(algorithm) == found_examples(algorithm)


def test_nothing_judged_makes_no_examples(algorithm: Algorithm) -> None:
    for rule in RULES:
        assert algorithm.examples(Judged("prompt", ()), rule, 0) == []


def test_every_prompt_gets_the_answers_that_were_asked_for(algorithm: Algorithm) -> None:
    for temperature in (0.7, 1.0):
        draws = algorithm.draws(4, temperature)
        assert sum(draw.n for draw in draws) >= 4
        assert len({draw.source for draw in draws}) == len(draws)
        for draw in draws:
            assert 0 <= draw.temperature <= temperature
            assert 0 < draw.top_p <= 1
            assert (draw.model == "mixture") == (draw.initial_share > 0)


# The trainer --------------------------------------------------------------------------------------


def rows(algorithm: Algorithm) -> list[dict[str, Any]]:
    """Rows of examples.jsonl with every role and figure."""
    roles = [role for role in (*algorithm.roles, *algorithm.probes) if role != MISMATCHED]
    drawn = torch.Generator().manual_seed(0)
    figures = {name: fact(name, 1, drawn).item() for name in algorithm.facts}
    return [
        {
            "id": f"row-{n}",
            "messages": [{"role": "user", "content": f"question {n}"}],
            "responses": {role: response(role * (n + 1)) for role in roles},
            "p": 1.0,
            "facts": {"tie": 0.0, **figures},
            "weight": 1.0,
        }
        for n in range(3)
    ]


def test_the_trainer_runs_it(
    algorithm: Algorithm,
    rundir: Callable[..., Path],
    tiny_base: Path,
    other_base: Path,
) -> None:
    name = type(algorithm).__module__.rpartition(".")[2]
    start, other = ModelRef(base=str(tiny_base)), ModelRef(base=str(other_base))
    asked = {*algorithm.references, *algorithm.divergences}
    job = replace(
        train_job(tiny_base, epochs=2, learning_rate=1e-3),
        algorithm=name,
        knobs=asdict(algorithm),
        references={n: other if n in algorithm.divergences else start for n in sorted(asked)},
    )
    folder = rundir(job, examples=rows(algorithm))
    found = do(train.work, folder)
    assert (found["steps"], found["examples"], found["dropped"]) == (2, 3, 0)
    first, last = metrics(folder)
    assert math.isfinite(last["loss"])
    assert first["grad_norm"] > 0
    assert {f"drift/{role}" for role in algorithm.roles} <= first.keys()
    if isinstance(algorithm, MarginAlgorithm) and "rewards/margins" in first:
        assert first["rewards/chosen"] == pytest.approx(0, abs=1e-4)
