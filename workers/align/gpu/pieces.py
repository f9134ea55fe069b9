"""What each token of an answer is in words, such that the pieces together are the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from transformers import PreTrainedTokenizerBase

BROKEN = "\N{REPLACEMENT CHARACTER}"  # what part of a character decodes to


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """A string for each token, special tokens by their names.

    Tokens that are part of a character get "", and the one that completes it the character. A
    token is read behind the one before it, as some tokenizers drop what begins a text.
    """

    def text(begin: int, end: int) -> str:
        found = tokenizer.decode(
            list(ids[begin:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return cast(str, found)

    found: list[str] = []
    behind = read = 0
    for end in range(1, len(ids) + 1):
        whole = text(behind, end)
        if whole.endswith(BROKEN) and end < len(ids):
            found.append("")
            continue
        found.append(whole[len(text(behind, read)) :])
        behind, read = read, end
    return found
