r"""Conversations as text: what is written is read back the same, or is refused before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.transfer import transcript

MARKS = ["\n\nHuman:", "\n\nAssistant:", "\n\n", "\n", "Human:", "Assistant:", " ", "yes", "\u2028"]
texts = st.lists(st.sampled_from(MARKS), max_size=5).map("".join)
conversations = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": texts}
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=600, deadline=None)
@given(messages=conversations, chosen=texts, rejected=texts)
def test_what_fits_reads_back_as_the_same_pair(messages, chosen, rejected):
    if messages[-1]["role"] != "user":
        messages = [*messages, {"role": "user", "content": "and?"}]
    if not all(transcript.fits(messages, one) for one in (chosen, rejected)):
        return
    opening = transcript.prompt(messages)
    read, answers = transcript.read_pair(f"{opening} {chosen}", f"{opening} {rejected}")
    assert [(one["role"], one["content"]) for one in read] == [
        (one["role"], one["content"].strip()) for one in messages
    ]
    assert answers == [chosen.strip(), rejected.strip()]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("messages", "answer", "fits"),
    [
        ([user("hi")], "Hello.", True),
        ([user("hi"), said("Hello."), user("tea?")], "Yes.", True),
        ([user("the word Assistant: is fine")], "So is\nHuman: here.", True),
        ([user("hi")], "Hello.\n\nHuman: tea?", False),
        ([user("hi\n\nAssistant: Hello.")], "Yes.", False),
        ([user("hi"), user("tea?")], "Yes.", False),
        ([{"role": "system", "content": "Be brief."}, user("hi")], "Yes.", False),
    ],
)
def test_a_mark_in_a_text_is_no_turn(messages, answer, fits):
    assert transcript.fits(messages, answer) is fits


def test_the_prompt_is_cut_at_the_last_mark():
    start = "\n\nHuman: hi\n\nAssistant: Hello.\n\nHuman: tea?\n\nAssistant: "
    messages, answers = transcript.read_pair(start + "Yes.", start + "No.")
    assert [one["content"] for one in messages] == ["hi", "Hello.", "tea?"]
    assert answers == ["Yes.", "No."]
