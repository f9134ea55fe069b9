"""The first rung of a program's ladder: what is refused without running anything, and how."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from align import ladder
from align.programs import Criterion, RewardProgram
from tests.align.hostile import CORPUS, inside

GOOD = inside(
    """
    import re
    from collections import Counter
    words = re.findall(r'\\w+', response.lower())
    varied = len(Counter(words)) / max(1, len(words))
    short = 1.0 - min(len(words), 400) / 400
    parts = {'varied': varied, 'short': short, 'kind': judge['kind'] / 5}
    return {'total': sum(v * meta['params'][k] for k, v in parts.items()), 'components': parts}
    """
)
CRITERIA = tuple(
    Criterion(id=name, question=f"Is it {name}?", anchors={"1": "no", "3": "partly", "5": "yes"})
    for name in ("kind", "clear", "right")
)
HYBRID = RewardProgram(
    code=GOOD, rubric=CRITERIA, params={"varied": 0.5, "short": 0.3, "kind": 0.2}
)


def with_criterion(**fields: object) -> RewardProgram:
    first = dataclasses.replace(CRITERIA[0], **fields)
    return dataclasses.replace(HYBRID, rubric=(first, *CRITERIA[1:]))


def test_a_good_program_has_nothing_wrong_with_it():
    assert ladder.check(HYBRID) == []
    assert ladder.check(RewardProgram(kind="rubric", rubric=CRITERIA)) == []
    plain = inside("return {'total': len(response) / 1e6, 'components': {}}")
    assert ladder.check(RewardProgram(kind="code", code=plain)) == []


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda one: one.name)
def test_what_is_hostile_in_its_text_is_refused_by_its_line(hostile):
    problems = ladder.check_code(hostile.code)
    assert bool(problems) == hostile.static
    assert all(one.startswith(("Line ", "The code has ", "There is no")) for one in problems)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import os", "Line 2: os may not be imported; collections, json, math, re, unicodedata"),
        ("from time import time", "Line 2: time may not be imported"),
        ("x = hash(prompt)", "Line 2: the name hash may not be used."),
        ("x = prompt.__class__", "Line 2: the attribute __class__ may not be used."),
        ("x = getattr(prompt, '__class__')", "Line 2: the attribute __class__ may not be used."),
        ("x = getattr(prompt, response)", "Line 2: getattr has to name its attribute"),
        ("with prompt: pass", "Line 2: a with block may not be used in a program."),
        ("class A: pass", "Line 2: a class may not be used in a program."),
        ("async def f(): pass", "Line 2: an async function may not be used"),
        ("try: pass\n    except* ValueError: pass", "Line 2: except* may not be used"),
        ("match prompt:\n        case _: pass", "Line 2: match may not be used"),
        ("for id in [1]: pass", "Line 2: the name id may not be used."),
        ("except_ = 1 +", "Line 2: the code is no Python: invalid syntax."),
    ],
)
def test_a_refusal_is_a_sentence_with_its_line(line, said):
    code = inside("pass").replace("    pass\n", f"    {line}\n    return 1\n")
    assert any(one.startswith(said) for one in ladder.check_code(code)), ladder.check_code(code)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "There is no code."),
        ("x = 1\n" + "#" * 8192, "The code has 8198 bytes; at most 8192 are allowed."),
        ("x = 1\n", "Line 1: the code has to define def compute_reward(prompt, response, judge,"),
        (inside("return 1") * 2, "Line 3: compute_reward is defined twice."),
        (
            "\ndef compute_reward(prompt, response, judge, meta=None):\n    return 1\n",
            "Line 2: the function has to be def compute_reward(prompt, response, judge, meta).",
        ),
    ],
)
def test_size_and_signature_are_said(code, said):
    assert ladder.check_code(code)[0].startswith(said)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (dataclasses.replace(HYBRID, rubric=CRITERIA[:2]), "The rubric has 2 criteria; 3 to 8"),
        (dataclasses.replace(HYBRID, rubric=CRITERIA * 3), "The rubric has 9 criteria; 3 to 8"),
        (
            dataclasses.replace(HYBRID, rubric=(*CRITERIA, CRITERIA[0])),
            "Two criteria have the id kind.",
        ),
        (with_criterion(id="Kind!"), "Criterion 'Kind!': its id has to be small letters"),
        (with_criterion(question=" "), "Criterion 'kind': it asks no question."),
        (with_criterion(question="x" * 501), "Criterion 'kind': its question is longer than 500"),
        (with_criterion(anchors={"2": "meh"}), "Criterion 'kind': an anchor is for '2'; anchors"),
        (with_criterion(anchors={"1": ""}), "Criterion 'kind': the anchor of 1 has to be a text"),
        (with_criterion(weight=float("nan")), "Criterion 'kind': its weight has to be a number"),
        (with_criterion(weight=-1), "Criterion 'kind': its weight has to be a number"),
        (
            dataclasses.replace(
                HYBRID, rubric=tuple(dataclasses.replace(one, weight=0) for one in CRITERIA)
            ),
            "No criterion of the rubric weighs anything.",
        ),
        (dataclasses.replace(HYBRID, params={"a": float("inf")}), "The param a has to be a finite"),
        (dataclasses.replace(HYBRID, params={"a b": 1.0}), "The param 'a b': a name has to be"),
        (
            dataclasses.replace(HYBRID, params={f"p{i}": 1.0 for i in range(33)}),
            "There are 33 params; at most 32 are allowed.",
        ),
        (RewardProgram(kind="rubric", code=GOOD, rubric=CRITERIA), "A program of kind rubric has"),
        (dataclasses.replace(HYBRID, kind="code"), "A program of kind code has no rubric."),
        (RewardProgram(kind="magic", code=GOOD, rubric=CRITERIA), "The kind is 'magic', none of"),
    ],
)
def test_rubric_and_params_have_rules(program, said):
    assert any(one.startswith(said) for one in ladder.check(program)), ladder.check(program)


def test_checking_runs_nothing_and_loads_no_interpreter():
    """The web process imports the ladder, so it must not bring what could run a program."""
    code = "import sys, align.ladder; sys.exit('pydantic_monty' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
