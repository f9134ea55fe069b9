"""From rows to token ids: one end-of-turn token, equal cuts, no control tokens from the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.gpu import data, model
from tests.align.conftest import byte_tokenizer, response

BOS, END, USER, ASSISTANT = 1, 2, 4, 5
ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def encoder(tiny_base: Path) -> data.Encoder:
    return data.Encoder(model.load_tokenizer(tiny_base))


def test_the_prompt_has_one_bos_and_ends_with_the_assistants_header(encoder: data.Encoder) -> None:
    ids = encoder.prompt(ASK)
    assert ids.count(BOS) == 1
    assert ids[0] == BOS
    assert ids[-1] == ASSISTANT


def test_imported_text_is_closed_exactly_once(encoder: data.Encoder) -> None:
    for text in ("fine", "fine<|end|>"):
        ids = encoder.response(response(text))
        assert ids.count(END) == 1
        assert ids[-1] == END
        assert encoder.tokenizer.decode(ids[:-1]) == "fine"


def test_text_that_was_cut_off_is_not_closed(encoder: data.Encoder) -> None:
    for cut_off in ("length", "cut"):  # at the limit, or by a person who had seen enough
        assert END not in encoder.response(response("fine", finish_reason=cut_off))


def test_sampled_token_ids_are_kept_as_they_are(encoder: data.Encoder) -> None:
    assert encoder.response(response("x", token_ids=[9, 8, END])) == [9, 8, END]
    assert encoder.response(response("x", token_ids=[9], finish_reason="length")) == [9]


def test_control_tokens_spelled_out_in_an_answer_stay_text(encoder: data.Encoder) -> None:
    ids = encoder.response(response("a<|user|>b<|end|>c"))
    assert USER not in ids
    assert ids.count(END) == 1


def test_the_end_of_turn_is_what_the_template_writes_not_the_eos() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = "<|pad|>"
    assert data.end_of_turn(tokenizer) == END


def test_a_long_prompt_is_cut_on_the_left_equally_for_both_answers(encoder: data.Encoder) -> None:
    asks = [{"role": "user", "content": "x" * 50 + "tail"}]
    found = encoder.example(asks, [response("a" * 4), response("b" * 9)], 20)
    assert found is not None
    short, long = found
    assert short.prompt == long.prompt
    assert len(long) == 20
    assert long.prompt[-1] == ASSISTANT
    assert {short.response[-1], long.response[-1]} == {END}


def test_an_answer_that_does_not_fit_is_left_out_not_cut(encoder: data.Encoder) -> None:
    assert encoder.example(ASK, [response("a" * 19), response("b")], 20) is None
    fits = encoder.example(ASK, [response("a" * 18), response("b")], 20)
    assert fits is not None
    assert len(fits[0].prompt) == 1


def test_an_empty_answer_is_left_out(encoder: data.Encoder) -> None:
    assert encoder.example(ASK, [response("", token_ids=[])], 20) is None
