"""Each format becomes conversations, answers and preferences as its authors meant them."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.transfer import formats
from plumbline.transfer.formats import (
    alpaca_eval,
    hh_rlhf,
    openai_preference,
    prompts_jsonl,
    trl_implicit,
    trl_preference,
    trl_unpaired,
)
from plumbline.transfer.rows import Answer, ImportedRow, digest, user


def transcript(*turns: str) -> str:
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[i % 2]}: {turn}" for i, turn in enumerate(turns))


def test_formats_are_found_by_file_name() -> None:
    writing = ["hh_rlhf", "openai_preference", "trl_implicit", "trl_preference", "trl_unpaired"]
    assert list(formats.exporters()) == [*writing, "votes"]
    assert set(formats.names()) - {*writing, "votes"} == {"alpaca_eval", "prompts_jsonl"}
    assert formats.find("hh_rlhf").LICENCE == "MIT"
    with pytest.raises(ValueError, match="no format 'csv'; there are alpaca_eval, hh_rlhf"):
        formats.find("csv")


def test_hh_rlhf_cuts_at_the_last_answer() -> None:
    row = hh_rlhf.parse(
        {
            "chosen": transcript("hi", "Hello.", "and tea?", "Yes, gladly."),
            "rejected": transcript("hi", "Hello.", "and tea?", "No."),
        }
    )
    assert row.messages == (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "and tea?"},
    )
    assert row.answers == (Answer("Yes, gladly.", "hh-rlhf"), Answer("No.", "hh-rlhf"))
    assert (row.preference, row.graded) == (1.0, False)


def test_hh_rlhf_answers_may_begin_alike_or_be_empty() -> None:
    row = hh_rlhf.parse({"chosen": transcript("hi", "Yes"), "rejected": transcript("hi", "Yes no")})
    assert [answer.text for answer in row.answers] == ["Yes", "Yes no"]
    row = hh_rlhf.parse(
        {"chosen": "\n\nHuman: hi\n\nAssistant:", "rejected": transcript("hi", "x")}
    )
    assert [answer.text for answer in row.answers] == ["", "x"]


def test_hh_rlhf_joins_turns_of_one_speaker() -> None:
    start = "\n\nHuman: hi\n\nAssistant: One.\n\nAssistant: Two.\n\nHuman: so\n\nAssistant: "
    row = hh_rlhf.parse({"chosen": start + "a\n\nAssistant: b", "rejected": start + "c"})
    assert row.messages[1]["content"] == "One.\n\nTwo."
    assert row.answers[0].text == "a\n\nb"
    start = "\n\nHuman: hi\n\nAssistant: One.\n\nAssistant: "
    row = hh_rlhf.parse({"chosen": start + "a", "rejected": start + "b"})
    assert row.messages == user("hi")
    assert [answer.text for answer in row.answers] == ["One.\n\na", "One.\n\nb"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "sentence"),
    [
        ("hello", "world", "no assistant's turn in common"),
        (transcript("hi", "a", "b", "c"), transcript("hi", "x", "b", "c"), "part before their"),
        ("So\n\nHuman: hi\n\nAssistant: a", "So\n\nHuman: hi\n\nAssistant: b", "must begin with"),
        ("\n\nAssistant: a", "\n\nAssistant: b", "there are no messages"),
    ],
)
def test_hh_rlhf_refuses_what_is_no_pair(chosen: str, rejected: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        hh_rlhf.parse({"chosen": chosen, "rejected": rejected})


def test_trls_own_examples_come_in() -> None:
    """The standard ones of its documentation, whose texts have no marks."""
    pair = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    row = trl_preference.parse(pair)
    assert row.messages == user("The sky is")
    assert [answer.text for answer in row.answers] == [" blue.", " green."]
    assert row.preference == 1.0
    single = {"prompt": "The sky is", "completion": " green.", "label": False}
    row = trl_unpaired.parse(single)
    assert row.vote is not None
    assert (row.answers[0].text, row.vote.outcome) == (" green.", "all_bad")
    # Nothing says where the answer begins.
    with pytest.raises(ValueError, match="chosen: must begin with"):
        trl_implicit.parse({"chosen": "The sky is blue.", "rejected": "The sky is green."})


def test_a_conversation_is_cut_before_its_last_message() -> None:
    asked = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "tea?"},
    ]
    sides = {
        name: [*asked, {"role": "assistant", "content": text}]
        for name, text in (("chosen", "Yes, gladly."), ("rejected", "Yes, no."))
    }
    row = trl_implicit.parse(sides)
    assert list(row.messages) == asked
    assert [answer.text for answer in row.answers] == ["Yes, gladly.", "Yes, no."]


def test_openais_own_example_comes_in() -> None:
    row = openai_preference.parse(
        {
            "input": {
                "messages": [{"role": "user", "content": "Hello, can you tell me how cold SF is?"}],
                "tools": [],
                "parallel_tool_calls": True,
            },
            "preferred_output": [{"role": "assistant", "content": "It is 12 degrees there."}],
            "non_preferred_output": [{"role": "assistant", "content": "Rather cold."}],
        }
    )
    assert row.messages == user("Hello, can you tell me how cold SF is?")
    assert row.answers[0].text == "It is 12 degrees there."


JUDGED: dict[str, Any] = {
    "index": 7,
    "instruction": "Name a sea.",
    "generator_1": "base",
    "output_1": "The North Sea.",
    "generator_2": "other",
    "output_2": "No.",
    "preference": 1.25,
}


def test_alpaca_eval_gives_the_probability_of_the_first_answer() -> None:
    row = alpaca_eval.parse(JUDGED)
    assert row.messages == user("Name a sea.")
    assert row.answers == (Answer("The North Sea.", "base"), Answer("No.", "other"))
    assert (row.preference, row.graded, row.key) == (0.75, True, "7/other")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preference": None}, "a number from 1 to 2"),
        ({"preference": "1.5"}, "a number from 1 to 2"),
        ({"preference": True}, "a number from 1 to 2"),
        ({"preference": 2.5}, "from 1 to 2, not 2.5"),
        ({"output_1": None}, "'output_1' must be a string, not NoneType"),
        ({"instruction": " "}, "message 1 is empty"),
        ({"output_2": "a\0b"}, "NUL"),
        ({"output_2": "\ud800"}, "surrogate"),
        ({"output_2": "x" * 200_001}, "at most 200000"),
    ],
)
def test_alpaca_eval_names_what_is_wrong(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        alpaca_eval.parse({**JUDGED, **changes})


def test_prompts_come_as_text_or_as_messages() -> None:
    assert prompts_jsonl.parse({"prompt": "hi", "id": 3}).messages == user("hi")
    row = prompts_jsonl.parse(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ],
            "split": "heldout",
        }
    )
    assert (len(row.messages), row.split) == (2, "heldout")


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({}, "either 'prompt' or 'messages'"),
        ({"prompt": "a", "messages": []}, "either 'prompt' or 'messages'"),
        ({"prompt": 3}, "must be a string"),
        ({"prompt": "a", "split": "test"}, "train or heldout"),
        ({"messages": "a"}, "must be a list"),
        ({"messages": []}, "no messages"),
        ({"messages": ["a"]}, "must be an object"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "has the role 'robot'"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "must be the user's"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused(record: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        prompts_jsonl.parse(record)


def test_a_preference_needs_two_answers_and_a_probability() -> None:
    one, two = Answer("a", "x"), Answer("b", "y")
    with pytest.raises(ValueError, match="two answers, not 1"):
        ImportedRow(user("hi"), (one,), 1.0)
    with pytest.raises(ValueError, match="a probability"):
        ImportedRow(user("hi"), (one, two), 1.1)
    with pytest.raises(ValueError, match="at most 9"):
        ImportedRow(user("hi"), (one,) * 10)


def test_a_prompt_is_known_by_its_digest() -> None:
    assert digest(user("hi")) == digest([{"content": "hi", "role": "user"}])
    assert (
        digest(user("hi")) != digest(user("hi ")) != digest([{"role": "system", "content": "hi"}])
    )
