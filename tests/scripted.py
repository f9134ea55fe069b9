"""An OpenAI-compatible endpoint that says what a test wants, over real HTTP."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]

SHOWN = re.compile(
    r"--- answer (?P<name>\w+) (?P<nonce>[0-9a-f]{16}) ---\n(?P<text>.*?)"
    r"\n--- end of answer (?P=name) (?P=nonce) ---",
    re.DOTALL,
)


class Scripted:
    """`answer` takes a request's body and returns the reply's text, a dictionary of a choice's
    fields ("content", "logprobs", "finish_reason"), or (status, headers, body) for anything else.
    `bodies` and `headers` are the requests so far."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stub._reply(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.place}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _reply(self, caller: BaseHTTPRequestHandler) -> None:
        raw = caller.rfile.read(int(caller.headers.get("content-length") or 0))
        body = json.loads(raw)
        with self._lock:
            self.bodies.append(body)
            self.headers.append(dict(caller.headers))
        said = self.answer(body)
        status, headers = 200, {}
        if isinstance(said, tuple):
            status, headers, data = said
        else:
            data = completion(said, body)
        content = json.dumps(data).encode()
        try:
            caller.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                caller.send_header(name, value)
            caller.send_header("content-length", str(len(content)))
            caller.end_headers()
            caller.wfile.write(content)
        except OSError:
            pass  # the caller was killed, as a test wished


def completion(said: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion; a word is a token."""
    fields = {"content": said} if isinstance(said, str) else dict(said)
    asked = sum(len(one["content"].split()) for one in body["messages"])
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": fields["content"]},
                "logprobs": fields.get("logprobs"),
                "finish_reason": fields.get("finish_reason", "stop"),
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": len(fields["content"].split())},
    }


def letters(**chances: float) -> dict[str, Any]:
    """A reply of one letter, with the chances of each."""
    top = [{"token": name, "logprob": math.log(p)} for name, p in chances.items()]
    best = max(chances, key=lambda name: chances[name])
    content = [{"token": best, "logprob": math.log(chances[best]), "top_logprobs": top}]
    return {"content": best, "logprobs": {"content": content}}


def shown(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, text) of the two answers in a judge's question, in the order shown."""
    return [(one["name"], one["text"]) for one in SHOWN.finditer(body["messages"][-1]["content"])]
