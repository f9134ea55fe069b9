"""How much one request of a key may ask for, and what it may cost in tokens at most.

A cap of the key counts beside the API's own bounds, which `wire` keeps. A key whose answers are
capped gets the cap where its client names no length, so that leaving it out is no way around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.accounts.models import ApiKey
from plumbline.gateway import wire_tools
from plumbline.gateway.wire import ApiError, Asked

BYTES_PER_TOKEN = 4  # of ordinary text; the engine's own count replaces the estimate at the end
TOKENS_PER_MESSAGE = 4  # what a chat template adds
USUAL_TOKENS = 16  # of a plain completion that names no length
LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True)
class Caps:
    """None: whatever the API takes. `longest_prompt` is in characters."""

    most_choices: int | None = None
    most_tokens: int | None = None
    longest_prompt: int | None = None


def of(key: ApiKey) -> Caps:
    return Caps(key.most_choices, key.most_tokens, key.longest_prompt)


def keep(caps: Caps, asked: Asked) -> None:
    """Raises ApiError naming the cap that a request breaks; caps the length it does not name."""
    texts = _texts(asked)
    size = sum(map(len, texts))
    if caps.longest_prompt is not None and size > caps.longest_prompt:
        said = f"This key's prompts may have {caps.longest_prompt} characters; this one has {size}."
        raise ApiError(413, said, param=_source(asked.body), code="prompt_too_long")
    choices = _choices(asked.body)
    if caps.most_choices is not None and choices > caps.most_choices:
        said = f"This key may ask for {caps.most_choices} answers in one request, not {choices}."
        param = "best_of" if asked.best_of > 1 else "n"
        raise ApiError(400, said, param=param, code="too_many_choices")
    if caps.most_tokens is None:
        return
    named = [name for name in LENGTHS if name in asked.body]
    for name in named:
        if asked.body[name] > caps.most_tokens:
            said = f"This key's answers may have {caps.most_tokens} tokens, not {asked.body[name]}."
            raise ApiError(400, said, param=name, code="max_tokens_too_large")
    if not named:
        name = "max_output_tokens" if _source(asked.body) == "input" else "max_tokens"
        usual = caps.most_tokens if asked.turns else USUAL_TOKENS
        asked.body[name] = min(caps.most_tokens, usual)


def cost(asked: Asked, context: int) -> tuple[int, int]:
    """Tokens of a request: its prompt's, estimated; and with them all that it lets be written."""
    texts = _texts(asked)
    prompt = sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)
    if asked.turns:
        prompt += TOKENS_PER_MESSAGE * len(asked.turns)
        usual = max(1, context - prompt)
    else:
        usual = USUAL_TOKENS
    length = next((asked.body[name] for name in LENGTHS if name in asked.body), usual)
    return prompt, prompt + int(length) * _choices(asked.body)


def _source(body: Mapping[str, Any]) -> str:
    return next(name for name in ("messages", "input", "prompt") if name in body)


def _texts(asked: Asked) -> list[str]:
    """All that the engine reads: what was said, calls of tools, tools and schemas."""
    if not asked.turns:
        prompt = asked.body["prompt"]
        return list(prompt) if isinstance(prompt, list) else [prompt]
    said = [turn["content"] for turn in asked.turns if turn["content"]]
    calls = [call["function"] for turn in asked.turns for call in turn.get("tool_calls", ())]
    said += [call["name"] + call["arguments"] for call in calls]
    return said + wire_tools.texts(asked.body)


def _choices(body: Mapping[str, Any]) -> int:
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    return prompts * int(body.get("n", 1))
