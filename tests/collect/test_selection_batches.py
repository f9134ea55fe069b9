"""Strategies that weigh prompts against each other: shares, chances, and what is not asked."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from math import sqrt
from uuid import uuid4

import pytest

from plumbline.collect import alike, selection, shares, thompson
from plumbline.collect.models import Completion
from plumbline.collect.shares import Favourite
from plumbline.collect.strategy import Asked, Batch, Known

WORDS = ["amber", "basil", "cedar", "dill", "elder"]
INFORMED = ["disagreement", "uncertainty", "variance", "design", "thompson", "mixed"]


def answers(count: int) -> list[Completion]:
    return [Completion(pk=uuid4(), text=word) for word in WORDS[:count]]


def batch(
    prompts: int, wanted: int, *, seed: str = "0", count: int = 4, told: bool = True
) -> Batch:
    """Prompts whose answers have random features and, if `told`, three random members."""
    rng = random.Random(7)
    found = {prompt: answers(count) for prompt in range(prompts)}
    known = {
        prompt: Known(
            members={one.pk: [rng.gauss(0, 1) for _ in range(3)] for one in some if told},
            features={one.pk: [rng.gauss(0, 1) for _ in range(5)] for one in some},
        )
        for prompt, some in found.items()
    }
    return Batch(found, wanted, seed, known)


@pytest.mark.parametrize("name", sorted(selection.discover()))
def test_every_strategy_asks_one_pair_of_as_many_prompts_as_people_can_compare(name):
    asked = selection.choose_batch(name, batch(20, 7))
    assert len(asked) == (0 if name == "across" else 7)  # with one draw there is no other side
    for prompt, (picked,) in asked.items():
        assert 0 <= prompt < 20
        assert len(set(picked.answers)) == 2
        assert 0 < picked.p_select <= 1


@pytest.mark.parametrize("name", sorted(selection.discover()))
def test_every_strategy_has_a_title_and_says_what_it_does(name):
    strategy = selection.find(name)
    assert strategy.title
    assert len(strategy.about()) > 60


@pytest.mark.parametrize("name", INFORMED)
def test_the_same_seed_asks_the_same(name):
    def asked(seed: str) -> list[tuple[int, tuple[str, ...]]]:
        found = selection.choose_batch(name, batch(20, 20, seed=seed))
        return [(p, tuple(one.text for one in picked.answers)) for p, (picked,) in found.items()]

    assert asked("a") == asked("a")
    assert asked("a") != asked("b")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("mixed", 5), ("mixed", 12), ("design", 5), ("thompson", 7), ("variance", 5)],
)
def test_pairs_are_shown_as_often_as_their_chance_says(name, wanted):
    """What is logged as p_select is the frequency over seeds, of every pair of every prompt."""
    many, shown, said = 600, Counter(), {}
    for seed in range(many):
        found = batch(12, wanted, seed=str(seed), count=3)
        for prompt, (picked,) in selection.choose_batch(name, found).items():
            pair = prompt, frozenset(one.text for one in picked.answers)
            shown[pair] += 1
            assert said.setdefault(pair, picked.p_select) == pytest.approx(picked.p_select)
    for pair, count in shown.items():
        p = said[pair]
        assert abs(count / many - p) < 5 * sqrt(p * (1 - p) / many) + 1e-9
    # Pairs that were never seen have almost no chance: the others' sum to what was wanted.
    assert sum(said.values()) == pytest.approx(wanted, rel=0.05)


def test_chances_sum_to_one_a_prompt_where_every_prompt_is_asked_about():
    """By hand: a favourite, a pair of odds of its own, and any pair."""
    three = answers(3)
    prompts = Batch(dict.fromkeys(range(9), three), 9, "s")
    odds = {(0, 2): 0.75, (1, 2): 0.25}
    said: dict[frozenset[str], float] = {}
    for seed in range(60):
        dealt = shares.deal(
            Batch(prompts.prompts, 9, str(seed)),
            {prompt: Favourite((0, 1), {"gain": 2.0}) for prompt in range(9)},
            {"odds": (2 / 9, lambda _: odds), "random": (1 / 9, shares.at_random(prompts))},
        )
        parts = Counter(picked.why["part"] for (picked,) in dealt.values())
        assert parts == {"informed": 6, "odds": 2, "random": 1}
        for (picked,) in dealt.values():
            said[frozenset(one.text for one in picked.answers)] = picked.p_select
    a, b, c = WORDS[:3]
    assert said[frozenset((a, b))] == pytest.approx(6 / 9 + 1 / 27)
    assert said[frozenset((a, c))] == pytest.approx(2 / 9 * 0.75 + 1 / 27)
    assert said[frozenset((b, c))] == pytest.approx(2 / 9 * 0.25 + 1 / 27)
    assert sum(said.values()) == pytest.approx(1)


def test_a_tenth_of_all_items_is_random_once_hidden_tests_have_theirs():
    """A ninth of what a strategy asks, which is nine in ten of what people see."""
    drawn = Counter()
    for seed in range(150):
        found = selection.choose_batch("mixed", batch(10, 10, seed=str(seed)))
        drawn.update(picked.why["part"] for (picked,) in found.values())
    total = drawn.total()
    for part, share in (("informed", 7 / 9), ("thompson", 1 / 9), ("random", 1 / 9)):
        assert abs(drawn[part] / total - share) < 3 * sqrt(share * (1 - share) / total)


def test_the_mix_asks_what_the_members_doubt_most_and_by_design_where_there_are_none():
    doubted = batch(20, 9)
    found = selection.choose_batch("mixed", doubted)
    informed = [one for (one,) in found.values() if one.why["part"] == "informed"]
    assert len(informed) == 7
    everywhere = sorted(
        max(-abs(shares.says(known, answers, pair)["chance"] - 0.5) for pair in pairs)
        for prompt, answers in doubted.prompts.items()
        for known, pairs in [(doubted.of(prompt), shares.pairs(answers))]
    )
    for one in informed:  # two of the nine best may have gone to the other ways of picking
        assert -abs(one.why["chance"] - 0.5) >= everywhere[-9]
        assert one.why.keys() == {"part", "chance", "information", "rank", "score"}
    untold = selection.choose_batch("mixed", batch(20, 9, told=False))
    designed = [one for (one,) in untold.values() if one.why["part"] == "informed"]
    assert len(designed) == 7
    for one in designed:
        assert one.why.keys() == {"part", "rank", "gain"}


def test_members_that_agree_leave_nothing_to_ask_them():
    prompts = {prompt: answers(3) for prompt in range(6)}
    known = {
        prompt: Known(members={one.pk: [float(k)] * 4 for k, one in enumerate(some)})
        for prompt, some in prompts.items()
    }
    asked = selection.choose_batch("disagreement", Batch(prompts, 6, "0", known))
    for (picked,) in asked.values():
        assert picked.why["information"] == 0
        assert picked.why["part"] == "random"
        assert picked.p_select == pytest.approx(1 / 3)


def test_double_thompson_asks_about_answers_that_members_call_best():
    three = answers(3)
    one, two, three_ = (answer.pk for answer in three)
    known = Known(members={one: [3, 3, 3, 0], two: [1, 1, 1, 2], three_: [0, 0, 0, 0]})
    odds = thompson.odds(Batch({0: three}, 1, "0", {0: known}), 0)
    assert sum(odds.values()) == pytest.approx(1)
    never = 0.75**30  # all thirty draws name the first again; its surest rival is the second
    assert odds[0, 1] == pytest.approx(1, abs=2 * never)
    agreed = Known(members={one: [3, 3], two: [1, 2], three_: [0, 0]})
    assert thompson.odds(Batch({0: three}, 1, "0", {0: agreed}), 0)[0, 1] == 1


def test_what_was_asked_before_is_not_asked_again_while_other_things_are_unknown():
    prompts = {prompt: answers(2) for prompt in range(4)}
    axis = {0: [1.0, 0.0], 1: [0.9, 0.0], 2: [0.0, 0.8], 3: [0.0, 0.7]}
    known = {
        prompt: Known(features={some[0].pk: axis[prompt], some[1].pk: [0.0, 0.0]})
        for prompt, some in prompts.items()
    }

    def first(*before: Asked) -> set[int]:
        found = Batch(prompts, 2, "3", known, before)
        asked = selection.choose_batch("design", found)
        return {p for p, (one,) in asked.items() if one.why.get("rank") == 1}

    assert first() <= {0}
    assert first(*[Asked([1.0, 0.0])] * 9) <= {2}


def test_near_copies_and_second_refusals_are_not_worth_a_vote():
    long = "The heron stands in the shallow water of the old harbour and waits for the tide to turn"
    said = [
        long, f"{long}.", "", "   ", "I'm sorry, but I can't help with that.",
        "As an AI, I cannot say.", "The gull beats the heron.", "The heron beats the gull.",
        "I cannot praise it enough: " + long,
    ]  # fmt: skip
    kept = alike.different([Completion(text=text) for text in said])
    assert [one.text for one in kept] == [said[0], said[2], *said[6:8]]


def test_a_refusal_beside_an_answer_is_asked_about():
    both = [Completion(text="I can’t do that."), Completion(text="Boil it for three minutes.")]
    (picked,) = selection.choose("random", both, random.Random(0))
    assert len(picked.answers) == 2


def test_a_pair_says_why_it_was_asked():
    found = selection.choose_batch("design", batch(8, 8))
    informed = [one for (one,) in found.values() if one.why["part"] == "informed"]
    assert len(informed) >= 6
    for one in informed:
        assert one.why.keys() == {"part", "chance", "information", "rank", "gain"}
    by_rank = sorted(informed, key=lambda one: one.why["rank"])
    for earlier, later in combinations(by_rank, 2):
        assert earlier.why["gain"] > 0 < later.why["gain"]
