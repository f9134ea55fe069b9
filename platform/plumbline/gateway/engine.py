"""The engine as the gateway sees it: pooled connections, whole answers and streams.

A stream ends in [DONE] or in an error, never silently: an engine that dies, hangs or garbles its
words becomes an ApiError wherever the answer has got to. Nothing of a broken answer is passed off
as a whole one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from django.conf import settings

from plumbline.gateway.wire import ApiError

CONNECT_SECONDS = 5.0
CONNECTIONS = 1024
# httpx's pool looks at every connection for every pair of them on each request, so a few hundred
# open streams in one pool cost more than the answers; in turn over small pools they do not.
POOLS = 16
RETRY_AFTER = 2  # seconds a client is asked to wait for an engine that is away
DONE = b"[DONE]"
LAST = "response.completed"  # the event that ends a response
NO_MODEL = "model_not_found"


class Unanswered(ApiError):
    """If nothing of the answer has come yet, another engine may be asked instead."""


class Gone(Unanswered):
    """The engine cannot be reached, or has broken off."""


class Engine:
    """An HTTP client of one engine. Every method raises ApiError."""

    def __init__(self, url: str) -> None:
        self._pools = [_pool(url) for _ in range(POOLS)]
        self._turn = itertools.cycle(self._pools)

    async def close(self) -> None:
        for pool in self._pools:
            await pool.aclose()

    async def served(self) -> list[str]:
        """Names the engine serves now; none while it is away."""
        try:
            reply = await self._pools[0].get("/v1/models", timeout=CONNECT_SECONDS)
            return sorted(card["id"] for card in reply.raise_for_status().json()["data"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []

    async def whole(self, path: str, body: Mapping[str, Any], id: str = "") -> dict[str, Any]:
        """An answer in one piece. `id` is the request's, for the engine's log."""
        reply = await self._send(path, body, id)
        try:
            await reply.aread()
            answer = reply.json()
        except httpx.TransportError as error:
            raise died(error) from error
        except ValueError as error:
            raise ApiError(502, "The engine's answer is not JSON.") from error
        finally:
            await reply.aclose()
        if not isinstance(answer, dict) or not isinstance(
            answer.get("choices", answer.get("output")), list
        ):
            raise ApiError(502, "The engine's answer is not a completion.")
        return answer

    async def stream(self, path: str, body: Mapping[str, Any], id: str = "") -> Chunks:
        """A streamed answer, which the engine has agreed to give."""
        return Chunks(await self._send(path, body, id))

    async def _send(self, path: str, body: Mapping[str, Any], id: str) -> httpx.Response:
        """A response with its body still to be read, once the engine has agreed to answer."""
        pool = next(self._turn)
        headers = {"x-request-id": id} if id else None
        request = pool.build_request("POST", path, json=body, headers=headers)
        for last in (False, True):
            try:
                reply = await pool.send(request, stream=True)
                break
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
                # A kept connection that an engine's restart had closed; a new one tells the truth.
                if last:
                    raise away(error) from error
            except httpx.TransportError as error:
                raise away(error) from error
        if reply.is_success:
            return reply
        try:
            await reply.aread()
        except httpx.TransportError as error:
            raise away(error) from error
        finally:
            await reply.aclose()
        raise _refusal(reply)


def _pool(url: str) -> httpx.AsyncClient:
    # Engines are on a private network: no proxy from the environment may stand between.
    return httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(
            settings.ENGINE_WAIT_SECONDS, connect=CONNECT_SECONDS, write=30.0, pool=CONNECT_SECONDS
        ),
        limits=httpx.Limits(
            max_connections=CONNECTIONS // POOLS, max_keepalive_connections=CONNECTIONS // POOLS
        ),
        trust_env=False,
    )


class Chunks:
    """The chunks of a streamed answer; iterating raises ApiError unless it comes to its end:
    [DONE], or a response that is complete."""

    def __init__(self, reply: httpx.Response) -> None:
        self._reply = reply

    async def close(self) -> None:
        """Let go of the engine's connection; before the end, this stops the generation."""
        await self._reply.aclose()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for line in self._lines():
                if not line.startswith(b"data:"):
                    continue  # comments, and blank lines between events
                data = line.removeprefix(b"data:").strip()
                if data == DONE:
                    return
                chunk = json.loads(data)
                if not isinstance(chunk, dict):
                    raise ValueError("a chunk is not an object")
                if "error" in chunk:
                    raise ApiError(502, _message(chunk) or "The engine failed while answering.")
                yield chunk
                if chunk.get("type") == LAST:
                    return
        except httpx.TransportError as error:
            raise died(error) from error
        except ValueError as error:
            raise ApiError(502, "The engine sent what is no chunk of an answer.") from error
        raise Gone(502, "The engine stopped in the middle of its answer.")

    async def _lines(self) -> AsyncIterator[bytes]:
        """Split at newlines only: httpx's own lines also end at U+2028, which text may hold."""
        rest = b""
        async for piece in self._reply.aiter_bytes():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line
        yield rest


def away(error: Exception) -> ApiError:
    """Nothing has been answered yet, so asking again costs nothing."""
    if isinstance(error, httpx.PoolTimeout):
        return ApiError(503, "Too many requests are being answered.", retry_after=RETRY_AFTER)
    if isinstance(error, httpx.ReadTimeout):
        return ApiError(503, "The engine did not answer in time.", retry_after=RETRY_AFTER)
    return Gone(503, "The engine is not available at the moment.", retry_after=RETRY_AFTER)


def died(error: Exception) -> ApiError:
    if isinstance(error, httpx.ReadTimeout):
        return ApiError(502, "The engine fell silent in the middle of its answer.")
    return Gone(502, "The engine stopped in the middle of its answer.")


def _refusal(reply: httpx.Response) -> ApiError:
    """What the engine says no to, in our words where its own would show what is inside."""
    try:
        said = reply.json()
    except ValueError:
        said = None
    message = _message(said)
    if reply.status_code == 501 or (reply.status_code == 404 and message is None):
        return ApiError(404, f"The engine has no {reply.url.path}.", code="unsupported_endpoint")
    if reply.status_code == 404:
        return ApiError(404, "The policy is not loaded.", param="model", code=NO_MODEL)
    if reply.status_code in (400, 413, 422):
        param = said["error"].get("param") if message else None
        code = "context_length_exceeded" if message and "context length" in message else None
        return ApiError(400, message or "The engine refused the request.", param=param, code=code)
    if reply.status_code in (429, 503):
        return Unanswered(503, "The engine is busy.", retry_after=RETRY_AFTER)
    return ApiError(502, "The engine failed.")


def _message(said: Any) -> str | None:
    try:
        return str(said["error"]["message"])
    except (KeyError, TypeError):
        return None
