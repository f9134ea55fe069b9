"""The scoring service: `python -m align.gpu.scorer --port N` says over HTTP how good answers are.

`POST /score` takes {"reward_model": {"path", "sha256"}, "messages", "responses": [{"text",
"finish_reason"}]} and gives {"scores"}: by the same reading as a score job, null for an answer that
is empty or does not fit beside any of its prompt. The last few reward models stay in memory; each
is read against its manifest before it scores. It has no authentication: keep it on a private
address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from align.gpu import checkpoint, data, model, reward
from align.gpu.reward import Judge

LARGEST_BODY = 8 << 20  # bytes
MOST_RESPONSES = 64
MOST_WAITING = 64  # requests
KEPT = 2  # reward models in memory


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Shelf:
    """Reward models by their hash, the least recently used one put away for a new one."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._judges: OrderedDict[str, Judge] = OrderedDict()

    def get(self, path: Path, sha256: str) -> Judge:
        """Raises Refused naming what is wrong with the folder."""
        if sha256 in self._judges:
            self._judges.move_to_end(sha256)
            return self._judges[sha256]
        while len(self._judges) >= self._kept:
            self._judges.popitem(last=False)
        try:
            if checkpoint.identity(path) != sha256:
                raise ValueError(f"{path} holds another reward model than was asked for")
            judge = reward.load(path)  # which reads every byte against the manifest
        except (ValueError, KeyError, OSError) as error:
            raise Refused(422, f"The reward model was not loaded: {error}") from error
        self._judges[sha256] = judge
        return judge


class Scorer:
    """One thread does all work, so that requests never share a model half-way."""

    def __init__(self, kept: int, longest: int) -> None:
        self._shelf = Shelf(kept)
        self._longest = longest
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._waiting = 0

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def score(self, request: Request) -> Response:
        asked = _asked(await _body(request))
        if self._waiting >= MOST_WAITING:
            raise Refused(503, "Too many requests wait to be scored.")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            scores = await loop.run_in_executor(self._thread, self._score, asked)
        finally:
            self._waiting -= 1
        return JSONResponse({"scores": scores})

    def _score(self, asked: Mapping[str, Any]) -> list[float | None]:
        wanted = asked["reward_model"]
        judge = self._shelf.get(Path(wanted["path"]), wanted["sha256"])
        rows = [{**one, "token_ids": None} for one in asked["responses"]]
        return marks(judge, asked["messages"], rows, self._longest)


@torch.no_grad()
def marks(
    judge: Judge,
    messages: Sequence[Mapping[str, str]],
    rows: Sequence[Mapping[str, Any]],
    longest: int,
) -> list[float | None]:
    """What the judge says of answers to one prompt, all of them behind the same cut of it."""
    encoder = data.Encoder(judge.policy.tokenizer)
    room = min(longest, int(judge.policy.model.config.max_position_embeddings))
    fits = [at for at, row in enumerate(rows) if encoder.example(messages, [row], room)]
    found = encoder.example(messages, [rows[at] for at in fits], room) if fits else None
    if not found:
        return [None] * len(rows)
    different = list(dict.fromkeys(found))  # the same answer twice is scored once
    values = dict(zip(different, judge.marks(different).reward.tolist(), strict=True))
    said = {at: values[one] for at, one in zip(fits, found, strict=True)}
    return [said.get(at) for at in range(len(rows))]


def _asked(body: Any) -> Mapping[str, Any]:
    """Checked for its shape. Raises Refused."""
    try:
        folder, messages, responses = body["reward_model"], body["messages"], body["responses"]
        texts = [folder["path"], folder["sha256"]]
        texts += [text for one in messages for text in (one["role"], one["content"])]
        texts += [one["text"] for one in responses]
        known = [one.get("finish_reason") for one in responses]
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(400, f"The request lacks {error}, or has it in another shape.") from error
    if not all(isinstance(text, str) for text in texts):
        raise Refused(400, "Paths, roles and texts must be strings.")
    if not all(reason is None or isinstance(reason, str) for reason in known):
        raise Refused(400, "A finish_reason must be a string or null.")
    if not 1 <= len(responses) <= MOST_RESPONSES or not messages:
        raise Refused(400, f"Between 1 and {MOST_RESPONSES} responses to some messages are scored.")
    rows = [
        {"id": str(at), "text": one["text"], "finish_reason": one.get("finish_reason")}
        for at, one in enumerate(responses)
    ]
    return {"reward_model": folder, "messages": messages, "responses": rows}


async def _body(request: Request) -> Any:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST_BODY:
            raise Refused(413, f"The request body is larger than {LARGEST_BODY} bytes.")
    try:
        return json.loads(bytes(raw))
    except ValueError as error:
        raise Refused(400, f"The request body is not JSON: {error}") from error


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"message": str(error)}}, cast(Refused, error).status)


def create_app(kept: int = KEPT, longest: int = 4096) -> Starlette:
    scorer = Scorer(kept, longest)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        scorer.close()

    return Starlette(
        routes=[
            Route("/health", scorer.health),
            Route("/score", scorer.score, methods=["POST"]),
        ],
        exception_handlers={Refused: _refused},
        lifespan=lifespan,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m align.gpu.scorer")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8003)
    parser.add_argument("--kept", type=int, default=KEPT, help="reward models in memory")
    parser.add_argument("--max-length", type=int, default=4096, help="prompt and answer, in tokens")
    args = parser.parse_args(argv)
    if args.kept < 1 or args.max_length < 2:
        parser.error("--kept must be at least 1 and --max-length at least 2")
    model.deterministic(0)
    app = create_app(args.kept, args.max_length)
    uvicorn.run(
        app, host=args.host, port=args.port, log_level="warning", timeout_graceful_shutdown=5
    )


if __name__ == "__main__":
    main()
