"""A response of `/v1/responses` on its way to the client: under our id, in OpenAI's fields.

The engine speaks the same protocol with fields and ids of its own. A stream is typed events, and
ends with the whole response; there is no [DONE].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.gateway.errors import ApiError
from plumbline.gateway.served import Served, event

# Of the engine's response; the rest is what was asked for.
KEPT = (
    *("object", "created_at", "status", "incomplete_details", "output", "parallel_tool_calls"),
    *("temperature", "top_p", "truncation"),
)
COUNTS = {
    "input_tokens_details": ("cached_tokens",),
    "output_tokens_details": ("reasoning_tokens",),
}
PLAIN = {"format": {"type": "text"}}


@dataclass
class ServedResponse(Served):
    """One admitted request for a response."""

    last = b""
    sequence: int = -1  # of the newest event

    def dress(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        body = self.asked.body
        kept = {name: reply[name] for name in KEPT if name in reply}
        output = [_item(item) for item in reply.get("output") or []]
        stored = self.asked.stored
        if isinstance(reply.get("usage"), dict):
            self._count(reply["usage"])
        if stored is not None and reply.get("status") in ("completed", "incomplete"):
            self.texts.take({"choices": [_choice(output, reply["status"])]})
        return {
            **kept,
            "id": self.id,
            "model": self.target.name,
            "output": output,
            "error": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": stored.metadata if stored else {},
            "previous_response_id": None,
            "store": stored is not None,
            "text": body.get("text", PLAIN),
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools", []),
            "usage": _usage(reply.get("usage")),
        }

    def say(self, chunk: Mapping[str, Any]) -> bytes:
        """An event of the engine's stream."""
        kind = chunk.get("type")
        if not isinstance(kind, str):
            raise ApiError(502, "The engine sent what is no event of a response.")
        said = {**chunk, "sequence_number": chunk.get("sequence_number", self.sequence + 1)}
        self.sequence = said["sequence_number"]
        if isinstance(said.get("response"), dict):
            said["response"] = self.dress(said["response"])
            if kind == "response.completed":
                kind = f"response.{said['response']['status']}"  # the engine knows one end only
        if isinstance(said.get("item"), dict):
            said["item"] = _item(said["item"])
        if kind.endswith(".delta") and said.get("delta"):
            self.piece()
        return f"event: {kind}\n".encode() + event({**said, "type": kind})

    def fail(self, error: ApiError) -> bytes:
        """OpenAI's event, with the error as its clients raise it."""
        body = error.body["error"]
        said: dict[str, Any] = {name: body[name] for name in ("code", "message", "param")}
        said |= {"type": "error", "sequence_number": self.sequence + 1, "error": body}
        return b"event: error\n" + event(said)

    def _count(self, usage: Mapping[str, Any]) -> None:
        self.usage = {
            "prompt_tokens": usage.get("input_tokens"),
            "completion_tokens": usage.get("output_tokens"),
        }


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the engine leaves empty; parts of text have lists where it says nothing."""
    kept = {name: one for name, one in item.items() if one is not None}
    if isinstance(kept.get("content"), list):
        kept["content"] = [
            {**part, "logprobs": part.get("logprobs") or []}
            if part.get("type") == "output_text"
            else part
            for part in kept["content"]
        ]
    return kept


def _choice(output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    """The output as a choice of a chat completion, which is what is kept of answers."""
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    calls = [
        {"id": item["call_id"], "function": item}
        for item in output
        if item["type"] == "function_call"
    ]
    said = {"content": "".join(part.get("text", "") for part in parts), "tool_calls": calls}
    ended = "tool_calls" if calls else "stop"
    return {"message": said, "finish_reason": "length" if status == "incomplete" else ended}


def _usage(usage: Any) -> dict[str, Any] | None:
    if not isinstance(usage, dict):
        return None
    counted: dict[str, Any] = {
        name: usage.get(name, 0) for name in ("input_tokens", "output_tokens", "total_tokens")
    }
    for name, inner in COUNTS.items():
        given = usage.get(name) or {}
        counted[name] = {one: given.get(one, 0) for one in inner}
    return counted
