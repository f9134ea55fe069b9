"""Stated confidence is read strictly, and pairs never reject what is right and sure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align import confidence
from align.confidence import FALSE_SURE, FALSE_UNSURE, TRUE_SURE, TRUE_UNSURE, Stated


@pytest.mark.parametrize(
    ("text", "answer", "sure"),
    [
        ("Paris.\nConfidence: 80%", "Paris.", 0.8),
        ("Paris.\n\n**Confidence**: 12.5 %\n", "Paris.", 0.125),
        ("confidence=100", "", 1.0),
        ("Paris.\nConfidence: 0%", "Paris.", 0.0),
        ("Paris.\nConfidence: 120%", "Paris.", 0.0),
        ("Paris.\nConfidence: very high", "Paris.\nConfidence: very high", 0.0),
        ("I have 90% confidence. Paris", "I have 90% confidence. Paris", 0.0),
        ("Confidence: 90%\nParis", "Confidence: 90%\nParis", 0.0),  # not at the end
        ("", "", 0.0),
    ],
)
def test_a_confidence_is_the_last_line_or_none(text: str, answer: str, sure: float) -> None:
    assert confidence.read(text) == (answer, pytest.approx(sure))


def test_the_question_of_how_sure_joins_a_system_line_that_is_there() -> None:
    plain = confidence.asked([{"role": "user", "content": "Why?"}])
    assert [one["role"] for one in plain] == ["system", "user"]
    joined = confidence.asked([{"role": "system", "content": "Be brief."}, *plain[1:]])
    assert joined[0]["content"].startswith("Be brief.\n\n")
    assert joined[0]["content"].endswith("Confidence: N%")


@pytest.mark.parametrize(
    ("answer", "reference", "so"),
    [
        ("It is Paris, of course.", "paris", True),
        ("Parisian cafes", "Paris", False),
        ("It is 42", "42.", True),
        ("anything", "", False),
    ],
)
def test_an_answer_is_right_where_the_reference_stands_in_it(answer, reference, so) -> None:
    assert confidence.right(answer, reference) is so


stated = st.builds(
    Stated,
    id=st.uuids().map(str),
    right=st.booleans(),
    confidence=st.floats(0, 1, allow_subnormal=False),
    source=st.sampled_from(["a", "b"]),
)


@given(st.lists(stated, max_size=12, unique_by=lambda one: one.id), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_is_right_and_sure_is_never_rejected_and_no_pair_is_within_a_class(answers, strict):
    by_id = {one.id: one for one in answers}
    bounds = (0.4, 0.7) if strict else (0.0, 1.0)
    found = confidence.pairs(answers, "seed", *bounds)
    for chosen, rejected, name in found:
        assert by_id[chosen].kind == TRUE_SURE
        assert by_id[rejected].kind == name != TRUE_SURE
    rejected = [one for _, one, _ in found]
    assert len(set(rejected)) == len(rejected)
    if found:
        assert 0 < sum(one.right for one in answers) < len(answers)


def test_classes_and_pairs_by_hand() -> None:
    answers = [
        Stated("tc", True, 0.5, "a"),
        Stated("fc", False, 0.9, "a"),
        Stated("tu", True, 0.49, "b"),
        Stated("fu", False, 0.0, "b"),
    ]
    assert [one.kind for one in answers] == [TRUE_SURE, FALSE_SURE, TRUE_UNSURE, FALSE_UNSURE]
    assert confidence.pairs(answers) == [
        ("tc", "fc", FALSE_SURE), ("tc", "tu", TRUE_UNSURE), ("tc", "fu", FALSE_UNSURE)
    ]  # fmt: skip
    assert confidence.pairs(answers[:1] * 2 + answers[2:3]) == []  # always right
    assert confidence.pairs([answers[1], answers[2]]) == []  # nothing is right and sure
    assert confidence.pairs(answers, least=0.6) == []  # right too seldom
    assert confidence.shares(answers) == {TRUE_SURE: 1, FALSE_SURE: 1, TRUE_UNSURE: 1,
                                          FALSE_UNSURE: 1}  # fmt: skip
