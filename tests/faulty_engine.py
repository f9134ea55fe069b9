"""A relay before a real engine: as slow as a test wants, and it breaks off when it is told to."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FaultyEngine:
    """`pause`: seconds before each piece. `break_off`: requests to come that end in the middle of
    their answer, after `pieces` of it, or, with `garble`, say nonsense there."""

    def __init__(self, port: int) -> None:
        self.pause, self.break_off, self.pieces, self.garble = 0.0, 0, 4, False
        self.bodies: list[bytes] = []
        self.ids: list[str] = []  # of the requests, as their headers name them
        self.left: list[bool] = []  # whether the caller hung up, request by request
        self._lock = threading.Lock()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                relay._relay(self, port)

            def do_GET(self) -> None:
                relay._relay(self, port)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _relay(self, caller: BaseHTTPRequestHandler, port: int) -> None:
        body = caller.rfile.read(int(caller.headers.get("content-length") or 0))
        with self._lock:
            breaks = caller.command == "POST" and self.break_off > 0
            self.break_off -= breaks
            self.bodies.append(body)
            self.ids.append(caller.headers.get("x-request-id", ""))
        engine = http.client.HTTPConnection("127.0.0.1", port)
        engine.request(caller.command, caller.path, body, {"content-type": "application/json"})
        reply = engine.getresponse()
        caller.send_response(reply.status)
        caller.send_header("content-type", reply.headers.get("content-type", ""))
        caller.send_header("connection", "close")
        caller.end_headers()
        try:
            for n, line in enumerate(reply):
                if breaks and n >= 2 * self.pieces:
                    if self.garble:
                        caller.wfile.write(b'data: {"choices": [1]}\n\n')
                    break
                if self.pause and line.strip():
                    time.sleep(self.pause)
                caller.wfile.write(line)
                caller.wfile.flush()
            self.left.append(False)
        except OSError:
            self.left.append(True)
        finally:
            engine.close()
