"""Engines: each must give a token, and a vLLM must be one without the known holes."""

from __future__ import annotations

import re

from django.conf import settings
from django.db import DatabaseError

from plumbline.operations.diagnosis import Diagnosis, look, ok, wrong
from plumbline.policies import engines, seats
from plumbline.policies.models import Loan

SECONDS = 30.0  # for one token
LEAST_VLLM = (0, 32, 0)  # CVE-2026-115911, CVE-2026-115918: a chat template that never ends


def answers() -> Diagnosis:
    """One token: a vLLM whose engine is dead still answers /health and /version."""
    try:
        if Loan.objects.exists():
            return ok("The engine has lent its memory to a job; it is asked again afterwards.")
        name = seats.name(seats.holder()) if seats.one_at_a_time() else str(settings.BASE_NAME)
    except DatabaseError:
        name = str(settings.BASE_NAME)
    every = engines.urls()
    said = dict(zip(every, engines.each(every, lambda url: _token(url, name)), strict=True))
    trouble = [why for why in said.values() if why]
    if trouble:
        return wrong(
            f"{len(trouble)} of {len(said)} engine{'s' * (len(said) > 1)} gave no token: "
            f"{'; '.join(trouble)}.",
            "See its log. `manage.py engine` keeps one alive and starts it again when it hangs.",
        )
    return ok(f"{', '.join(said)} gave a token.")


def vllm() -> Diagnosis:
    if settings.ENGINE != "vllm":
        return ok("The embedded engine is in use, not vLLM.")
    old = []
    for url in engines.urls():
        try:
            version = str(engines.call(url, "GET", "/version", None, SECONDS).get("version", ""))
        except engines.EngineError as error:
            return look(f"Its version is not known: {error}.", "Start it.")
        if _parsed(version) < LEAST_VLLM:
            old.append(f"{url} is {version or 'of no known version'}")
    if old:
        return wrong(
            f"{', '.join(old)}: before 0.32.0 a request could keep vLLM busy for ever.",
            "Upgrade it to 0.32.0 or later (`make engine`).",
        )
    return ok("vLLM is 0.32.0 or later.")


def _token(url: str, name: str) -> str:
    """Why it gave none, "" where it did."""
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    try:
        reply = engines.call(url, "POST", "/v1/chat/completions", body, SECONDS)
    except engines.EngineError as error:
        return str(error)
    if not (reply.get("usage") or {}).get("completion_tokens"):
        return f"the engine at {url} answered without a token"
    return ""


def _parsed(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
