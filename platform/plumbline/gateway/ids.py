"""Names of completions, and the hash that stands for a client's user.

A completion's name carries a tag that only we can make, for one project. So feedback on an answer
is taken although the answer's row is still being written behind it, and an answer of another
project does not exist, without anybody looking.
"""

from __future__ import annotations

import hmac
import secrets

from django.conf import settings

TAG = 16  # hex digits
MARKS = {"chatcmpl": "-", "cmpl": "-", "resp": "_"}  # of an answer, and what follows it


def completion(kind: str, request: str, project: int) -> str:
    """The name of the answer to a request: its kind (`chatcmpl-`, `cmpl-` or `resp_`), the tag, the
    request's name."""
    return f"{kind}{MARKS[kind]}{_tag(project, request)}{request}"


def belongs(name: str, project: int) -> bool:
    """Whether `completion` made this name for this project, under the SECRET_KEY of now."""
    rest = _rest(name)
    if not rest.isascii() or len(rest) <= TAG:
        return False
    return hmac.compare_digest(_tag(project, rest[TAG:]), rest[:TAG])


def request(name: str) -> str:
    """The request that `completion` made this name for."""
    return _rest(name)[TAG:]


def end_user(project: int, given: str) -> str:
    """What is kept of a client's name for its user: it tells users apart within one project, and
    nobody can go back from it without SECRET_KEY."""
    return sign("end user", f"{project}:{given}")


def sign(purpose: str, what: str) -> str:
    """HMAC-SHA-256 under SECRET_KEY, hex; signatures for one purpose mean nothing for another."""
    message = f"plumbline {purpose}\0{what}"
    return hmac.digest(settings.SECRET_KEY.encode(), message.encode(), "sha256").hex()


def fresh(kind: str) -> str:
    """A name for what a client has not named."""
    return f"{kind}_{secrets.token_hex(16)}"


def _rest(name: str) -> str:
    """What follows the kind; "" where we give no such names."""
    for kind, mark in MARKS.items():
        if name.startswith(kind + mark):
            return name[len(kind + mark) :]
    return ""


def _tag(project: int, request: str) -> str:
    return sign("completion", f"{project}:{request}")[:TAG]
