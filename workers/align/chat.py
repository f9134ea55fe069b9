"""A patient and thrifty client of one OpenAI-compatible chat endpoint.

What may pass (no connection, 408, 409, 425, 429, 5xx) is retried for a bounded time, as long apart
as the endpoint asks. What retrying cannot help is raised at once. Redirects are not followed, and
the key appears in no message, whatever the endpoint says.
"""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import json
import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from align import addresses
from align.judge_jobs import KEY_PREFIX, PRIVATE_ENDPOINTS, Asked
from align.manners import Manners
from align.rows import Message

PATIENCE = 120.0  # seconds an endpoint may be away, unless it is our own engine and sleeps
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
ANSWER_TIME = 600.0  # seconds one request may take
LOOK_TIME = 10.0
LARGEST_REPLY = 8 << 20  # bytes
PASSING = (408, 409, 425, 429)  # statuses that may pass, beside those from 500 on
KEY_REFUSED = (401, 403)


class Refused(ValueError):
    """The endpoint will not do this request, however often it is asked."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class EndpointAway(Exception):
    """The endpoint did not answer in time; try the job again."""


class OverBudget(Exception):
    """The cap on tokens or dollars is met; nothing more is asked."""


@dataclass(frozen=True)
class Reply:
    """`logprobs`: of each token of the text, the token and {token: log-probability} of the likely
    ones at its place; [] where none were asked for or given."""

    text: str
    logprobs: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    tokens_in: int = 0
    tokens_out: int = 0
    finish_reason: str = ""


@dataclass
class Spent:
    """Tokens so far, and what they cost."""

    price_in: float = 0.0  # dollars a million tokens
    price_out: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, tokens_in: int, tokens_out: int) -> None:
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out

    @property
    def dollars(self) -> float:
        return (self.tokens_in * self.price_in + self.tokens_out * self.price_out) / 1e6


class Chat:
    """One model at one endpoint (`url` is up to and with /v1; addresses of engines that serve the
    same have commas between and are asked in turn); an async context manager.

    At most `concurrency` requests are out at a time. None is sent once `budget_tokens` or
    `budget_dollars` are spent; those that are out then still count, and may go past the cap.
    `private` are hosts and ports inside private networks that may be asked; `own`: it is our own
    engine, which may be, and which may sleep or still be loading the model. `manners`: how the
    endpoint wants to be asked, which the client learns where it is refused.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        *,
        budget_tokens: int | None = None,
        budget_dollars: float | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        concurrency: int = 8,
        patience: float = PATIENCE,
        private: Collection[str] = (),
        own: bool = False,
        manners: Manners | None = None,
    ) -> None:
        self.model = model
        self.manners = manners or Manners()
        self.spent = Spent(price_in, price_out)
        self._urls = itertools.cycle([one.strip().rstrip("/") for one in url.split(",")])
        self._key = key
        self._budget = (budget_tokens, budget_dollars)
        self._room = asyncio.Semaphore(concurrency)
        self._patience = patience
        self._own = own
        transport = httpx.AsyncHTTPTransport(trust_env=False) if own else addresses.Guarded(private)
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(ANSWER_TIME, connect=10.0),
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        logprobs: int = 0,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        seed: int | None = None,
    ) -> Reply:
        """The model's answer to a conversation.

        schema: a JSON schema that the text is to obey. logprobs: how many likely tokens to tell of
        each place. Raises Refused (a ValueError) for what the endpoint will not do, OverBudget when
        the cap is met, EndpointAway when patience ends.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if schema is not None:
            shape = {"name": "reply", "strict": True, "schema": dict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        if seed is not None:
            body["seed"] = seed
        async with self._room:
            self.check_budget()
            reply = await self._post(body)
            self.spent.add(reply.tokens_in, reply.tokens_out)
            return reply

    def check_budget(self) -> None:
        """Raises OverBudget when nothing more may be spent."""
        tokens, dollars = self._budget
        spent = self.spent
        if tokens is not None and spent.tokens_in + spent.tokens_out >= tokens:
            raise OverBudget(f"the cap of {tokens:,} tokens is met")
        if dollars is not None and spent.dollars >= dollars:
            raise OverBudget(f"the cap of ${dollars:g} is met")

    async def _post(self, body: Mapping[str, Any]) -> Reply:
        deadline = None
        pause = FIRST_PAUSE
        while True:
            url = next(self._urls)
            wait: float | None = None
            sent = self.manners.spoken(body)
            try:
                async with asyncio.timeout(ANSWER_TIME):  # httpx's own is for each piece
                    status, headers, content = await self._exchange(url, sent)
                if self.manners.learn(status, content, sent):
                    continue
                if status == 200 and (reply := parse(content, body)) is not None:
                    return self._clean(reply)
                trouble = self._trouble(status, content)
                wait = _asked_to_wait(headers.get("retry-after", ""))
            except (httpx.TransportError, TimeoutError) as error:
                trouble = self._hush(f"{type(error).__name__} {error}".strip())
            # From the first trouble on: a request may have waited in a busy endpoint for long.
            if deadline is None or (self._own and await self._sleeps(url)):
                deadline = time.monotonic() + self._patience
            rest = pause if wait is None else max(wait, FIRST_PAUSE)
            if time.monotonic() + rest > deadline:
                raise EndpointAway(f"{url} gave no answer from {self.model!r}: {trouble}")
            await asyncio.sleep(rest)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _exchange(
        self, url: str, body: Mapping[str, Any]
    ) -> tuple[int, httpx.Headers, bytes]:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        request = self._http.build_request(
            "POST", f"{url}/chat/completions", json=dict(body), headers=headers
        )
        reply = await self._http.send(request, stream=True)
        try:
            content = b""
            async for piece in reply.aiter_bytes():
                content += piece
                if len(content) > LARGEST_REPLY:
                    raise Refused("the endpoint's reply is larger than 8 MiB", reply.status_code)
            return reply.status_code, reply.headers, content
        finally:
            await reply.aclose()

    def _trouble(self, status: int, content: bytes) -> str:
        """What went wrong, if it may pass. Raises Refused if not."""
        if status in KEY_REFUSED:
            # Not in the endpoint's own words: they are known to quote the key.
            raise Refused(f"the endpoint refuses the key (status {status})", status)
        if 300 <= status < 400:
            raise Refused(
                f"the endpoint answered with a redirect (status {status}); none is followed", status
            )
        if status == 200:
            return "a reply that is not a chat completion"
        message = self._hush(_complaint(content))
        late = status == 404 and self._own  # its model is being loaded
        if status in PASSING or status >= 500 or late:
            return f"status {status}, {message}"
        raise Refused(f"the endpoint refused the request (status {status}): {message}", status)

    def _clean(self, reply: Reply) -> Reply:
        if self._key and self._key in reply.text:
            return Reply(
                self._hush(reply.text), [], reply.tokens_in, reply.tokens_out, reply.finish_reason
            )
        return reply

    def _hush(self, message: str) -> str:
        return message.replace(self._key, "[key]") if self._key else message

    async def _sleeps(self, url: str) -> bool:
        try:
            reply = await self._http.get(
                url.removesuffix("/v1") + "/is_sleeping", timeout=LOOK_TIME
            )
            return bool(reply.is_success and reply.json()["is_sleeping"])
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return False


def connect(asked: Asked) -> Chat:
    """A client of whom a job asks, with the key and the private addresses that this process's
    environment holds. Raises ValueError for a key that is not there or is none."""
    return Chat(
        asked.url,
        asked.model,
        key_of(asked.key_variable),
        budget_tokens=asked.max_tokens or None,
        budget_dollars=asked.max_dollars or None,
        price_in=asked.price_in,
        price_out=asked.price_out,
        concurrency=asked.concurrency,
        private=addresses.allowed(os.environ.get(PRIVATE_ENDPOINTS, "")),
        own=asked.own,
        manners=Manners(asked.limit, asked.own_temperature),
    )


def key_of(variable: str) -> str | None:
    """The key that an environment variable holds; None where the endpoint wants none."""
    if not variable:
        return None
    if not variable.startswith(KEY_PREFIX):
        raise ValueError(f"a key's variable begins with {KEY_PREFIX}; {variable} does not")
    key = os.environ.get(variable, "")
    if not key:
        raise ValueError(f"the worker has no environment variable {variable}")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"what {variable} holds cannot be a key: it has spaces or other signs")
    return key


def parse(content: bytes, body: Mapping[str, Any]) -> Reply | None:
    """The reply in a chat completion; None where it is none. Where the endpoint does not count
    tokens, four bytes are taken for one."""
    try:
        data = json.loads(content)
        choice = data["choices"][0]
        text = _plain(str(choice["message"].get("content") or ""))
        usage = data.get("usage") or {}
        asked = sum(len(str(one["content"]).encode()) for one in body["messages"])
        said = math.ceil(len(text.encode()) / 4)
        return Reply(
            text=text,
            logprobs=_logprobs(choice.get("logprobs")),
            tokens_in=max(0, int(usage.get("prompt_tokens", math.ceil(asked / 4)))),
            tokens_out=max(0, int(usage.get("completion_tokens", said))),
            finish_reason=str(choice.get("finish_reason") or ""),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
    except OverflowError:  # of a count that is no number a machine knows
        return None


def _plain(text: str) -> str:
    """A text that files and databases take: without halves of characters and without NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _logprobs(given: Any) -> list[tuple[str, dict[str, float]]]:
    return [
        (
            str(one["token"]),
            {str(top["token"]): float(top["logprob"]) for top in one.get("top_logprobs") or []},
        )
        for one in (given or {}).get("content") or []
    ]


def _complaint(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return content[:300].decode(errors="replace")


def _asked_to_wait(header: str) -> float | None:
    """Seconds of a Retry-After header, which holds them or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
