"""A hierarchy of factors: antisymmetric, lexicographic without margins, not always transitive."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align import factors, hierarchy
from align.hierarchy import Level

numbers = st.floats(-100, 100, allow_subnormal=False)
answers = st.fixed_dictionaries({name: st.none() | numbers for name in ("x", "y", "z")})
levels = st.permutations(["x", "y", "z"]).flatmap(
    lambda names: st.tuples(
        *(st.builds(Level, factor=st.just(name), sign=st.sampled_from([-1, 1])) for name in names)
    )
)
few = settings(max_examples=200, deadline=None)
margins = st.lists(st.floats(0, 50, allow_subnormal=False), min_size=3, max_size=3)


@given(levels, margins, answers, answers)
@few
def test_the_other_order_gives_the_other_answer(order, deltas, first, second):
    one = hierarchy.decide(order, deltas, first, second)
    other = hierarchy.decide(order, deltas, second, first)
    assert (one.ahead, one.level) == (-other.ahead, other.level)
    assert hierarchy.decide(order, deltas, first, first).ahead == 0


whole = st.fixed_dictionaries({name: st.integers(-2, 2).map(float) for name in ("x", "y", "z")})


@given(levels, whole, whole)
@few
def test_without_margins_it_is_the_order_of_a_dictionary(order, first, second):
    a, b = ([one.sign * row[one.factor] for one in order] for row in (first, second))
    found = hierarchy.decide(order, [0.0] * 3, first, second).ahead
    assert found == (a > b) - (a < b)


def test_with_margins_three_answers_can_go_in_a_circle():
    """So nothing that uses a hierarchy may sort by it: a verdict is of two answers and no more."""
    order = [Level(factor="x"), Level(factor="y")]
    a, b, c = {"x": 0.0, "y": 2.0}, {"x": 0.6, "y": 1.0}, {"x": 1.2, "y": 0.0}
    ahead = [hierarchy.decide(order, [1.0, 0.5], *two).ahead for two in ((a, b), (b, c), (c, a))]
    assert ahead == [1, 1, 1]


def test_the_first_level_that_differs_by_more_than_its_margin_decides():
    order = [Level(factor="x", sign=-1), Level(factor="y", margin=0)]
    buffer = [{"x": 0.0, "y": 1.0}, {"x": 2.0, "y": 1.0}, {"x": 4.0, "y": None}]
    deltas = hierarchy.deltas(order, buffer)
    assert deltas == [2.0, 0.0]  # one standard deviation, n - 1
    decide = hierarchy.decide
    assert decide(order, deltas, {"x": 5.0, "y": 9.0}, {"x": 1.0, "y": 0.0}).level == 0
    found = decide(order, deltas, {"x": 3.0, "y": 9.0}, {"x": 1.0, "y": 0.0})  # at the margin
    assert (found.ahead, found.level, found.difference) == (1, 1, 9.0)
    none = decide(order, deltas, {"x": None, "y": 1.0}, {"x": 1.0, "y": 1.0})
    assert (none.ahead, none.level) == (0, None)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([], "at least one factor"),
        ([Level(factor="x"), Level(factor="x")], "x is there twice"),
        ([Level(factor="x", sign=0)], "1 or -1"),
        ([Level(factor="x", margin=-1.0)], "0 or more"),
        ([Level(factor="x", margin=float("nan"))], "0 or more"),
        ([Level(factor=str(n)) for n in range(30)], "20 levels at most"),
    ],
)
def test_a_hierarchy_that_cannot_work_is_refused_in_a_sentence(order, said):
    with pytest.raises(ValueError, match=said):
        hierarchy.check(order)


def test_a_margin_needs_answers_to_be_measured_by():
    with pytest.raises(ValueError, match="x is known of 1 answers"):
        hierarchy.deltas([Level(factor="x")], [{"x": 1.0}, {"x": None}])
    assert hierarchy.deltas([Level(factor="x", margin=0)], []) == [0.0]


def test_levels_survive_json():
    order = [Level(factor="x", sign=-1, margin=0.5), Level(factor="y")]
    assert hierarchy.from_json(hierarchy.to_json(order)) == order


def test_factors_of_texts():
    question = "Why is the sky blue today?"
    found = factors.measure(question, "Why is the sky blue today?")
    assert found["question_repeated"] == 1
    plain = factors.measure(question, "It's Rayleigh scattering.")
    assert (plain["words"], plain["question_repeated"], plain["unique_trigrams"]) == (3, 0, 1)
    rich = factors.measure("", "# Head\n\n- one\n2. two\n\n```py\nx = 1\n```\n```\nopen")
    assert (rich["headings"], rich["list_items"], rich["code_blocks"]) == (1, 2, 2)
    easy = factors.measure("", "The cat sat. The dog ran.")["reading_ease"]
    hard = factors.measure("", "Institutional heterogeneity complicates generalisation.")
    assert easy > 100 > 0 > hard["reading_ease"]
    assert (
        factors.question([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
        == "b"
    )
    assert factors.question([]) == ""


@given(st.text(max_size=200), st.text(max_size=200))
@few
def test_factors_of_any_text_are_finite_and_in_their_range(question, answer):
    found = factors.measure(question, answer)
    assert all(abs(value) < 1e6 for value in found.values())
    assert 0 < found["unique_trigrams"] <= 1
    assert 0 <= found["question_repeated"] <= 1
    assert factors.length_incentive(question, answer) <= 4


def test_repeating_oneself_lowers_the_share_of_unique_trigrams():
    assert factors.unique_trigrams("", "") == factors.unique_trigrams("", "two words") == 1
    assert factors.unique_trigrams("", "a b c " * 10) < 0.2
