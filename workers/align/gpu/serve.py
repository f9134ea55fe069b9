"""The embedded engine: `python -m align.gpu.serve --model PATH --served-model-name NAME --port N`.

Answers the part of vLLM's HTTP API that the platform speaks, from transformers, so that a laptop
needs no vLLM. Two additions: `load_lora_adapter` also takes a folder of full weights, and a
request's answer never depends on what else runs. Sampling settings a model's generation_config
suggests are not applied. It has no authentication: keep it on a private address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn

# Read when torch is loaded. Threads that share a product then sleep when one of them has to wait
# for a processor, instead of keeping it from getting one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from align.gpu import wire
from align.gpu.answers import Draw
from align.gpu.engine import Busy, Engine, Ticket
from align.gpu.replies import Delta, Replies, Watcher, model_card, token_strings
from align.gpu.residents import PRECISIONS, Resident, Residents, Unknown
from align.gpu.wire import Asked, Refused

LARGEST_BODY = 8 << 20  # bytes


class Service:
    """The engine behind its routes."""

    def __init__(self, residents: Residents, max_length: int) -> None:
        self.residents = residents
        self.max_length = max_length
        self.engine = Engine(residents, max_length)

    async def health(self, request: Request) -> Response:
        return Response()

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": f"align {version('plumbline')}"})

    async def load(self, request: Request) -> Response:
        """How many requests are running or waiting."""
        return JSONResponse({"server_load": self.engine.load})

    async def metrics(self, request: Request) -> Response:
        """How many tokens it has generated, as vLLM says it to Prometheus."""
        name = "vllm:generation_tokens_total"
        return PlainTextResponse(f"# TYPE {name} counter\n{name} {self.engine.generated}\n")

    async def models(self, request: Request) -> Response:
        cards = [model_card(resident, self.max_length) for resident in self.residents.all()]
        return JSONResponse({"object": "list", "data": cards})

    async def completions(self, request: Request) -> Response:
        body = await _body(request)
        resident = self._resident(body)
        asked = wire.completion(body, resident.tokenizer, self.max_length)
        return await self._answer(request, asked, resident)

    async def chat_completions(self, request: Request) -> Response:
        body = await _body(request)
        resident = self._resident(body)
        asked = wire.chat(body, resident.tokenizer, self.max_length)
        return await self._answer(request, asked, resident)

    async def responses(self, request: Request) -> Response:
        raise Refused("This engine has no /v1/responses; vLLM has.", "model")

    async def tokenize(self, request: Request) -> Response:
        body = await _body(request)
        tokenizer = self._resident(body).tokenizer
        if "messages" in body:
            opened = body.get("add_generation_prompt") is None
            opened = opened or wire.flag(body, "add_generation_prompt")
            tokens = wire.render(body, tokenizer, add_generation_prompt=opened)
        else:
            tokens = wire.encode(wire.text(body, "prompt"), tokenizer)
        strings = token_strings(tokens, tokenizer) if wire.flag(body, "return_token_strs") else None
        return JSONResponse(
            {
                "count": len(tokens),
                "max_model_len": self.max_length,
                "tokens": tokens,
                "token_strs": strings,
            }
        )

    async def load_adapter(self, request: Request) -> Response:
        body = await _body(request)
        name, path = wire.text(body, "lora_name"), Path(wire.text(body, "lora_path"))
        sha256 = wire.text(body, "sha256") if "sha256" in body else None
        if not path.is_dir():
            raise Refused(f"Loading {name} failed: {path} is no folder here.", "lora_path", 404)
        took: Mapping[str, float] = {}
        try:
            if (path / "adapter_config.json").is_file() or self.residents.asleep:
                load = self.engine.call(lambda models: models.load(name, path, sha256))
                await asyncio.wrap_future(load)
            else:  # requests go on while it is read
                read = await asyncio.to_thread(self.residents.read, name, path, sha256)
                await asyncio.wrap_future(self.engine.call(lambda models: models.add(read)))
                took = read.took
        except ValueError as error:
            raise Refused(str(error), kind="InvalidUserInput") from error
        stages = ", ".join(f"{stage};dur={1000 * span:.0f}" for stage, span in took.items())
        return PlainTextResponse(
            f"Success: LoRA adapter '{name}' added successfully.",
            headers={"Server-Timing": stages} if stages else None,
        )

    async def unload_adapter(self, request: Request) -> Response:
        body = await _body(request)
        name = wire.text(body, "lora_name")
        try:
            await asyncio.wrap_future(self.engine.call(lambda models: models.unload(name)))
        except Unknown as error:
            raise Refused(f"The lora adapter '{name}' cannot be found.", status=404) from error
        except ValueError as error:
            raise Refused(str(error), kind="InvalidUserInput") from error
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def sleep(self, request: Request) -> Response:
        """Once the running requests have ended; later ones wait for /wake_up."""
        await asyncio.wrap_future(self.engine.sleep())
        return Response()

    async def wake_up(self, request: Request) -> Response:
        await asyncio.wrap_future(self.engine.wake())
        return Response()

    async def is_sleeping(self, request: Request) -> Response:
        return JSONResponse({"is_sleeping": self.engine.sleeping})

    def _resident(self, body: dict[str, Any]) -> Resident:
        """The model asked for; the base if none is named. Raises Unknown."""
        name = body.get("model")
        return self.residents.base if name is None else self.residents.get(str(name))

    async def _answer(self, request: Request, asked: Asked, resident: Resident) -> Response:
        replies = Replies(asked, resident)
        if asked.stream:
            pieces = await self._submit_stream(asked, resident)
            return StreamingResponse(_events(replies, pieces), media_type="text/event-stream")
        draws = await self._finished(request, asked, resident)
        return JSONResponse(replies.whole(draws))

    async def _finished(self, request: Request, asked: Asked, resident: Resident) -> Sequence[Draw]:
        """All draws, complete. A client that hangs up ends the generation."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[Draw]] = loop.create_future()

        def settle(news: Sequence[Draw] | Exception) -> None:
            if done.done():
                return
            if isinstance(news, Exception):
                done.set_exception(news)
            else:
                done.set_result(news)

        ticket = Ticket(
            resident,
            asked.prompts,
            asked.sampling,
            watched=False,
            tell=lambda news: _post(loop, lambda: settle(news)),
        )
        self.engine.submit(ticket)
        try:
            while not (await asyncio.wait({done}, timeout=1.0))[0]:
                if await request.is_disconnected():
                    raise ClientDisconnect
            return done.result()
        finally:
            ticket.cancelled.set()

    async def _submit_stream(self, asked: Asked, resident: Resident) -> AsyncIterator[list[Delta]]:
        """Deltas as they come. Admitted before the first byte, so that Busy and Unknown are still
        a status."""
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[list[Delta] | Exception] = asyncio.Queue()
        watcher = Watcher(asked.sampling.stop)

        def tell(moved: Sequence[Draw] | Exception) -> None:
            n = asked.sampling.n
            item = moved if isinstance(moved, Exception) else watcher.deltas(moved, n)
            _post(loop, lambda: news.put_nowait(item))

        ticket = Ticket(resident, asked.prompts, asked.sampling, watched=True, tell=tell)
        try:
            await asyncio.wrap_future(self.engine.submit(ticket))
        except BaseException:  # the client may have left
            ticket.cancelled.set()
            raise
        return _drain(ticket, news, asked.sampling.n * len(asked.prompts))


