"""What a client of the engine may ask, in vLLM's words; anything else is refused by name.

A field this engine does not know is ignored, as vLLM does; one that it knows of but cannot honour
is refused, because silently different answers would be worse than none.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from align.gpu.answers import Sampling

MOST_DRAWS = 1024  # prompts x n of one request
MOST_LOGPROBS = 20

# Fields that would change the answer, and the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "ignore_eos": (False,),
    "min_p": (0,),
    "min_tokens": (0,),
    "presence_penalty": (0,),
    "prompt_logprobs": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "stop_token_ids": ([],),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
}


class Refused(Exception):
    """An error with the status and the JSON body that OpenAI's clients expect."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, kind: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        kinds = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
        self.body = {
            "error": {
                "message": message,
                "type": kind or kinds.get(status, "InternalServerError"),
                "param": param,
                "code": status,
            }
        }


@dataclass(frozen=True)
class Asked:
    """A request that can be run."""

    chat: bool
    prompts: list[list[int]]
    sampling: Sampling
    stream: bool
    include_usage: bool
    return_token_ids: bool


def completion(body: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, room: int) -> Asked:
    """POST /v1/completions. `room` is the context length. Raises Refused."""
    prompts = _prompts(body.get("prompt"), tokenizer)
    max_tokens = whole(body, "max_tokens", 16, low=1)
    assert max_tokens is not None
    top = whole(body, "logprobs", None, low=0, high=MOST_LOGPROBS)
    return _asked(body, prompts, max_tokens, top, room, len(tokenizer), chat=False)


def chat(body: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, room: int) -> Asked:
    """POST /v1/chat/completions. Raises Refused."""
    prompt = render(body, tokenizer, add_generation_prompt=True)
    newer = whole(body, "max_completion_tokens", None, low=1)
    max_tokens = newer or whole(body, "max_tokens", None, low=1) or max(1, room - len(prompt))
    top = whole(body, "top_logprobs", 0, low=0, high=MOST_LOGPROBS)
    wanted = top if flag(body, "logprobs") else None
    return _asked(body, [prompt], max_tokens, wanted, room, len(tokenizer), chat=True)


def render(
    body: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, *, add_generation_prompt: bool
) -> list[int]:
    """Messages -> the token ids of the chat template. Raises Refused."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list of at least one message.", "messages")
    turns = [_turn(message, i) for i, message in enumerate(messages)]
    try:
        prompt = tokenizer.apply_chat_template(
            turns, add_generation_prompt=add_generation_prompt, tokenize=False
        )
    except TemplateError as error:
        raise Refused(f"The chat template refuses these messages: {error}", "messages") from error
    return list(tokenizer(str(prompt), add_special_tokens=False)["input_ids"])


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def text(body: Mapping[str, Any], name: str) -> str:
    """A field that must be there as words. Raises Refused."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(f"{name} must be given as a string.", name)
    return value


