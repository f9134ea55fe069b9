"""The engine as the gateway sees it: kept connections, whole answers and streams.

A stream ends in [DONE] or in an error, never silently: an engine that dies, hangs or garbles its
words becomes an ApiError wherever the answer has got to. Nothing of a broken answer is passed off
as a whole one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings

from plumbline.gateway.connections import (
    CONNECT_SECONDS,
    Broken,
    Connection,
    Connections,
    Crowded,
    Silent,
    Trouble,
)
from plumbline.gateway.wire import ApiError, no_constant

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
        self._connections = Connections(url)
        self._patience = float(settings.ENGINE_WAIT_SECONDS)

    async def close(self) -> None:
        await self._connections.close()

    async def served(self) -> list[str]:
        """Names the engine serves now; none while it is away."""
        request = self._connections.request("GET", "/v1/models")
        try:
            reply = await self._connections.ask(request, CONNECT_SECONDS)
            try:
                said = json.loads(await reply.read_all())
            finally:
                reply.let_go()
            return sorted(card["id"] for card in said["data"]) if reply.status == 200 else []
        except (Trouble, ValueError, KeyError, TypeError):
            return []

    async def whole(self, path: str, body: Mapping[str, Any], id: str = "") -> dict[str, Any]:
        """An answer in one piece. `id` is the request's, for the engine's log."""
        reply = await self._send(path, body, id)
        try:
            answer = json.loads(await reply.read_all(), parse_constant=no_constant)
        except Trouble as error:
            raise died(error) from error
        except ValueError as error:
            raise ApiError(502, "The engine's answer is not JSON.") from error
        finally:
            reply.let_go()
        if not isinstance(answer, dict) or not isinstance(
            answer.get("choices", answer.get("output")), list
        ):
            raise ApiError(502, "The engine's answer is not a completion.")
        return answer

    async def stream(self, path: str, body: Mapping[str, Any], id: str = "") -> Chunks:
        """A streamed answer, which the engine has agreed to give."""
        return Chunks(await self._send(path, body, id))

    async def _send(self, path: str, body: Mapping[str, Any], id: str) -> Connection:
        """An answer with its body still to be read, once the engine has agreed to answer."""
        raw = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        headers = {"x-request-id": id} if id else None
        request = self._connections.request("POST", path, raw, headers)
        for last in (False, True):
            try:
                # A kept connection that an engine's restart had closed; a new one tells the truth.
                reply = await self._connections.ask(request, self._patience, anew=last)
                break
            except Broken as error:
                if last:
                    raise away(error) from error
            except Trouble as error:
                raise away(error) from error
        if 200 <= reply.status < 300:
            return reply
        try:
            said = await reply.read_all()
        except Trouble as error:
            raise away(error) from error
        finally:
            reply.let_go()
        raise _refusal(path, reply.status, said)


class Chunks:
    """The chunks of a streamed answer; reading raises ApiError unless it comes to its end:
    [DONE], or a response that is complete."""

    def __init__(self, reply: Connection) -> None:
        self._reply = reply
        self._rest = b""  # of a line
        self._trouble: ApiError | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether all of the answer has been read."""
        return self._ended

    async def close(self) -> None:
        """Let go of the engine's connection; before the end, this stops the generation."""
        self._reply.let_go(said=self._ended)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while not self.ended:
            for chunk in await self.batch():
                yield chunk

    async def batch(self) -> list[dict[str, Any]]:
        """All chunks that have come since, one at least; none only where the answer has ended."""
        found: list[dict[str, Any]] = []
        while not found and not self._ended:
            if self._trouble is not None:  # what came before it has been told
                raise self._trouble
            try:
                data = await self._reply.read()
            except Trouble as error:
                raise died(error) from error
            # Split at newlines only: text may hold U+2028, and whatever else splits lines.
            *lines, self._rest = (self._rest + data).split(b"\n")
            if not data:
                lines.append(self._rest)
            try:
                for chunk in self._read(lines):
                    found.append(chunk)  # one by one: those before a trouble count
                if not data and not self._ended:
                    raise Gone(502, "The engine stopped in the middle of its answer.")
            except ApiError as error:
                self._trouble = error
            except ValueError as error:
                self._trouble = ApiError(502, "The engine sent what is no chunk of an answer.")
                self._trouble.__cause__ = error
        return found

    def _read(self, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if not line.startswith(b"data:"):
                continue  # comments, and blank lines between events
            data = line.removeprefix(b"data:").strip()
            if data == DONE:
                self._ended = True
                return
            chunk = json.loads(data)
            if not isinstance(chunk, dict):
                raise ValueError("a chunk is not an object")
            if "error" in chunk:
                raise ApiError(502, _message(chunk) or "The engine failed while answering.")
            yield chunk
            if chunk.get("type") == LAST:
                self._ended = True
                return


def away(error: Exception) -> ApiError:
    """Nothing has been answered yet, so asking again costs nothing."""
    if isinstance(error, Crowded):
        return ApiError(503, "Too many requests are being answered.", retry_after=RETRY_AFTER)
    if isinstance(error, Silent):
        return ApiError(503, "The engine did not answer in time.", retry_after=RETRY_AFTER)
    return Gone(503, "The engine is not available at the moment.", retry_after=RETRY_AFTER)


def died(error: Exception) -> ApiError:
    if isinstance(error, Silent):
        return ApiError(502, "The engine fell silent in the middle of its answer.")
    return Gone(502, "The engine stopped in the middle of its answer.")


def _refusal(path: str, status: int, raw: bytes) -> ApiError:
    """What the engine says no to, in our words where its own would show what is inside."""
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    message = _message(said)
    if status == 501 or (status == 404 and message is None):
        return ApiError(404, f"The engine has no {path}.", code="unsupported_endpoint")
    if status == 404:
        return ApiError(404, "The policy is not loaded.", param="model", code=NO_MODEL)
    if status in (400, 413, 422):
        param = said["error"].get("param") if message else None
        code = "context_length_exceeded" if message and "context length" in message else None
        return ApiError(400, message or "The engine refused the request.", param=param, code=code)
    if status in (429, 503):
        return Unanswered(503, "The engine is busy.", retry_after=RETRY_AFTER)
    return ApiError(502, "The engine failed.")


def _message(said: Any) -> str | None:
    try:
        return str(said["error"]["message"])
    except (KeyError, TypeError):
        return None
