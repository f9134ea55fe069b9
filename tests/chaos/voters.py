"""Annotators as browsers have them: a form to sign in, CSRF, a page's key for each vote, an outbox.

A vote is sent as htmx sends it, and when no answer comes it is sent again as `static/outbox.js`
does, under the same key, until the server has taken or refused it. Now and then somebody closes the
tab instead. All of it is in the person's journal.
"""

from __future__ import annotations

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.ground import PASSWORD
from tests.chaos.journal import Journal

CHOICES = ("A1", "A2", "A3", "B1", "B2", "B3", "tie", "bad")
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
KEY = re.compile(r'name="key" value="([0-9a-f-]{36})"')
BALLOT = re.compile(r'data-ballot="([0-9a-f-]{36})"')
SAID = re.compile(r'<p class="(success|warning|info|error)">([^<]*)</p>')
GIVES_UP = 0.02  # share of the unanswered votes whose tab is closed
PAUSE = 0.25  # seconds before the same is sent again
PATIENCE = 20.0  # seconds for an answer


@dataclass
class Counts:
    """What all clients of a kind have seen; faults prove by it that they landed."""

    acked: int = 0
    unanswered: int = 0  # requests that ended without an answer
    failed: int = 0  # answers that are the server's failure
    pending: int = 0  # requests on their way now
    heard: float = 0.0  # monotonic time of the last acknowledgement
    times: list[tuple[float, float]] = field(
        default_factory=list
    )  # when a vote was answered, how long
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **more: int) -> None:
        with self.lock:
            for name, n in more.items():
                setattr(self, name, getattr(self, name) + n)
            if "acked" in more:
                self.heard = time.monotonic()

    @property
    def harmed(self) -> int:
        return self.unanswered + self.failed


class Client(threading.Thread):
    """Somebody at work until told to stop; `work` does one thing."""

    def __init__(self, name: str, journal: Journal, counts: Counts, seed: object) -> None:
        super().__init__(name=name, daemon=True)
        self.journal, self.counts = journal, counts
        self.random = random.Random(f"{seed}:{name}")
        self.stopping, self.hurry = threading.Event(), threading.Event()
        self.trouble: list[str] = []

    pause_unheard = PAUSE  # seconds that somebody waits who was not answered

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.work()
            except httpx.HTTPError:
                self.stopping.wait(self.pause_unheard)
            except Exception as error:  # a client that dies would hide what comes after
                self.trouble.append(f"{type(error).__name__}: {error}"[:300])
                self.stopping.wait(1.0)

    def work(self) -> None:
        raise NotImplementedError


class Browser:
    """A signed-in session at the pages. Every method may raise httpx.HTTPError."""

    def __init__(self, site: str, name: str, counts: Counts) -> None:
        self.site, self.name, self.counts = site, name, counts
        self.http = self._fresh()

    def sign_in(self) -> None:
        self.http.close()
        self.http = self._fresh()
        page = self.get("/accounts/login/")
        form = {"csrfmiddlewaretoken": self._token(page.text), "login": self.name}
        reply = self.http.post("/accounts/login/", data=form | {"password": PASSWORD})
        if reply.status_code >= 400 or "sessionid" not in self.http.cookies:
            raise httpx.ReadError(f"{self.name} was not let in: {reply.status_code}")

    @property
    def signed_in(self) -> bool:
        return "sessionid" in self.http.cookies

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path).raise_for_status()

    def post(self, path: str, form: dict[str, Any], **headers: str) -> httpx.Response:
        """With the session's CSRF token; counted while it is on its way."""
        token = self.http.cookies.get("csrftoken", "")
        self.counts.add(pending=1)
        try:
            reply = self.http.post(path, data=form, headers={"X-CSRFToken": token, **headers})
        except httpx.HTTPError:
            self.counts.add(unanswered=1)
            raise
        finally:
            self.counts.add(pending=-1)
        if reply.status_code >= 500:
            self.counts.add(failed=1)
        return reply

    def _token(self, page: str) -> str:
        found = TOKEN.search(page)
        if found is None:
            raise httpx.ReadError("a page without a form")
        return found[1]

    def _fresh(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.site, timeout=PATIENCE, trust_env=False, follow_redirects=True
        )


