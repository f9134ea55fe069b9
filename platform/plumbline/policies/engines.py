"""The engines' admin API over HTTP; vLLM and `align.gpu.serve` answer the same one.

settings.ENGINE_URL names one engine, or several with commas between; all of them serve the same
policies. What is asked of several is asked of those that are up, at the same time. Knows names and
folders only, no policies: what an engine should hold is `serving`'s to say.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx
from django.conf import settings

T = TypeVar("T")

LOAD_SECONDS = 120.0
LIST_SECONDS = 30.0  # until an engine has said what it serves
UP_SECONDS = 10.0  # the same, where another engine can do without it
SLEEP_SECONDS = 120.0  # for the requests in progress to end
WEIGHTS = "/v1/weights"  # of `align.reloading`


class EngineError(Exception):
    """The engine cannot be reached, refuses, or serves something else than it should."""


class EngineRefusal(EngineError):
    """It answered, with an error."""


class EngineAway(EngineError):
    """It cannot be reached."""


class EngineSlow(EngineAway):
    """It may still do what it was asked."""


class EngineLent(EngineError):
    """It has lent its memory to a job: nothing is wrong, ask again later."""


class EngineReloading(EngineLent):
    """It is taking up other weights: ask again soon."""


class EngineTaken(EngineError):
    """It holds other weights, which an alias needs."""


def urls() -> list[str]:
    """Where the engines are, in the order of the settings."""
    named = [url.strip().rstrip("/") for url in settings.ENGINE_URL.split(",")]
    return [url for url in named if url]


def up() -> dict[str, dict[str, dict[str, Any]]]:
    """The engines that answer, and what each of them serves: model cards by name. Raises
    EngineAway when none answers."""
    every = urls()
    if len(every) == 1:
        return {every[0]: cards(every[0])}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    troubles = []
    for url, answer in zip(every, each(every, _cards_or_trouble), strict=True):
        if isinstance(answer, EngineAway):
            troubles.append(str(answer))
        else:
            found[url] = answer
    if not found:
        raise EngineAway("; ".join(troubles))
    return found


def _cards_or_trouble(url: str) -> dict[str, dict[str, Any]] | EngineAway:
    try:
        return cards(url, UP_SECONDS)
    except EngineAway as error:
        return error


def each(where: Sequence[str], ask: Callable[[str], T]) -> list[T]:
    """What `ask` gives for each engine, asked side by side; the first error of any is raised.
    `ask` may not use the database."""
    if len(where) <= 1:
        return [ask(url) for url in where]
    with ThreadPoolExecutor(max_workers=len(where)) as pool:
        return list(pool.map(ask, where))


def cards(url: str, seconds: float = LIST_SECONDS) -> dict[str, dict[str, Any]]:
    """An engine's model cards by name."""
    reply = call(url, "GET", "/v1/models", None, seconds)
    try:
        return {card["id"]: card for card in reply["data"]}
    except (KeyError, TypeError) as error:
        raise EngineError(f"the list of models of the engine at {url} is not one") from error


def reload(url: str, name: str, path: str) -> None:
    """Have a vLLM hold the weights in `path` under `name`; it first ends what it answers, and then
    serves nothing of the old ones, adapters neither. Raises EngineRefusal when it still does."""
    try:
        call(url, "GET", WEIGHTS, None, LIST_SECONDS)
    except EngineRefusal as error:
        raise EngineError(
            f"the engine at {url} does not serve {name!r} and cannot change its weights; "
            "start vLLM as `align.reloading` says"
        ) from error
    body = {"name": name, "path": path, "seconds": SLEEP_SECONDS}
    call(url, "POST", WEIGHTS, body, SLEEP_SECONDS + LOAD_SECONDS)


def check_sleep() -> None:
    """Raises EngineError with a sentence when sleep would give no memory back: vLLM answers
    /sleep in any case, its CPU build too, and then keeps its memory."""
    if settings.ENGINE == "vllm":
        each(urls(), _check_sleep)


def _check_sleep(url: str) -> None:
    with_both = "start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"
    try:
        told = call(url, "GET", "/server_info?config_format=json", None, LOAD_SECONDS)
    except EngineRefusal as error:
        raise EngineError(f"vLLM cannot be told to sleep: {with_both}") from error
    except EngineSlow as error:
        raise EngineError(f"it did not say whether it can sleep: {error}") from error
    model = told.get("vllm_config", {}).get("model_config", {})
    if not model.get("enable_sleep_mode"):
        raise EngineError(
            f"vLLM keeps its memory while it sleeps: {with_both} (its CPU build has no sleep mode)"
        )


def sleep() -> None:
    """Have the engines give their memory back; they answer what runs first, and queue the rest.

    vLLM: without mode=wait it would cut off what runs and call that an answer. At level 1 weights
    and adapters wait in the host's memory; level 2 forgets both, and its wake restores neither.
    """
    each(urls(), _sleep)


def _sleep(url: str) -> None:
    call(url, "POST", "/sleep?level=1&mode=wait", None, SLEEP_SECONDS)


def wake() -> None:
    """Have them take their weights up again, if they slept. Raises EngineError when one cannot."""
    each(urls(), _wake)


def _wake(url: str) -> None:
    if _sleeps(url):
        # One that is still on its way must arrive: vLLM would fall asleep after it was woken.
        _sleep(url)
        call(url, "POST", "/wake_up", None, LOAD_SECONDS)


def asleep() -> bool:
    """Whether any of them sleeps."""
    return any(each(urls(), _sleeps))


def _sleeps(url: str) -> bool:
    return bool(call(url, "GET", "/is_sleeping", None, LIST_SECONDS).get("is_sleeping"))


def call(
    url: str, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
) -> dict[str, Any]:
    """One request to an engine; its JSON, or {} where it answers with words."""
    timeout = httpx.Timeout(seconds, connect=5.0)
    try:
        # Engines are on a private network: no proxy from the environment may stand between.
        with httpx.Client(timeout=timeout, trust_env=False, verify=_authorities()) as client:
            reply = client.request(method, url + path, json=body)
    except httpx.HTTPError as error:
        what = f"{type(error).__name__} {error}".strip()
        kind = EngineSlow if isinstance(error, httpx.ReadTimeout) else EngineAway
        raise kind(f"the engine at {url} does not answer ({what})") from error
    if reply.is_error:
        raise EngineRefusal(f"the engine refused {path}: {_complaint(reply)}")
    if reply.headers.get("content-type", "").startswith("application/json"):
        try:
            data = reply.json()
        except ValueError as error:
            raise EngineError(f"the engine's answer to {path} is not JSON") from error
        if isinstance(data, dict):
            return data
    return {}


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Reading the authorities' certificates takes longer than most calls do."""
    return httpx.create_ssl_context(trust_env=False)


def _complaint(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code} {reply.text[:200]}".strip()
