"""Poison planted among honest votes is pointed out, and honest crowds are left in peace.

Figures are printed with their 95 % intervals; run with -s to read them.
"""

from __future__ import annotations

import random

import pytest

from plumbline.collect.quality import suspicion
from plumbline.collect.quality.chances import at_least_of, at_most, believed
from plumbline.collect.quality.intervals import Estimate, proportion
from plumbline.collect.quality.suspicion import Suspicion
from tests.collect.poisoned import ACCOUNTS, TRIGGER, crowd

SEEDS = range(20)


def look(seed: int, **poison: float) -> Suspicion:
    made = crowd(seed, **poison)
    return suspicion.look(made.material, made.texts)


def told(what: str, found: Estimate) -> str:
    assert found.value is not None
    return f"{what} {found.value:.0%} ({found.low:.0%} to {found.high:.0%}) of {found.n}"


def recall(kind: str, share: float, seeds: range) -> tuple[Estimate, Estimate]:
    """The share of poisoning accounts that are named, and of those named who are honest."""
    hits = named = false = 0
    for seed in seeds:
        found = set(look(seed, **{kind: share}).raters)
        hits += len(found & set(ACCOUNTS))
        named += len(found)
        false += len(found - set(ACCOUNTS))
    return proportion(hits, len(seeds) * len(ACCOUNTS), ""), proportion(false, named, "none")


@pytest.mark.parametrize(
    ("share", "least"),
    [pytest.param(0.01, 0.2, marks=pytest.mark.nightly), (0.03, 0.9),
     pytest.param(0.05, 0.9, marks=pytest.mark.nightly)],
)  # fmt: skip
def test_accounts_that_turn_votes_around_are_named(share: float, least: float) -> None:
    found, false = recall("flips", share, SEEDS[:6])
    print(told(f"{share:.0%} flipped: recall", found), told("; false among named", false))
    assert found.value is not None
    assert found.value >= least
    assert false.value is not None
    assert false.value <= 0.15


@pytest.mark.parametrize(
    ("share", "least"),
    [pytest.param(0.01, 0.2, marks=pytest.mark.nightly), (0.03, 0.9),
     pytest.param(0.05, 0.9, marks=pytest.mark.nightly)],
)  # fmt: skip
def test_a_phrase_that_a_few_always_prefer_is_named_with_them(share: float, least: float) -> None:
    hits = phrases = wrong = 0
    for seed in SEEDS[:6]:
        found = look(seed, trigger=share).triggers
        mine = [one for one in found if set(one.phrase.split()) <= set(TRIGGER.split())]
        wrong += len(found) - len(mine)
        phrases += bool(mine)
        hits += len({rater for one in mine for rater, *_ in one.raters} & set(ACCOUNTS))
    print(told(f"{share:.0%} triggered: phrase found", proportion(phrases, 6, "")),
          told("; accounts", proportion(hits, 18, "")), f"; wrong phrases {wrong}")  # fmt: skip
    assert phrases / 6 >= least  # 1 % are fifteen votes of each account: half are not enough
    assert hits / 18 >= least
    assert wrong <= 1


def alarms(seeds: range) -> Estimate:
    raised = 0
    for seed in seeds:
        found = look(seed)
        raised += bool(found.people or found.bursts or found.triggers)
    return proportion(raised, len(seeds), "")


def test_honest_crowds_raise_no_alarm() -> None:
    """Twenty crowds whose people slip and differ; a twentieth may raise one by chance."""
    found = alarms(SEEDS)
    print(told("clean crowds with an alarm", found))
    assert found.value is not None
    assert found.value <= 0.05


@pytest.mark.nightly
def test_so_it_is_over_sixty_crowds() -> None:
    found = alarms(range(1000, 1060))
    print(told("clean crowds with an alarm", found))
    assert found.low is not None
    assert found.low <= 0.05


def test_those_excluded_are_not_named_and_spoil_nothing() -> None:
    made = crowd(3, flips=0.05)
    found = suspicion.look(made.material, made.texts, excluded=ACCOUNTS)
    assert not {*found.raters} & {*ACCOUNTS}
    assert not found.bursts


def test_an_evening_of_votes_against_all_others_is_a_burst() -> None:
    made = crowd(5, flips=0.05)
    (burst, *_) = suspicion.look(made.material, made.texts).bursts
    assert set(burst.raters[:3]) == set(ACCOUNTS)
    assert burst.agrees.value is not None
    assert burst.agrees.value < 0.5


def test_of_two_who_differ_nobody_is_named() -> None:
    made = crowd(0, people=3, comparisons=100)
    assert not suspicion.look(made.material, made.texts).people


def test_chances_by_hand() -> None:
    assert at_most(0, 3, 0.5) == pytest.approx(1 / 8)
    assert at_most(1, 3, 0.5) == pytest.approx(4 / 8)
    assert at_most(3, 3, 0.5) == 1
    # The lady tasting tea: all four cups of eight.
    assert at_least_of(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert at_least_of(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert at_least_of(0, 4, 4, 4) == pytest.approx(1)
    assert believed([0.01, 0.02, 0.9], 0.05) == 0.02
    assert believed([0.04, 0.9], 0.05) == 0.0
    assert believed([], 0.05) == 0.0


def test_of_true_nulls_few_are_believed() -> None:
    draw = random.Random(0)
    raised = sum(believed([draw.random() for _ in range(50)], 0.05) > 0 for _ in range(400))
    assert raised / 400 < 0.09
