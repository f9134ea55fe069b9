"""How often somebody may guess: passwords, codes of the second factor, links.

Tries are counted in the database, so the counts hold for all processes, outlive them, and need no
Redis. A try is counted before it is looked at, in one statement, so that parallel tries pass no
limit together, and given back when it was right.

Three counts stand against guessing a secret of a name. The pair of name and address is shut for a
while. So is an address that tries many names. A name that is tried from many addresses is never
shut, for that would let anybody lock its owner out: strangers' tries then pass one at a time, and
addresses from which its owner came in before do not notice.
"""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass, field
from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db.models import F
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from plumbline.accounts import visits
from plumbline.accounts.addresses import client_address
from plumbline.accounts.models import Tally

KNOWN_FOR = timedelta(days=30)
EVERY = 3600.0  # seconds between two looks at what has ended


@dataclass(frozen=True)
class Limit:
    count: int
    seconds: int


PAIR = Limit(5, 15 * 60)
ADDRESS = Limit(50, 15 * 60)
NAME = Limit(30, 3600)
SLOWLY = Limit(1, 10)  # beyond NAME, for strangers
LINKS = Limit(20, 15 * 60)  # wrong links of an address
INVITING = Limit(60, 3600)  # of a person


class TooMany(Exception):
    """Too many tries; the next one is not even looked at."""


@dataclass
class Try:
    """One that was let through and counts as wrong until `right` is called."""

    taken: list[str]
    known: str = ""

    def right(self) -> None:
        for digest in self.taken:
            Tally.objects.filter(digest=digest, count__gt=0).update(count=F("count") - 1)
        if self.known:
            until = timezone.now() + KNOWN_FOR
            Tally.objects.update_or_create(digest=self.known, defaults={"count": 1, "until": until})


def secret(request: HttpRequest, name: str, *, of: str = "password") -> Try:
    """Let a guess at a name's secret through. Raises TooMany."""
    address = client_address(request)
    name = unicodedata.normalize("NFKC", name).casefold()
    known = _digest(of, "known", name, address)
    counts = _Counts()
    if not counts.take(PAIR, of, "pair", name, address):
        raise TooMany
    familiar = Tally.objects.filter(digest=known, until__gt=timezone.now()).exists()
    slowed = not familiar and not counts.take(NAME, of, "name", name)
    if slowed and not counts.take(SLOWLY, of, "slowly", name):
        counts.give_back()
        raise TooMany
    if not counts.take(ADDRESS, of, "address", address):
        counts.give_back()
        raise TooMany
    return Try(counts.taken, known)


def too_many_links(request: HttpRequest) -> bool:
    """Whether so many wrong links were opened from here that no more are looked at. Only wrong ones
    are counted, afterwards: their tokens are too long for a few at once to matter."""
    digest, now = _digest("link", client_address(request)), timezone.now()
    return Tally.objects.filter(digest=digest, until__gt=now, count__gte=LINKS.count).exists()


def wrong_link(request: HttpRequest) -> None:
    _Counts().take(LINKS, "link", client_address(request))


def inviting(user: int) -> None:
    """Let a person make one more invitation. Raises TooMany."""
    if not _Counts().take(INVITING, "inviting", str(user)):
        raise TooMany


def once(*of: str, seconds: int) -> bool:
    """Whether this is the first time in so many seconds."""
    return _Counts().take(Limit(1, seconds), "once", *of)


@dataclass
class _Counts:
    taken: list[str] = field(default_factory=list)

    def take(self, limit: Limit, *of: str) -> bool:
        """Count one more, if the limit holds it. What is refused is not counted."""
        digest = _digest(*of)
        if not _take(digest, limit):
            return False
        self.taken.append(digest)
        return True

    def give_back(self) -> None:
        Try(self.taken).right()


def _take(digest: str, limit: Limit) -> bool:
    now = timezone.now()
    one = Tally.objects.filter(digest=digest)
    if one.filter(until__gt=now, count__gte=limit.count).exists():
        return False  # without asking SQLite for its only lock
    if one.filter(until__gt=now, count__lt=limit.count).update(count=F("count") + 1):
        return True
    until = now + timedelta(seconds=limit.seconds)
    if one.filter(until__lte=now).update(count=1, until=until):
        return True
    _, first = Tally.objects.get_or_create(digest=digest, defaults={"count": 1, "until": until})
    if first:
        return True
    return bool(one.filter(until__gt=now, count__lt=limit.count).update(count=F("count") + 1))


def _digest(*of: str) -> str:
    """Names and addresses are not to be read from the counts."""
    return salted_hmac("plumbline.guesses", "\0".join(of), algorithm="sha256").hexdigest()


class Watch:
    """For the loop's process: forgets counts and sessions that have ended."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        now = timezone.now()
        Tally.objects.filter(until__lt=now).delete()
        Session.objects.filter(expire_date__lt=now).delete()
        visits.forget()
        self._next = time.monotonic() + EVERY
