"""Which answers are put before people."""

from __future__ import annotations

import random
from collections import Counter
from uuid import uuid4

import pytest

from plumbline.collect import selection
from plumbline.collect.models import Completion


def answers(*texts: str) -> list[Completion]:
    return [Completion(text=text) for text in texts]


def test_every_pair_is_equally_likely_and_says_so():
    three = answers("a", "b", "c")
    picked = [selection.choose("random", three, random.Random(seed)) for seed in range(600)]
    assert all(len(one) == 1 and one[0].p_select == pytest.approx(1 / 3) for one in picked)
    pairs = Counter(frozenset(answer.text for answer in one[0].answers) for one in picked)
    assert len(pairs) == 3
    assert min(pairs.values()) > 150


def test_the_same_text_twice_is_one_answer():
    twice = answers("a", "b", "a ", "b")
    (picked,) = selection.choose("random", twice, random.Random(0))
    assert picked.p_select == 1.0
    assert {answer.text for answer in picked.answers} == {"a", "b"}


def test_with_one_answer_there_is_nothing_to_ask():
    assert selection.choose("random", answers("a", "a"), random.Random(0)) == []


def test_half_of_the_prompts_show_the_contrasting_answers_and_chances_are_known():
    four = answers("a", "b", "c", "d")
    for answer in four:
        answer.pk = uuid4()
    contrast = [four[1], four[3]]
    found = [
        selection.choose("contrast", four, random.Random(seed), contrast)[0] for seed in range(1200)
    ]
    shown = Counter(frozenset(answer.text for answer in one.answers) for one in found)
    # A half, and of the other half the sixth that falls on the same two.
    assert shown[frozenset("bd")] / 1200 == pytest.approx(0.5 + 0.5 / 6, abs=0.04)
    assert len(shown) == 6
    chances = {frozenset(a.text for a in one.answers): one.p_select for one in found}
    assert chances[frozenset("bd")] == pytest.approx(7 / 12)
    assert sum(chances.values()) == pytest.approx(1)


def test_without_a_contrast_any_two_answers_are_shown():
    (picked,) = selection.choose("contrast", answers("a", "b", "c"), random.Random(0))
    assert picked.p_select == pytest.approx(1 / 3)


def test_an_unknown_strategy_is_named():
    with pytest.raises(ValueError, match="no strategy 'best'; there are across, contrast, random"):
        selection.choose("best", answers("a", "b"), random.Random(0))
