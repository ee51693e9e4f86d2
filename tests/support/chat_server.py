"""A real HTTP server in this process that speaks OpenAI's chat protocol, and misbehaves as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """Answers each request with what `script` makes of it: a text, or a tuple of what goes wrong.

    ("status", code, headers) or with a message, ("slow", seconds), ("cut",), ("body", bytes), ("redirect", url)

    Attributes:
        requests: bodies, in the order of arrival. at_once: the most requests that were open at a time.
    """

    def __init__(self, script: Callable[[dict[str, Any], int], Any]) -> None:
        self.script, self.requests, self.headers = script, [], []
        self.at_once = self._open = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server._open += 1
                    server.at_once = max(server.at_once, server._open)
                try:
                    self.answer(server.script(body, number))
                finally:
                    with server._lock:
                        server._open -= 1

            def answer(self, what: Any) -> None:
                if isinstance(what, str):
                    what = (
                        "body",
                        json.dumps({"choices": [{"message": {"role": "assistant", "content": what}}]}).encode(),
                    )
                kind, *rest = what
                if kind == "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"choices": [')
                    self.close_connection = True
                    return
                if kind == "slow":
                    time.sleep(rest[0])
                code, headers, body = 200, {}, b"{}"
                if kind == "status":
                    code, headers, *said = rest
                    message = said[0] if said else "you sent: Jane Roe has an effusion"
                    body = json.dumps({"error": {"message": message}}).encode()
                if kind == "redirect":
                    code, headers = 307, {"Location": rest[0]}
                if kind == "body":
                    body = rest[0]
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the client went away, as it should after its time-out

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
