"""Every kind of question, from the form's fields to what is stored and said back."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from plumbline.collect import kinds, queue, screen
from plumbline.collect.forms import BallotForm
from tests.comparisons import open_campaign

CRITERIA = [
    {"name": "helpful", "least": 1, "most": 5, "low": "not at all", "high": "fully"},
    {"name": "honest", "least": 0, "most": 1},
]


@pytest.fixture
def asked(project, bob):
    """`asked(answers, asks, ...)`: bob's open ballot in a campaign that asks for these."""

    def claim(answers: int, *asks: str, **settings):
        if "rate" in asks:
            settings["criteria"] = CRITERIA
        campaign = open_campaign(
            project, comparisons=1, answers=answers, asks=list(asks), **settings
        )
        return queue.claim_next(bob, campaign)

    return claim


def cast(ballot, **sent):
    form = BallotForm(ballot, {"key": str(uuid4()), **sent})
    assert form.is_valid(), form.errors
    return queue.cast(ballot, form.verdict(), form.cleaned_data["key"])


def refusal(ballot, **sent) -> str:
    form = BallotForm(ballot, {"key": str(uuid4()), **sent})
    assert not form.is_valid()
    return str(form.errors)


def ratings(count: int, value: int = 4) -> dict:
    return {f"rate_{n}_helpful": value for n in range(count)} | {
        f"rate_{n}_honest": 1 for n in range(count)
    }


def test_one_gesture_says_which_is_better_and_how_good_it_is(asked):
    ballot = asked(2, "compare", "mark")
    stored = cast(ballot, choice="B3.2")
    assert stored.ranking == [[ballot.shown[1]], [ballot.shown[0]]]
    assert (stored.strength, stored.mark) == (3, 2)
    assert screen.sentence(stored) == "B much better than A, and ok"
    assert kinds.fill(stored)["choice"] == "B3.2"


def test_half_a_gesture_is_not_enough_and_both_bad_needs_no_mark(asked):
    ballot = asked(2, "compare", "mark")
    assert "choice" in refusal(ballot, choice="B3")
    assert cast(ballot, choice="bad").outcome == "all_bad"


@pytest.mark.parametrize("count", [3, 6])
def test_numbers_make_a_ranking_and_equal_numbers_a_tie(asked, count):
    ballot = asked(count, "compare")
    places = {f"place_{n}": 1 if n < 2 else n for n in range(count)}
    stored = cast(ballot, **places)
    assert stored.ranking[0] == sorted(ballot.shown[:2])
    assert stored.ranking[1:] == [[slot] for slot in ballot.shown[2:]]
    assert screen.sentence(stored).startswith("A = B > C")
    assert BallotForm(ballot, {"key": str(uuid4()), **kinds.fill(stored)}).is_valid()


@pytest.mark.parametrize("count", [7, 9])
def test_above_six_the_best_and_the_worst_are_asked_for(asked, count):
    ballot = asked(count, "compare", "mark")
    assert "two answers" in refusal(ballot, best="1", worst="1", mark="3")
    assert "the worst" in refusal(ballot, best="1", mark="3")
    stored = cast(ballot, best="1", worst="4", mark="3")
    assert stored.ranking[0] == [ballot.shown[1]]
    assert stored.ranking[-1] == [ballot.shown[4]]
    assert len(stored.ranking[1]) == count - 2
    assert stored.mark == 3
    assert kinds.fill(stored) | {"best": "1", "worst": "4", "mark": "3"} == kinds.fill(stored)


def test_all_bad_wants_no_places_no_mark_and_no_ratings(asked):
    stored = cast(asked(4, "compare", "mark", "rate"), all_bad="on")
    assert (stored.outcome, stored.mark, stored.ratings) == ("all_bad", None, {})


