"""The three ways to ask for an answer: how each is read, named and answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from plumbline.gateway.responses import ServedResponse
from plumbline.gateway.served import Served
from plumbline.gateway.wire import Asked, parse
from plumbline.gateway.wire_responses import parse_response


@dataclass(frozen=True)
class Endpoint:
    """`path`: ours, and the engine's. `kind`: what the ids of its answers begin with."""

    path: str
    kind: str
    read: Callable[[bytes, int], Asked]
    served: type[Served] = Served


CHAT = Endpoint("/v1/chat/completions", "chatcmpl", partial(parse, chat=True))
PLAIN = Endpoint("/v1/completions", "cmpl", partial(parse, chat=False))
RESPONSES = Endpoint("/v1/responses", "resp", parse_response, ServedResponse)
