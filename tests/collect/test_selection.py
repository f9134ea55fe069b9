"""Which answers are put before people."""

from __future__ import annotations

import random
from collections import Counter

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


def test_an_unknown_strategy_is_named():
    with pytest.raises(ValueError, match="no strategy 'best'; there are across, random"):
        selection.choose("best", answers("a", "b"), random.Random(0))
