"""Streams that never stop asking while an alias moves, and what each of them must find.

Every policy's greedy answers are learned first, from the engine, one at a time; a stream whose text
is not its policy's, or whose chunks name two policies, or that does not end well, is a trouble.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

QUESTIONS = [
    *("What does a panda eat?", "Tell me about Peru.", "What is the capital of France?"),
    *("Describe Mars.", "How do bees make honey?", "What is a volcano?", "Who was Cleopatra?"),
    *("Tell me about the sea.", "Why is the sky blue?", "What is a piano?", "Describe a castle."),
]
TOKENS = 12
SURE = (
    0.02  # the least by which a token leads, in log-probability, so that rounding decides nothing
)
ENOUGH = 3  # questions


@dataclass
class Heard:
    """A stream to its end."""

    policy: str  # by the header
    models: set[str]
    text: str
    first: float  # monotonic, of its first piece of text
    trouble: str = ""


def learn(engine_url: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What each policy says to some questions, of those at which it is sure of every token and no
    two of them say the same: text by question by policy."""
    known: dict[str, dict[str, str]] = {name: {} for name in names}
    for question in QUESTIONS:
        said = {name: _sure(engine_url, name, question) for name in names}
        texts = [text for text in said.values() if text is not None]
        if len(set(texts)) == len(names):
            for name, text in said.items():
                known[name][question] = str(text)
        if all(len(one) >= ENOUGH for one in known.values()):
            break
    assert all(known.values()), "no question tells these policies apart"
    return known


def _sure(engine_url: str, name: str, question: str) -> str | None:
    body = {**_asked(name, question), "logprobs": True, "top_logprobs": 2}
    reply = httpx.post(engine_url + "/v1/chat/completions", json=body, timeout=120, trust_env=False)
    choice = reply.raise_for_status().json()["choices"][0]
    for token in choice["logprobs"]["content"]:
        best, second = sorted((one["logprob"] for one in token["top_logprobs"]), reverse=True)[:2]
        if best - second < SURE:
            return None
    return str(choice["message"]["content"])


def _asked(model: str, question: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}


def hear(client: httpx.Client, model: str, question: str) -> Heard:
    """Ask the gateway for a stream and read it to its end."""
    body = {**_asked(model, question), "stream": True}
    heard = Heard("", set(), "", 0.0)
    events = []
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        heard.policy = reply.headers.get("x-policy-version", "")
        if reply.status_code != 200:
            heard.trouble = f"status {reply.status_code}: {reply.read()[:300]!r}"
            return heard
        for line in reply.iter_lines():
            if line:
                events.append(line.removeprefix("data: "))
                if not heard.first and '"content": "' in line and '"content": ""' not in line:
                    heard.first = time.monotonic()
    *chunks, done = events or [""]
    if done != "[DONE]":
        heard.trouble = f"it ends in {done[:300]}"
        return heard
    read = [json.loads(chunk) for chunk in chunks]
    heard.models = {chunk["model"] for chunk in read}
    choices = [chunk["choices"][0] for chunk in read]
    heard.text = "".join(choice["delta"].get("content") or "" for choice in choices)
    if choices[-1]["finish_reason"] not in ("stop", "length"):
        heard.trouble = f"it ends in {choices[-1]}"
    return heard


@dataclass
class Streams:
    """`count` clients, each with one stream after another to `current`."""

    url: str
    key: str
    known: dict[str, dict[str, str]]
    count: int = 32
    answered: int = 0
    policies: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=[k]) for k in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=120)

    def _ask(self, number: int) -> None:
        questions = itertools.cycle(sorted(next(iter(self.known.values()))))
        for _ in range(number):
            next(questions)
        with self.client() as client:
            while not self.over.is_set():
                question = next(questions)
                try:
                    heard = hear(client, "current", question)
                except httpx.HTTPError as error:
                    self._note(repr(error))
                    continue
                self.judge(heard, question)

    def judge(self, heard: Heard, question: str) -> None:
        """Put what was heard on the books."""
        wanted = self.known.get(heard.policy, {}).get(question)
        trouble = heard.trouble
        if not trouble and heard.models != {heard.policy}:
            trouble = f"{heard.policy} in the header, {heard.models} in the chunks"
        if not trouble and heard.text != wanted:
            trouble = f"{heard.policy} said {heard.text!r}, alone it says {wanted!r}"
        self._note(trouble, heard.policy)

    def _note(self, trouble: str, policy: str = "") -> None:
        with self._lock:
            if trouble:
                self.troubles.append(trouble)
            else:
                self.answered += 1
                self.policies.add(policy)