async def _drain(
    ticket: Ticket, news: asyncio.Queue[list[Delta] | Exception], draws: int
) -> AsyncIterator[list[Delta]]:
    """Until all draws have ended; whoever stops listening earlier cancels the generation."""
    try:
        while draws:
            deltas = await news.get()
            if isinstance(deltas, Exception):
                raise deltas
            draws -= sum(delta.finish_reason is not None for delta in deltas)
            yield deltas
    finally:
        ticket.cancelled.set()


async def _events(replies: Replies, pieces: AsyncIterator[list[Delta]]) -> AsyncIterator[str]:
    """Server-sent events: the role, the pieces, the usage if wanted, [DONE]."""
    tokens = [0] * (len(replies.asked.prompts) * replies.asked.sampling.n)
    for opening in replies.opening():
        yield _event(opening)
    started: set[int] = set()
    try:
        async for deltas in pieces:
            for delta in deltas:
                tokens[delta.choice] += len(delta.tokens)
                yield _event(replies.chunk(delta, first=delta.choice not in started))
                started.add(delta.choice)
    except (RuntimeError, Unknown) as error:  # the status line is gone; say it in the stream
        yield _event(Refused(f"generation failed: {error}", status=500).body)
    else:
        for closing in replies.closing(tokens):
            yield _event(closing)
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _post(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """Run `action` on the event loop; a loop that has closed no longer cares."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(action)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises Refused."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST_BODY:
            raise Refused(f"The request body is larger than {LARGEST_BODY} bytes.", status=413)
    try:
        body = json.loads(bytes(raw))
    except ValueError as error:
        raise Refused(f"The request body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused("The request body must be a JSON object.")
    return body


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Unknown):
        error = Refused(str(error), "model", status=404)
    if isinstance(error, Busy):
        error = Refused(str(error), status=503)
    assert isinstance(error, Refused)
    return JSONResponse(error.body, status_code=error.status)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


def create_app(residents: Residents, max_length: int) -> Starlette:
    """The application, its engine thread running from start-up to shut-down."""
    service = Service(residents, max_length)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.engine.close()

    Handler = Callable[[Request], Awaitable[Response]]

    def post(path: str, handler: Handler) -> Route:
        return Route(path, handler, methods=["POST"])

    return Starlette(
        routes=[
            Route("/health", service.health),
            Route("/version", service.version),
            Route("/load", service.load),
            Route("/metrics", service.metrics),
            Route("/v1/models", service.models),
            post("/v1/completions", service.completions),
            post("/v1/chat/completions", service.chat_completions),
            post("/v1/responses", service.responses),
            post("/tokenize", service.tokenize),
            post("/v1/load_lora_adapter", service.load_adapter),
            post("/v1/unload_lora_adapter", service.unload_adapter),
            post("/sleep", service.sleep),
            post("/wake_up", service.wake_up),
            Route("/is_sleeping", service.is_sleeping),
        ],
        exception_handlers={
            Refused: _refused,
            Unknown: _refused,
            Busy: _refused,
            ClientDisconnect: _gone,
        },
        lifespan=lifespan,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m align.gpu.serve")
    parser.add_argument("--model", type=Path, required=True, help="a folder of full weights")
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-model-len", type=int, help="at most what the model was made for")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="bf16 where this machine is fast"
    )
    args = parser.parse_args(argv)
    try:
        residents = Residents(
            args.served_model_name, args.model, args.max_model_len, args.precision
        )
    except ValueError as error:
        sys.exit(str(error))
    if residents.base.alone is not None:
        print(f"requests are computed one at a time: {residents.base.alone}", file=sys.stderr)
    longest = residents.base.model.config.max_position_embeddings
    app = create_app(residents, min(args.max_model_len or longest, longest))
    uvicorn.run(
        app, host=args.host, port=args.port, log_level="warning", timeout_graceful_shutdown=5
    )


if __name__ == "__main__":
    main()
