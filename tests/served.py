"""A web server on loopback that keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """A server on loopback that keeps what it was asked."""

    port: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Host header, path and body."""
    raw: list[bytes] = field(default_factory=list)


@contextmanager
def web(redirect: str = "") -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            server.asked.append((self.headers["host"], self.path, body))
            self.send_response(302 if redirect else 200)
            if redirect:
                self.send_header("location", redirect)
            self.end_headers()
            self.wfile.write(b"served")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.2", 0), Handler) as listening:
        server.port = listening.server_port
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