def whole(
    body: Mapping[str, Any],
    name: str,
    default: int | None,
    *,
    low: int | None = None,
    high: int | None = None,
) -> int | None:
    """An integer field; null counts as missing. Raises Refused naming it."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"{name} must be an integer, not {value!r}.", name)
    if low is not None and value < low:
        raise Refused(f"{name} must be at least {low}, got {value}.", name)
    if high is not None and value > high:
        raise Refused(f"{name} must be at most {high}, got {value}.", name)
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{name} must be true or false, not {value!r}.", name)
    return bool(value)


def _asked(
    body: Mapping[str, Any],
    prompts: list[list[int]],
    max_tokens: int,
    top_logprobs: int | None,
    room: int,
    words: int,
    *,
    chat: bool,
) -> Asked:
    """`words`: tokens of the vocabulary."""
    for name, neutral in NEUTRAL.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            raise Refused(f"{name} is not supported by this engine; vLLM supports it.", name)
    n = whole(body, "n", 1, low=1)
    assert n is not None
    if n * len(prompts) > MOST_DRAWS:
        raise Refused(f"prompts times n must be at most {MOST_DRAWS}.", "n")
    longest = max(len(prompt) for prompt in prompts)
    if longest + max_tokens > room:
        raise Refused(
            f"This model's context length is {room} tokens; the prompt has {longest} and "
            f"max_tokens={max_tokens} more were asked for.",
            "max_tokens" if longest < room else ("messages" if chat else "prompt"),
        )
    options = body.get("stream_options")
    if options is not None and not flag(body, "stream"):
        raise Refused("Stream options can only be defined when `stream=True`.", "stream_options")
    seed = whole(body, "seed", None, low=-(2**63), high=2**63 - 1)
    return Asked(
        chat=chat,
        prompts=prompts,
        sampling=Sampling(
            n=n,
            temperature=_number(body, "temperature", 1.0, low=0.0),
            top_p=_top_p(body),
            top_k=max(0, whole(body, "top_k", 0, low=-1) or 0),
            max_tokens=max_tokens,
            seed=secrets.randbits(62) if seed is None else seed,
            stop=_stop(body.get("stop")),
            top_logprobs=top_logprobs,
            logit_bias=_logit_bias(body.get("logit_bias"), words),
        ),
        stream=flag(body, "stream"),
        include_usage=isinstance(options, Mapping) and flag(options, "include_usage"),
        return_token_ids=flag(body, "return_token_ids"),
    )


def _prompts(value: Any, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """A string, a list of token ids, or a list of either."""
    if value is None or value == "" or value == []:
        raise Refused("prompt must be given and not be empty.", "prompt")
    if isinstance(value, str) or (isinstance(value, list) and _are_tokens(value)):
        value = [value]
    if not isinstance(value, list):
        raise Refused("prompt must be a string, a list of token ids, or a list of those.", "prompt")
    prompts = []
    for one in value:
        if isinstance(one, str):
            one = encode(one, tokenizer)
        if not isinstance(one, list) or not one or not _are_tokens(one):
            raise Refused("each prompt must be a string or a list of token ids.", "prompt")
        bad = next((token for token in one if not 0 <= token < len(tokenizer)), None)
        if bad is not None:
            raise Refused(f"Token id {bad} is out of vocabulary.", "prompt")
        prompts.append(one)
    return prompts


def _are_tokens(value: list[Any]) -> bool:
    return all(isinstance(token, int) and not isinstance(token, bool) for token in value)


def _turn(message: Any, index: int) -> dict[str, str]:
    """Content may be a string or OpenAI's list of text parts."""
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
        raise Refused(f"{where} must be an object with role and content.", "messages")
    if message.get("role") == "tool" or message.get("tool_calls"):
        raise Refused(
            f"{where}: tools are not supported by this engine; vLLM supports them.", where
        )
    if message.get("role") not in ("system", "user", "assistant"):
        raise Refused(f"{where}.role must be system, user or assistant.", "messages")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
            raise Refused(f"{where}.content may hold parts of type text only.", "messages")
        content = "\n".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise Refused(f"{where}.content must be a string.", "messages")
    return {"role": str(message["role"]), "content": content}


def _logit_bias(value: Any, words: int) -> tuple[tuple[int, float], ...]:
    """{"token id": bias} with biases of -100 to 100, as in OpenAI's API."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise Refused("logit_bias must be an object of token ids and biases.", "logit_bias")
    found = []
    for name, bias in value.items():
        spelled = name.isascii() and name.isdigit() and len(name) < 10
        if not spelled or int(name) >= words:
            raise Refused(f"logit_bias: token id {name} is out of vocabulary.", "logit_bias")
        if not isinstance(bias, int | float) or isinstance(bias, bool) or not -100 <= bias <= 100:
            raise Refused(f"logit_bias of {name} must be from -100 to 100.", "logit_bias")
        found.append((int(name), float(bias)))
    return tuple(sorted(found))


def _number(body: Mapping[str, Any], name: str, default: float, *, low: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise Refused(f"{name} must be a number, not {value!r}.", name)
    if value < low:
        raise Refused(f"{name} must be at least {low:g}, got {value}.", name)
    return float(value)


def _top_p(body: Mapping[str, Any]) -> float:
    value = _number(body, "top_p", 1.0, low=0.0)
    if not 0 < value <= 1:
        raise Refused(f"top_p must be in (0, 1], got {value}.", "top_p")
    return value


def _stop(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise Refused("stop must be a string or a list of strings, none of them empty.", "stop")
    return tuple(stops)
