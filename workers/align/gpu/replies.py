"""What the engine answers, in the shapes of vLLM 0.32 and so of OpenAI."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from align.gpu.answers import Draw, TokenLogprob
from align.gpu.residents import Resident
from align.gpu.wire import Asked


@dataclass(frozen=True)
class Delta:
    """What one draw gained since the last message about it."""

    choice: int
    text: str
    tokens: list[int]
    logprobs: list[TokenLogprob]
    finish_reason: str | None
    stop_string: str | None


class Replies:
    """Everything said about one request: all parts carry one id and one time."""

    def __init__(self, asked: Asked, resident: Resident) -> None:
        self.asked = asked
        self._tokenizer = resident.tokenizer
        self._head = {
            "id": f"{'chatcmpl' if asked.chat else 'cmpl'}-{uuid.uuid4().hex[:16]}",
            "object": "chat.completion" if asked.chat else "text_completion",
            "created": int(time.time()),
            "model": resident.name,
        }
        if asked.chat and asked.stream:
            self._head["object"] = "chat.completion.chunk"

    def whole(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        choices = [self._choice(i, draw) for i, draw in enumerate(draws)]
        usage = self.usage([len(draw.tokens) for draw in draws])
        reply: dict[str, Any] = {**self._head, "choices": choices, "usage": usage}
        if self.asked.chat:
            reply["prompt_token_ids"] = self._ids(self.asked.prompts[0])
        return reply

    def opening(self) -> list[dict[str, Any]]:
        """A chat stream begins with the role, once for each choice."""
        if not self.asked.chat:
            return []
        return [
            {
                **self._head,
                "choices": [
                    {
                        "index": k,
                        "delta": {"role": "assistant", "content": ""},
                        "logprobs": None,
                        "finish_reason": None,
                    }
                ],
                "prompt_token_ids": self._ids(self.asked.prompts[0]),
            }
            for k in range(self.asked.sampling.n)
        ]

    def chunk(self, delta: Delta, first: bool) -> dict[str, Any]:
        """One piece of a stream."""
        choice: dict[str, Any] = {"index": delta.choice}
        if self.asked.chat:
            choice["delta"] = {"content": delta.text}
        else:
            choice["text"] = delta.text
            prompt = self.asked.prompts[delta.choice // self.asked.sampling.n]
            choice["prompt_token_ids"] = self._ids(prompt) if first else None
        choice |= {
            "logprobs": self._logprobs(delta.logprobs),
            "finish_reason": delta.finish_reason,
            "token_ids": self._ids(delta.tokens),
        }
        if delta.finish_reason is not None:
            choice["stop_reason"] = delta.stop_string
        return {**self._head, "choices": [choice]}

    def closing(self, tokens: Sequence[int]) -> list[dict[str, Any]]:
        """The usage, when the client asked for it."""
        if not self.asked.include_usage:
            return []
        return [{**self._head, "choices": [], "usage": self.usage(tokens)}]

    def usage(self, tokens: Sequence[int]) -> dict[str, int]:
        """Each prompt counts once however many answers were drawn."""
        prompt = sum(len(one) for one in self.asked.prompts)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + sum(tokens),
            "completion_tokens": sum(tokens),
        }

    def _choice(self, index: int, draw: Draw) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index}
        if self.asked.chat:
            choice["message"] = {"role": "assistant", "content": draw.text, "refusal": None}
        else:
            choice["text"] = draw.text
            choice["prompt_token_ids"] = self._ids(self.asked.prompts[draw.prompt])
        return choice | {
            "logprobs": self._logprobs(draw.logprobs),
            "finish_reason": draw.finish_reason,
            "stop_reason": draw.stop_string,
            "token_ids": self._ids(draw.tokens),
        }

    def _ids(self, tokens: list[int]) -> list[int] | None:
        return tokens if self.asked.return_token_ids else None

    def _logprobs(self, tokens: list[TokenLogprob]) -> dict[str, Any] | None:
        if self.asked.sampling.top_logprobs is None or not tokens:
            return None
        if self.asked.chat:
            return {"content": [self._chat_logprob(one) for one in tokens]}
        words = [self._word(one.token) for one in tokens]
        offsets = [sum(len(word) for word in words[:i]) for i in range(len(words))]
        return {
            "text_offset": offsets,
            "token_logprobs": [one.logprob for one in tokens],
            "tokens": words,
            "top_logprobs": [
                {self._word(token): logp for token, logp in [(one.token, one.logprob), *one.top]}
                for one in tokens
            ],
        }

    def _chat_logprob(self, one: TokenLogprob) -> dict[str, Any]:
        entry = self._spelled(one.token, one.logprob)
        return entry | {"top_logprobs": [self._spelled(token, logp) for token, logp in one.top]}

    def _spelled(self, token: int, logprob: float) -> dict[str, Any]:
        word = self._word(token)
        return {"token": word, "logprob": logprob, "bytes": list(word.encode())}

    def _word(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))


class Watcher:
    """Turns a draw's growth into deltas. Used in the worker's thread only."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._told: dict[tuple[int, int], tuple[int, int]] = {}  # characters, tokens

    def deltas(self, draws: Sequence[Draw], n: int) -> list[Delta]:
        """One for each draw with something new to tell: text, or its end."""
        found = []
        for draw in draws:
            key = (draw.prompt, draw.index)
            characters, tokens = self._told.get(key, (0, 0))
            settled = draw.settled(self._stop)
            if len(settled) <= characters and draw.finish_reason is None:
                continue
            found.append(
                Delta(
                    choice=draw.prompt * n + draw.index,
                    text=settled[characters:],
                    tokens=draw.tokens[tokens:],
                    logprobs=draw.logprobs[tokens:],
                    finish_reason=draw.finish_reason,
                    stop_string=draw.stop_string,
                )
            )
            self._told[key] = (max(characters, len(settled)), len(draw.tokens))
        return found


def model_card(resident: Resident, max_length: int) -> dict[str, Any]:
    return {
        "id": resident.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "align",
        "root": str(resident.path),
        "parent": resident.parent,
        "max_model_len": max_length if resident.parent is None else None,
    }


def token_strings(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [str(token) for token in tokenizer.convert_ids_to_tokens(list(tokens))]
