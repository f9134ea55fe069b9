"""What TRL's dataset types have in common: two layouts of a conversation, and columns beside them.

Conversational is a list of messages, standard is a string; one row is all of one layout. Columns
that TRL does not know it leaves alone: `weight` and `vote` are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from align.jobs import Message
from plumbline.transfer import checks, transcript
from plumbline.transfer.checks import Problem, kind
from plumbline.transfer.options import CONVERSATIONAL
from plumbline.transfer.outgoing import Export, Item
from plumbline.transfer.rows import user


class Written:
    """One comparison's texts in the layout that is asked for."""

    def __init__(self, item: Item, export: Export) -> None:
        self._item, self._export = item, export
        self._messages = export.options.layout == CONVERSATIONAL
        self._prompt: Any = None

    @property
    def prompt(self) -> Any:
        if self._prompt is None:
            messages = self._item.messages
            self._prompt = messages if self._messages else transcript.prompt(messages)
        return self._prompt

    def answer(self, text: str) -> Any:
        return [{"role": "assistant", "content": text}] if self._messages else f" {text}"

    def fits(self, *answers: str) -> bool:
        """Whether the texts can be told apart in this layout; counts a row that they cannot."""
        if self._messages or all(transcript.fits(self._item.messages, one) for one in answers):
            return True
        self._export.left[transcript.UNFIT] += 1
        return False

    def extras(self, weight: float | None, vote: str) -> dict[str, Any]:
        if not self._export.options.extras:
            return {}
        vote = vote or f"majority-{self._item.comparison.pk}"
        return {"vote": vote} if weight is None else {"weight": weight, "vote": vote}


def asked(prompt: Any) -> list[Message]:
    """The conversation of a checked prompt in either layout."""
    if not isinstance(prompt, str):
        return [{"role": one["role"], "content": one["content"]} for one in prompt]
    if transcript.is_prompt(prompt):
        return transcript.turns(prompt.removesuffix(transcript.ASSISTANT))
    return list(user(prompt))


def answered(prompt: Any, answer: Any) -> str:
    """The text of a checked answer in either layout."""
    if not isinstance(answer, str):
        return str(answer[0]["content"])
    return answer.removeprefix(" ") if transcript.is_prompt(prompt) else answer


def key(record: Mapping[str, Any]) -> str:
    """What tells equal rows of several votes apart."""
    vote = record.get("vote")
    return vote if isinstance(vote, str) else ""


def plain(message: Mapping[str, Any]) -> tuple[Any, Any]:
    return message["role"], message["content"]


def check_extras(record: Mapping[str, Any]) -> Iterator[Problem]:
    """Columns beside the type's own may be anything, but what is known must be of its kind."""
    if record.get("tools"):
        yield Problem("tools", "calls of tools are not taken")
    weight = record.get("weight", 1)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or weight <= 0:
        yield Problem("weight", f"must be a number above 0, not {weight!r}")


def check_prompted(record: Mapping[str, Any], answers: Sequence[str]) -> Iterator[Problem]:
    """An explicit prompt and answers, all strings or all lists of messages."""
    if isinstance(record.get("prompt"), str):
        yield from checks.text(record, "prompt", empty=False)
        for name in answers:
            yield from checks.text(record, name)
        return
    yield from checks.messages(record, "prompt")
    for name in answers:
        if isinstance(record.get("prompt"), list) and isinstance(record.get(name), str):
            yield Problem(name, f"must be a list of messages as 'prompt' is, not {kind('')}")
        else:
            yield from checks.answer(record, name)