class Voter(Client):
    def __init__(
        self, name: str, site: str, campaign: int, pause: float = 0.0, **given: Any
    ) -> None:
        super().__init__(name, **given)
        self.browser = Browser(site, name, self.counts)
        self.start_at = f"/p/chaos/campaigns/{campaign}/claim/"
        self.pause = pause
        self.double = threading.Event()  # the next vote is sent several times at once
        self.doubled = 0
        self._page = ""

    def work(self) -> None:
        if not self.browser.signed_in:
            self.browser.sign_in()
        if not self._page:
            reply = self.browser.post(self.start_at, {})
            if reply.status_code == 403 or "/accounts/login" in str(reply.url):
                self.browser.http.cookies.clear()
                return
            self._page = reply.text if reply.status_code == 200 else ""
        ballot, key = BALLOT.search(self._page), KEY.search(self._page)
        if ballot is None or key is None:
            self._page = ""
            self.stopping.wait(PAUSE)
            return
        if self.double.is_set():
            self.double.clear()
            self._vote_at_once(ballot[1], key[1])
        else:
            self._vote(ballot[1], key[1])
        if self.pause:
            self.stopping.wait(self.pause * self.random.uniform(0.5, 1.5))

    def _vote(self, ballot: str, key: str) -> None:
        choice = self.random.choice(CHOICES)
        self.journal.intent("vote", key, by=self.name, ballot=ballot, choices=[choice])
        form, path = self._form(key, choice), f"/p/chaos/ballots/{ballot}/"
        self._page = ""
        began = time.monotonic()
        try:
            target = f"{self.browser.site}{path}"
            reply = self.browser.post(
                path,
                form,
                **{"HX-Request": "true", "HX-Target": "ballot", "HX-Current-URL": target},
            )
        except httpx.HTTPError:
            self._outbox(path, form, key)
            return
        said = (SAID.findall(reply.text) or [None])[-1]
        if reply.status_code != 200 or said is None or f'data-ballot="{ballot}"' in reply.text:
            self._outbox(path, form, key)
            return
        if said[0] == "success":
            self.counts.times.append((time.monotonic(), time.monotonic() - began))
        self._told(key, said[0] == "success", said[1])
        self._page = reply.text

    def _outbox(self, path: str, form: dict[str, Any], key: str) -> None:
        """The same again and again, until the server has taken or refused it."""
        while not self.hurry.is_set():
            if self.random.random() < GIVES_UP:
                return
            self.hurry.wait(PAUSE)
            try:
                if not self.browser.signed_in:
                    self.browser.sign_in()
                reply = self.browser.post(path, form, Accept="application/json")
            except httpx.HTTPError:
                continue
            if reply.status_code == 403 or "/accounts/login" in str(reply.url):
                self.browser.http.cookies.clear()
            elif reply.status_code in (200, 409, 422) and "json" in reply.headers["content-type"]:
                told = reply.json()
                self._told(key, "saved" in told, told.get("saved") or told.get("refused", ""))
                return

    def _vote_at_once(self, ballot: str, key: str) -> None:
        """Enter twice, a second tab, a proxy that repeats: one key, two choices, at once."""
        choices = self.random.sample(CHOICES, 2)
        self.journal.intent("vote", key, by=self.name, ballot=ballot, choices=choices)
        path = f"/p/chaos/ballots/{ballot}/"
        self._page = ""

        def send(n: int) -> httpx.Response | None:
            try:
                return self.browser.post(
                    path, self._form(key, choices[n % 2]), Accept="application/json"
                )
            except httpx.HTTPError:
                return None

        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(send, range(6)))
        taken = [one.json() for one in replies if one is not None and one.status_code == 200]
        self.doubled += len(taken) >= 2
        for one in taken:
            self._told(key, "saved" in one, one.get("saved", ""))
        if not taken:
            self._outbox(path, self._form(key, choices[0]), key)

    def _told(self, key: str, saved: bool, words: str) -> None:
        if saved:
            self.journal.ack("vote", key, said=words)
            self.counts.add(acked=1)
        else:
            self.journal.refused("vote", key, said=words)

    def _form(self, key: str, choice: str) -> dict[str, Any]:
        return {"key": key, "active_ms": "9000", "choice": choice, "comment": ""}
