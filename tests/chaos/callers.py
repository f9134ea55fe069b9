"""Client apps at the gateway, and the researcher who moves the alias under them.

A stream counts as whole only where it ended with [DONE]; then all that it said of itself is in the
journal. Feedback is sent again under its name until the server has it.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx

from tests.chaos.ground import QUESTIONS, RESEARCHER, asking
from tests.chaos.journal import Journal
from tests.chaos.voters import PAUSE, Browser, Client, Counts

SILENCE = 30.0  # seconds without a chunk
MESSAGE = re.compile(r'<p class="message (\w+)" role="status">([^<]*)</p>')


class Streamer(Client):
    """Asks, reads the answer piece by piece, and says whether it was good."""

    def __init__(self, name: str, api: str, secret: str, pause: float = 0.0, **given: Any) -> None:
        super().__init__(name, **given)
        self.pause = pause
        self.reading = False  # in the middle of an answer
        self.heard = 0.0  # monotonic time of the last piece
        self.http = httpx.Client(
            base_url=api,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=SILENCE,
            trust_env=False,
        )

    def work(self) -> None:
        key, question = uuid.uuid4().hex, self.random.choice(QUESTIONS)
        self.journal.intent("stream", key, question=question)
        body = {**asking("current", question), "stream": True}
        self.counts.add(pending=1)
        try:
            told = self._read(key, body)
        except httpx.HTTPError:
            self.counts.add(unanswered=1)
            raise
        finally:
            self.reading = False
            self.counts.add(pending=-1)
        if told is None:
            self.counts.add(failed=1)
            self.stopping.wait(PAUSE)
            return
        self.journal.ack("stream", key, **told)
        self.counts.add(acked=1)
        if self.random.random() < 0.5:
            self._say(told["completion"])
        if self.pause:
            self.stopping.wait(self.pause)

    def _read(self, key: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What the answer said of itself, None where it was none or broke off with an error."""
        with self.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.status_code != 200:
                self.journal.refused("stream", key, status=reply.status_code)
                return None
            version, models, text, finish = reply.headers["x-policy-version"], set(), "", None
            name = ""
            for data in _events(reply):
                self.reading, self.heard = True, time.monotonic()
                if data == "[DONE]":
                    told = {"version": version, "models": sorted(models), "finish": finish}
                    return told | {"text": text, "completion": name}
                chunk = json.loads(data)
                if "error" in chunk:
                    self.journal.refused("stream", key, said=chunk["error"]["message"])
                    return None
                models.add(chunk["model"])
                name = chunk["id"]
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
                    finish = choice.get("finish_reason") or finish
        raise httpx.ReadError("the answer ended in the middle")

    def _say(self, completion: str) -> None:
        name = f"fb-{uuid.uuid4().hex}"
        self.journal.intent("feedback", name, completion=completion)
        said = {"feedback_id": name, "completion_id": completion, "key": "thumbs", "score": 1}
        while not self.hurry.is_set():
            try:
                reply = self.http.post("/v1/feedback", json=said)
            except httpx.HTTPError:
                self.hurry.wait(PAUSE)
                continue
            if reply.status_code < 300:
                self.journal.ack("feedback", name)
                return
            if reply.status_code < 500 and reply.status_code != 429:
                self.journal.refused("feedback", name, status=reply.status_code, said=reply.text)
                return
            self.hurry.wait(PAUSE)


def _events(reply: httpx.Response) -> Iterator[str]:
    for line in reply.iter_lines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


class Pilot(Client):
    """Promotes, rolls back and begins rounds, by the dashboard's forms. Never the same twice: who
    was not answered looks again."""

    pause_unheard = 2.0

    def __init__(
        self,
        site: str,
        policies: dict[str, str],
        experiments: list[int],
        pause: float,
        journal: Journal,
        counts: Counts,
        seed: object,
        launches: bool = True,
    ) -> None:
        super().__init__("pilot", journal, counts, seed)
        self.browser = Browser(site, RESEARCHER, counts)
        self.policies, self.experiments, self.pause = policies, experiments, pause
        self.launches = launches
        self.moves = 0
        self._next_launch = 0.0

    def work(self) -> None:
        if not self.browser.signed_in:
            self.browser.sign_in()
        if self.launches and time.monotonic() >= self._next_launch:
            self._next_launch = time.monotonic() + 10 * self.pause
            for experiment in self.experiments:
                self._launch(experiment)
        self._move()
        self.stopping.wait(self.pause * self.random.uniform(0.5, 1.5))

    def _move(self) -> None:
        key = uuid.uuid4().hex
        form = {"reason": f"Chaos {key}"}
        if self.random.random() < 0.3:
            path, policy = "/p/demo/lab/policies/roll-back/", ""
        else:
            policy = self.random.choice(sorted(self.policies))
            path = f"/p/demo/lab/policies/{self.policies[policy]}/promote/"
        self.journal.intent("move", key, policy=policy)
        kind, said = self._send(path, form)
        moved = re.fullmatch(r"(\S+) is now current\.|current is (\S+) again\.", said)
        if kind == "success" and moved:
            self.journal.ack("move", key, policy=moved[1] or moved[2])
            self.moves += 1
        elif kind == "error":
            self.journal.refused("move", key, said=said)

    def _launch(self, experiment: int) -> None:
        key = uuid.uuid4().hex
        self.journal.intent("launch", key)
        kind, said = self._send(f"/p/demo/lab/experiments/{experiment}/next-round/", {})
        if kind == "success" and "has begun" in said:
            self.journal.ack("launch", key, said=said)
        elif kind:
            self.journal.refused("launch", key, said=said)

    def _send(self, path: str, form: dict[str, str]) -> tuple[str, str]:
        """The sentence that the next page shows, and its kind; ("", "") where none was heard."""
        reply = self.browser.post(path, form)
        if reply.status_code == 403 or "/accounts/login" in str(reply.url):
            self.browser.http.cookies.clear()
            return "", ""
        found = MESSAGE.findall(reply.text) if reply.status_code == 200 else []
        return found[-1] if len(found) == 1 else ("", "")  # of two nobody knows whose they are
