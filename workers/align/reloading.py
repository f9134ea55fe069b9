"""vLLM takes up another model's weights while it runs.

Started with `--middleware align.reloading.Reloading --worker-extension-cls align.reloading.Holder`.

vLLM answers by the name it was started with whatever weights it holds, keeps what it remembers of
prompts when they change, and lets requests that are under way go on with the new ones. Here the
name changes with the weights: requests under way end first, those that come meanwhile wait, the
prefix cache is cleared, and the old name is refused from then on. Nobody who asks for a policy by
name, through the gateway or past it, can get another one's words. Runs inside vLLM's API server, of
which there may be one process only; standard library only.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

PATH = "/v1/weights"  # GET says what it holds, POST {"name", "path", "seconds"} changes it
LOAD_ADAPTER = "/v1/load_lora_adapter"
WAKE_UP = "/wake_up"  # without which requests that wait for a sleeping engine would never end
MOST_WAITING = 512
DRAIN_SECONDS = 120.0  # for the requests under way to end, unless the caller says otherwise
LOAD_SECONDS = 900.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Holder:
    """What each of vLLM's workers can do beside its own."""

    def take_up_weights(self, folder: str) -> None:
        """`reload_weights`, and what it leaves of the old ones: on a CPU vLLM multiplies by packed
        copies, and does not pack an output head anew that shares the embedding's weights."""
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        for layer in worker.model_runner.get_model().modules():
            weight = getattr(layer, "weight", None)
            if hasattr(layer, "cpu_linear") and weight is not None and weight.numel():
                layer.quant_method.process_weights_after_loading(layer)


class Unchanged(Exception):
    """The weights are those of before, and served again; why, in a sentence."""


class Reloading:
    """ASGI middleware; one per vLLM."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._busy = 0  # requests under way, streams to their last byte
        self._waiting = 0
        self._idle, self._open = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._open.set()
        self._turn = asyncio.Lock()
        self._first: list[Any] = []  # the names it was started with, and their folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "POST"):
            await self._app(scope, receive, send)
        elif scope["path"] == PATH:
            await self._weights(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"] != WAKE_UP:
            await self._let_in(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What may generate or load: counted, and held back while the weights change."""
        if not self._open.is_set() and self._waiting >= MOST_WAITING:
            await _answer(send, 503, error="too many requests wait for other weights")
            return
        self._waiting += 1
        try:
            while not self._open.is_set():
                await self._open.wait()
        finally:
            self._waiting -= 1
        if scope["path"] == LOAD_ADAPTER and self._first not in ([], _models(scope)):
            said = "the weights here are not those that adapters were trained on"
            await _answer(send, 400, error=said)
            return
        self._busy += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _weights(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            names = [one.name for one in _models(scope)]
            await _answer(send, 200, names=names, changing=not self._open.is_set())
            return
        try:
            asked = json.loads(await _body(receive))
            name, path = str(asked["name"]), str(asked.get("path") or "")
            seconds = float(asked.get("seconds") or DRAIN_SECONDS)
        except (ValueError, KeyError, TypeError, AttributeError):
            said = "the body is an object with a name, a path and, if wanted, seconds"
            await _answer(send, 400, error=said)
            return
        began = time.monotonic()
        try:
            async with self._turn:
                await self._change(scope, receive, name, path, seconds)
        except Unchanged as error:
            await _answer(send, 409, error=str(error))
        except Exception as error:  # whatever vLLM raises: it has no name to answer by now
            await _answer(send, 500, error=f"neither new nor old weights: {error}")
        else:
            await _answer(send, 200, name=name, seconds=round(time.monotonic() - began, 3))

    async def _change(
        self, scope: Scope, receive: Receive, name: str, path: str, seconds: float
    ) -> None:
        """Raises Unchanged, or anything else once there is nothing left to serve."""
        served = _models(scope)
        self._first = self._first or list(served)
        if name in [one.name for one in self._first]:
            new = list(self._first)
        elif path:
            new = [type(self._first[0])(name=name, model_path=path)]
        else:
            raise Unchanged(f"weights called {name!r} need a path")
        self._open.clear()
        try:
            await self._ended(receive, seconds)
            await _take_up(scope["app"].state, list(served) or new, new)
        finally:
            self._open.set()

    async def _ended(self, receive: Receive, seconds: float) -> None:
        """All requests that had been let in. Raises Unchanged where they take too long, or nobody
        waits for it any more."""
        idle = asyncio.ensure_future(self._idle.wait())
        leaving = asyncio.ensure_future(receive())  # the body is read: only a farewell is left
        both = {idle, leaving}
        try:
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not idle.done():
                raise Unchanged(
                    "whoever asked has left"
                    if leaving.done()
                    else f"{self._busy} requests under way did not end within {seconds:g} s"
                )
        finally:
            for task in both:
                task.cancel()


async def _take_up(state: Any, old: list[Any], new: list[Any]) -> None:
    """No request is under way. Adapters go with the weights that they were trained on."""
    engine, models = state.engine_client, state.openai_serving_models
    await engine.pause_generation(mode="wait", clear_cache=True)
    try:
        models.lora_requests.clear()
        models.base_model_paths.clear()
        try:
            await _load(engine, new[0].model_path)
        except Exception as error:
            await _load(engine, old[0].model_path)
            models.base_model_paths[:] = old
            raise Unchanged(f"{new[0].model_path} could not be loaded: {error}") from error
        models.base_model_paths[:] = new
    finally:
        await engine.resume_generation()


async def _load(engine: Any, folder: str) -> None:
    async with asyncio.timeout(LOAD_SECONDS):
        await engine.collective_rpc("take_up_weights", args=(folder,))
    if not await engine.reset_prefix_cache():
        raise RuntimeError("the prefix cache was not cleared")


def _models(scope: Scope) -> list[Any]:
    """Name and folder of what is served as the base model; vLLM's own list, which it goes by."""
    found: list[Any] = scope["app"].state.openai_serving_models.base_model_paths
    return found


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answer(send: Send, status: int, error: str = "", **fields: Any) -> None:
    said = {"error": {"message": error, "code": status}} if error else fields
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
