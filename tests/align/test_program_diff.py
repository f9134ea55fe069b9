"""What differs between two reward programs, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from align.program_diff import as_text, difference
from align.programs import Criterion, RewardProgram

OLD = RewardProgram(
    code="def compute_reward(prompt, response, judge, meta):\n"
    + "".join(f"    x{i} = {i}\n" for i in range(12))
    + "    return {'total': 1.0, 'components': {}}\n",
    rubric=(
        Criterion(id="kind", question="Is it kind?", anchors={"1": "rude", "5": "warm"}),
        Criterion(id="clear", question="Is it clear?", weight=2.0),
    ),
    params={"a": 1.0, "b": 2.0},
)


def test_equal_programs_differ_in_nothing():
    found = difference(OLD, replace(OLD))
    assert not found
    assert as_text(found) == ""


def test_code_is_a_unified_diff_with_the_line_numbers_of_both():
    new = replace(OLD, code=OLD.code.replace("    x5 = 5\n", "    x5 = 6\n    y = 1\n"))
    found = difference(OLD, new).code
    assert [(one.kind, one.old, one.new) for one in found] == [
        ("gap", None, None),
        *(("same", place, place) for place in (4, 5, 6)),
        ("removed", 7, None),
        ("added", None, 7),
        ("added", None, 8),
        *(("same", place, place + 1) for place in (8, 9, 10)),
        ("gap", None, None),
    ]
    assert as_text(difference(OLD, new)).splitlines()[4:7] == [
        "-    x5 = 5",
        "+    x5 = 6",
        "+    y = 1",
    ]


def test_criteria_are_compared_by_id_and_told_field_by_field():
    kind = replace(OLD.rubric[0], anchors={"1": "rude", "3": "cool", "5": "warm"}, weight=0.5)
    new = replace(OLD, rubric=(kind, Criterion(id="right", question="Is it right?")))
    found = {one.id: one for one in difference(OLD, new).rubric}
    assert {name: one.change for name, one in found.items()} == {
        "kind": "changed",
        "clear": "removed",
        "right": "added",
    }
    assert found["kind"].fields == (("anchor 3", "", "cool"), ("weight", "1", "0.5"))
    assert found["clear"].fields == (("question", "Is it clear?", ""), ("weight", "2", ""))
    assert "criterion kind, weight: '1' -> '0.5'" in as_text(difference(OLD, new))


def test_params_and_kind_are_told_before_and_after():
    new = replace(OLD, kind="code", rubric=(), params={"b": 2.5, "c": 3.0})
    found = difference(OLD, new)
    assert found.kind == ("hybrid", "code")
    assert [(one.name, one.change, one.before, one.after) for one in found.params] == [
        ("a", "removed", 1.0, None),
        ("b", "changed", 2.0, 2.5),
        ("c", "added", None, 3.0),
    ]
    assert as_text(found).splitlines()[-1] == "param c: none -> 3"


def test_a_program_without_code_and_one_with_it_differ_in_every_line():
    found = difference(RewardProgram(kind="rubric", rubric=OLD.rubric), OLD)
    assert {one.kind for one in found.code} == {"added"}
    assert len(found.code) == 14
