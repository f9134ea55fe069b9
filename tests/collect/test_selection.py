"""Which answers are put before people."""

from __future__ import annotations

import random
from collections import Counter
from uuid import uuid4

import pytest

from plumbline.collect import selection
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Known


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
    contrast = Known(contrast=(four[1], four[3]))
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
    with pytest.raises(ValueError, match="no strategy 'best'; there are across, contrast, dis"):
        selection.choose("best", answers("a", "b"), random.Random(0))


def test_nine_prompts_in_ten_show_the_pair_whose_order_the_members_disagree_on():
    near, far, disputed = answers("near", "far", "disputed")
    for answer in (near, far, disputed):
        answer.pk = uuid4()
    says = {near.pk: [0.0, 0.0, 0.0], far.pk: [0.1, 0.1, 0.1], disputed.pk: [-3.0, 3.0, 3.0]}
    known = Known(members=says)
    three = [near, far, disputed]
    found = [
        selection.choose("disagreement", three, random.Random(seed), known)[0]
        for seed in range(1200)
    ]
    shown = Counter(frozenset(answer.text for answer in one.answers) for one in found)
    # near and far are a toss-up to all members, which is no dispute: by chance alone.
    assert shown[frozenset(["near", "far"])] / 1200 == pytest.approx(0.1 / 3, abs=0.02)
    assert shown[frozenset(["near", "disputed"])] / 1200 == pytest.approx(0.9 + 0.1 / 3, abs=0.03)
    chances = {frozenset(a.text for a in one.answers): one.p_select for one in found}
    assert sum(chances.values()) == pytest.approx(1)


@pytest.mark.parametrize("members", ["", "agree", "single"])
def test_where_no_members_disagree_any_two_answers_are_shown(members):
    three = answers("a", "b", "c")
    for answer in three:
        answer.pk = uuid4()
    said = {"agree": [1.0, 1.0], "single": [1.0]}.get(members, [])
    known = Known(members={answer.pk: said for answer in three} if members else {})
    (picked,) = selection.choose("disagreement", three, random.Random(0), known)
    assert picked.p_select == pytest.approx(1 / 3)
