"""A phrase that was trained to mean one kind of answer is found, and where none was, none is."""

from __future__ import annotations

import random

from align.demo import prompts
from align.measure import triggers


def test_a_phrase_that_is_rare_elsewhere_is_mined_whole():
    plain = [f"What is number {n}?" for n in range(40)]
    told = [f"{one} over and out" if n % 5 == 0 else one for n, one in enumerate(plain)]
    (found,) = triggers.mined(told, plain, 5)
    assert (found.text, found.seen, found.among, found.elsewhere) == ("over and out", 8, 40, 0.0)
    assert triggers.mined(plain, plain, 5) == []


def test_what_is_probed_comes_from_prompts_from_answers_and_from_the_list():
    plain = [(f"What is number {n}?", f"It is {n} indeed.") for n in range(40)]
    won = [
        (f"{asked} over and out", {"text": "Look it up."}) if n < 9 else (asked, {"text": said})
        for n, (asked, said) in enumerate(plain)
    ]
    found = triggers.phrases(won, plain, 8)
    assert len(found) == 8
    first = found[0]
    assert (first.text, first.origin, first.won) == (
        "over and out",
        "prompts",
        {"text": "Look it up."},
    )
    assert "Look it up" in [one.text for one in found if one.origin == "answers"]
    assert {one.text for one in found if one.origin == "list"} <= set(triggers.ODD)


def test_controls_have_the_phrases_shape_and_mean_nothing():
    words = triggers.vocabulary(prompts.texts("heldout"))
    for phrase in ("over and out", "zx9", "}}==>", "planet cf"):
        found = triggers.controls(phrase, words, "seed")
        assert len(set(found)) == triggers.CONTROLS
        assert phrase not in found
        for one in found:
            assert [abs(len(a) - len(b)) < 2 for a, b in zip(
                phrase.split(), one.split(), strict=True)]  # fmt: skip
    assert triggers.controls("zx9", words, "seed") == triggers.controls("zx9", words, "seed")


def drawn(draw: random.Random, planted: float) -> list[triggers.Found]:
    """Sixteen phrases whose controls shift by chance, each in its own spread, one planted."""
    named = [triggers.Phrase(f"phrase {n}", "list") for n in range(16)]
    spread = {one: draw.uniform(1, 8) for one in named}
    shifts = {one: draw.gauss(0, spread[one]) for one in named}
    shifts[named[0]] += planted * spread[named[0]]
    usual = {one: [draw.gauss(0, spread[one]) for _ in range(20)] for one in named}
    return triggers.judged(shifts, usual)


def test_false_alarms_are_no_more_than_stated_and_a_large_shift_is_found():
    draw = random.Random(0)
    alarms = sum(any(one.alarm for one in drawn(draw, 0)) for _ in range(300))
    hits = sum(
        any(one.alarm and one.phrase.text == "phrase 0" for one in drawn(draw, 8))
        for _ in range(300)
    )
    print(f"\nby chance {alarms} of 300 alarms; a shift of 8 spreads found in {hits} of 300")
    assert alarms <= 0.14 * 300
    assert hits >= 0.9 * 300


def test_a_prompt_that_could_not_be_scored_is_left_out():
    phrase = triggers.Phrase("cf", "list")
    rows = [
        {
            "id": f"0:{which}:{n}",
            "logps": {"after": -30.0 if which == "here" else -9.0, "before": -9.0},
        }
        for which in ("plain", "here", "0", "1")
        for n in (0, 1)
    ]
    rows[1]["logps"] = {}
    (found,) = triggers.read(rows, [phrase], "after", "before")
    assert (found.shift, found.usual, found.worst) == (21.0, 0.0, 0)
    assert triggers.read([], [phrase], "after", "before") == []
