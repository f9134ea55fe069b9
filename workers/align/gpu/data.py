"""From rows of text to token ids: chat template, end-of-turn, truncation.

Sampled answers keep their sampled token ids; imported text is tokenized here and closed with the
end-of-turn token exactly once. Prompts are cut on the left, equally for all answers of an example;
an answer is never cut: an example whose answer does not fit is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from align import jobs

MARK = "answer"


@dataclass(frozen=True)
class Exchange:
    """One prompt with one response, as token ids."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


class Encoder:
    """A tokenizer with its chat template and its end-of-turn token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.end = end_of_turn(tokenizer)
        self.end_text = cast(str, tokenizer.convert_ids_to_tokens(self.end))

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation and the header of the assistant's turn. The template writes BOS."""
        text = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=True, tokenize=False
        )
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def response(self, row: Mapping[str, Any]) -> list[int]:
        """A response's token ids, as sampled; or its text, closed unless it was cut off, at the
        length limit or by a reader who had seen enough.

        Control tokens spelled out inside the text stay plain text.
        """
        if row["token_ids"] is not None:
            return list(row["token_ids"])
        text = row["text"].removesuffix(self.end_text)
        ids = list(
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        )
        return ids if row["finish_reason"] in jobs.CUT_OFF else [*ids, self.end]

    def example(
        self,
        messages: Sequence[Mapping[str, str]],
        rows: Sequence[Mapping[str, Any]],
        max_length: int,
    ) -> list[Exchange] | None:
        """All responses to one prompt, behind the same cut of it.

        None when an answer is empty or leaves no room for a prompt token within `max_length`.
        """
        responses = [self.response(row) for row in rows]
        room = max_length - max(len(response) for response in responses)
        if room < 1 or not all(responses):
            return None
        prompt = tuple(self.prompt(messages)[-room:])
        return [Exchange(prompt, tuple(response)) for response in responses]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The special token that the chat template writes after an assistant's answer.

    Raises ValueError when neither the template nor the tokenizer has one.
    """
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": MARK}]
    text = cast(str, tokenizer.apply_chat_template(turns, tokenize=False))
    after = tokenizer(text.rpartition(MARK)[2], add_special_tokens=False)["input_ids"]
    if after and after[0] in set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder):
        return int(after[0])
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-turn token and its template writes none")
    return int(tokenizer.eos_token_id)