def test_every_answer_is_rated_by_every_criterion(asked):
    ballot = asked(2, "rate")
    some = ratings(2)
    del some["rate_1_helpful"]
    assert "Rate answer B by helpful." in refusal(ballot, **some)
    assert "rate_0_helpful" in refusal(ballot, **{**ratings(2), "rate_0_helpful": 9})
    stored = cast(ballot, **ratings(2))
    assert stored.outcome == "absolute"
    assert stored.ratings == {str(slot): {"helpful": 4, "honest": 1} for slot in ballot.shown}
    assert screen.sentence(stored) == "A: helpful 4, honest 1; B: helpful 4, honest 1"


def test_a_correction_is_a_text_by_slot_and_an_untouched_one_is_none(asked):
    ballot = asked(2, "compare", "correct")
    texts = [pane.text for pane in screen.panes(ballot)]
    stored = cast(ballot, choice="A2", correct_0=texts[0], correct_1="Better.\r\nTwo lines.")
    assert stored.corrections == {str(ballot.shown[1]): "Better.\nTwo lines."}
    assert screen.sentence(stored) == "A better than B; B corrected"
    assert screen.corrected(stored) == [("B", texts[1], "Better.\nTwo lines.")]


def test_a_correction_alone_must_change_something(asked):
    ballot = asked(1, "correct")
    text = screen.panes(ballot)[0].text
    assert "nothing to correct" in refusal(ballot, correct_0=text)
    assert screen.sentence(cast(ballot, correct_0="Other words.")) == "corrected"


def test_a_critique_is_required_only_where_it_is_asked_for(asked):
    assert "asks for it" in refusal(asked(2, "compare", "critique"), choice="A2")
    stored = cast(
        asked(2, "compare", reasons=["Clearer", "Shorter"]), choice="A2", reasons=["Shorter"]
    )
    assert (stored.reasons, stored.comment) == (["Shorter"], "")
    assert "reasons" in refusal(
        asked(2, "compare", reasons=["Clearer"]), choice="A2", reasons=["X"]
    )


def test_places_are_stored_by_slot_and_read_back_as_words(asked):
    ballot = asked(2, "compare", "spans")
    text = screen.panes(ballot)[1].text
    row = {"n": 1, "start": 0, "end": 6, "label": "wrong", "note": "No"}
    stored = cast(ballot, choice="A2", spans=json.dumps([row]))
    assert stored.spans[0]["slot"] == ballot.shown[1]
    assert screen.marked(stored) == [("B", text[:6], "Wrong", "No")]
    assert screen.sentence(stored) == "A better than B; 1 place marked"
    assert json.loads(kinds.fill(stored)["spans"]) == [row]


@pytest.mark.parametrize(
    "spans",
    ["x", "[1]", '[{"n": 9}]', '[{"n": 0, "start": 0, "end": 9999, "label": "wrong"}]'],
)
def test_places_that_are_none_are_refused(asked, spans):
    refusal(asked(2, "compare", "spans"), choice="A2", spans=spans)


def test_without_a_script_a_place_is_marked_by_quoting_it(asked):
    ballot = asked(2, "compare", "spans")
    quote = {"quote_0": "Answer", "quote_0_of": "1", "quote_0_label": "unclear"}
    assert "does not say" in refusal(ballot, choice="A2", **{**quote, "quote_0": "never said"})
    stored = cast(ballot, choice="A2", **quote)
    assert screen.marked(stored) == [("B", "Answer", "Unclear", "")]


def test_one_campaign_may_ask_for_everything_at_once(asked):
    everything = ("compare", "mark", "rate", "correct", "critique", "spans")
    ballot = asked(3, *everything)
    sent = {"place_0": 2, "place_1": 1, "place_2": 3, "mark": "3", "comment": "Because.",
            "correct_2": "Mended.", **ratings(3)}  # fmt: skip
    stored = cast(ballot, **sent)
    assert screen.sentence(stored).startswith("B > A > C, and good; A: helpful 4")
    again = kinds.fill(stored)
    assert BallotForm(ballot, {"key": str(uuid4()), **again}).is_valid()
    for name, value in sent.items():
        assert str(again[name]) == str(value), name
