"""The rungs of the ladder that run a program: what it falls from, and that it says why."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import pytest

from align import climbing, walls
from align.climbing import Answer
from align.programs import Criterion, RewardProgram
from align.sandbox import Outcome, Sandbox, WalledSandbox
from tests.align.hostile import inside

CRITERIA = tuple(
    Criterion(id=name, question=f"Is it {name}?", weight=weight)
    for name, weight in (("kind", 2.0), ("clear", 1.0), ("right", 1.0))
)
POOL = [
    Answer(
        id=f"{prompt}-{place}",
        prompt=f"Question {prompt}",
        response="word " * (prompt + place),
        tokens=prompt + place,
        turns=1,
        judge={},
    )
    for prompt in range(5)
    for place in range(4)
]


@pytest.fixture(scope="module")
def boxes():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt: bubblewrap)")
    with walls.standing({}) as wall, WalledSandbox(wall) as first, WalledSandbox(wall) as second:
        yield first, second


def program(body: str, **params: float) -> RewardProgram:
    return RewardProgram(kind="code", code=inside(body), params=params)


def returning(total: str) -> RewardProgram:
    return program(f"return {{'total': {total}, 'components': {{}}}}")


def test_there_are_twenty_smoke_cases_and_each_is_another():
    cases = climbing.smoke_cases(RewardProgram(rubric=CRITERIA))
    assert len(cases) == len({(one.prompt, one.response) for one in cases}) == 20
    assert max(len(one.response) for one in cases) >= 20_000
    assert any("\x00" in one.response for one in cases)
    assert {level for one in cases for level in one.judge.values()} == {1, 2, 3, 4, 5}


def test_a_program_that_climbs_to_the_top_has_a_score_of_every_answer(boxes):
    found = climbing.climb(returning("min(len(response), 500) / 10"), POOL, *boxes)
    assert (found.valid, found.rung, found.problems) == (True, "", ())
    assert [one.total for one in found.outcomes] == [len(one.response) / 10 for one in POOL]
    assert found.milliseconds > 0


@pytest.mark.parametrize(
    ("made", "rung", "said"),
    [
        (returning("eval('1')"), "static", "Line 2: the name eval may not be used."),
        (returning("1 / len(response)"), "smoke", "Smoke case 'empty answer': ZeroDivisionError"),
        (returning("len(response) / 10"), "smoke", "Smoke case '20,000 characters': total is"),
        (program("return 1.0"), "smoke", "Smoke case 'empty answer': compute_reward has to return"),
        (program("while True:\n    pass"), "smoke", "The program computed for longer than 2 s."),
        (returning("1 / (len(response) - 10)"), "scoring", "3 of 20 answers were not scored; of"),
        (returning("1.0"), "pool", "It scores all answers alike on 5 of 5 prompts; it has to tell"),
        (returning("min(len(response), 5) / 9"), "pool", "It scores all answers alike on 4 of 5"),
    ],
)
def test_a_program_falls_where_it_should_and_says_why(boxes, made, rung, said):
    found = climbing.climb(made, POOL, *boxes)
    assert (found.valid, found.rung) == (False, rung)
    assert found.problems[0].startswith(said), found.problems


def test_a_rubric_alone_is_the_weighted_mean_and_needs_no_sandbox():
    rubric = RewardProgram(kind="rubric", rubric=CRITERIA)
    pool = [
        replace(one, judge={"kind": 5, "clear": 1 + place % 5, "right": 1})
        for place, one in enumerate(POOL)
    ]
    found = climbing.climb(rubric, pool, Nowhere(), Nowhere())
    assert found.valid, found.problems
    assert found.outcomes[2].total == (2 * 1.0 + 0.5 + 0) / 4
    assert found.outcomes[2].components == {"kind": 1.0, "clear": 0.5, "right": 0.0}


def test_an_answer_whose_rubric_is_unknown_has_no_score_and_the_program_may_still_be_valid(boxes):
    hybrid = RewardProgram(
        code=inside("return {'total': judge['kind'] / 5, 'components': {}}"), rubric=CRITERIA
    )
    pool = [
        replace(one, judge={"kind": 1 + place % 4, "clear": 1, "right": 1})
        for place, one in enumerate(POOL)
    ]
    pool[3] = replace(pool[3], judge={"kind": None, "clear": None, "right": None}, unjudged="away")
    found = climbing.climb(hybrid, pool, *boxes)
    assert found.valid, found.problems
    assert found.outcomes[3].total is None
    assert found.outcomes[3].error == "away"
    assert [one.total for one in found.outcomes[4:7]] == [0.2, 0.4, 0.6]


class Nowhere(Sandbox):
    def score(self, code, cases):
        raise AssertionError("nothing runs here")

    def close(self):
        pass


class Counting(Sandbox):
    """An interpreter of another kind behind the same interface: it says how often it was asked,
    which is what no program may depend on."""

    def __init__(self, start: int, slow: float = 0.0) -> None:
        self._next = itertools.count(start)
        self._slow = slow

    def score(self, code, cases):
        return [
            Outcome(total=next(self._next) % 90, components={}, milliseconds=self._slow)
            for _ in cases
        ]

    def close(self):
        pass


class Length(Counting):
    def score(self, code, cases):
        return [
            Outcome(total=len(case.response) / 1e3, components={}, milliseconds=self._slow)
            for case in cases
        ]


def test_two_workers_that_disagree_make_a_program_invalid():
    found = climbing.climb(returning("1.0"), POOL, Counting(0), Counting(7))
    assert found.rung == "determinism"
    assert "cases scored differently the second time" in found.problems[0]


def test_a_program_that_is_too_slow_is_told_how_slow():
    found = climbing.climb(returning("1.0"), POOL, Length(0, slow=300.0), Length(0))
    assert (found.rung, found.milliseconds) == ("speed", 300.0)
    assert found.problems == ("A call takes 300 ms; 250 ms are allowed.",)


def test_prompts_with_one_answer_cannot_show_that_a_program_is_blind(boxes):
    found = climbing.climb(returning("1.0"), POOL[::4], *boxes)
    assert found.valid, found.problems
