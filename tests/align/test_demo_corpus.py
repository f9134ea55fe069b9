"""The demo's corpus and prompts: deterministic, disjoint, and as varied as they claim to be."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from align.demo import corpus, prompts, raters
from align.demo.facts import find_topic, kinds, mentions


def test_the_held_out_prompts_never_occur_in_training() -> None:
    train, heldout = prompts.texts("train"), prompts.texts("heldout")
    assert not set(train) & set(heldout)
    assert len(set(train)) == len(train) >= 400
    assert len(set(heldout)) == len(heldout) >= 200


def test_every_fact_is_asked_for_on_both_sides_of_the_split() -> None:
    asked = {"train": set(), "heldout": set()}
    for question in prompts.questions():
        asked[question.split].add((question.topic.name, question.asked))
    assert asked["train"] == asked["heldout"]


def test_every_question_names_the_topic_it_is_about() -> None:
    for question in prompts.questions():
        assert find_topic(question.text) == (question.kind, question.topic), question.text


def test_no_value_of_a_kind_can_be_mistaken_for_another() -> None:
    for kind in kinds():
        values = {value for attribute in kind.attributes for value in attribute.values}
        assert len(values) == sum(len(attribute.values) for attribute in kind.attributes)
        for value in values:
            assert [other for other in values if mentions(other, value)] == [value]


def test_no_turn_of_phrase_states_a_fact_by_itself() -> None:
    for kind in kinds():
        phrases = [*kind.praise, *kind.remarks, *corpus.LIST_OPENINGS]
        phrases += [p for a in kind.attributes for p in (*a.plain, *a.flowery, a.label)]
        values = [value for attribute in kind.attributes for value in attribute.values]
        assert [(p, v) for p in phrases for v in values if mentions(p, v)] == []


def test_wrong_facts_are_wrong() -> None:
    for kind in kinds():
        for topic in kind.topics:
            assert all(r != w for r, w in zip(topic.right, topic.wrong, strict=True)), topic


def test_the_corpus_is_the_same_every_time() -> None:
    assert list(corpus.exchanges(50, seed=3)) == list(corpus.exchanges(50, seed=3))
    assert list(corpus.exchanges(50, seed=3)) != list(corpus.exchanges(50, seed=4))


def test_raters_recover_the_manner_in_which_an_answer_was_written() -> None:
    rng = random.Random(0)
    tones = {"polite": 1.0, "neutral": 0.0, "curt": -1.0}
    for question in islice(prompts.questions(), 400):
        how = corpus.any_manner(rng)
        text = corpus.answer(question, how, rng)
        seen = raters.features([{"role": "user", "content": question.text}], text)
        assert seen["politeness"] == tones[how.tone], text
        assert (seen["plainness"] < 1) == how.flowery, text
        assert seen["list"] == (how.shape == "list"), text


@pytest.mark.parametrize("feature", ["truth", "politeness", "plainness"])
def test_no_manner_dominates_the_corpus(feature: str) -> None:
    rng = random.Random(1)
    signs: Counter[int] = Counter()
    for question in prompts.questions():
        text = corpus.answer(question, corpus.any_manner(rng), rng)
        value = raters.features([{"role": "user", "content": question.text}], text)[feature]
        signs[(value > 0) - (value < 0)] += 1
    assert max(signs.values()) < 0.72 * signs.total(), signs
