# SPDX-License-Identifier: GPL-3.0-or-later
"""A local HTTP server with bad manners, for the tests of downloads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LineServer(ThreadingHTTPServer):
    """Serves `content` at every path; `manners` says how, one entry per request, the last for all that follow."""

    daemon_threads = True

    def __init__(self, content: bytes, *manners: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.manners = list(manners) or ["good"]
        self.requests: list[dict[str, Any]] = []
        self.mark = '"v1"'
        self.stalled = threading.Event()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Address of the file."""
        return f"http://127.0.0.1:{self.server_port}/weights.pt"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are the point here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LineServer

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server = self.server
        manner = server.manners[min(len(server.requests), len(server.manners) - 1)]
        server.requests.append(dict(self.headers))
        if manner.isdigit():
            self._head(int(manner), {"Content-Length": "0"})
            return
        if manner == "html":
            page = b"<html>Log in to the hotel's network</html>"
            self._head(200, {"Content-Length": str(len(page)), "Content-Type": "text/html; charset=utf-8"})
            self.wfile.write(page)
            return
        content, start = server.content, 0
        asked = self.headers.get("Range", "")
        if asked and manner != "ignores-range" and self.headers.get("If-Range", server.mark) == server.mark:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if manner == "wrong-bytes":
            content = bytes(byte ^ 255 for byte in content)
        if start >= len(content):
            self._head(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:]
        announced = len(body) + {"lies-more": 1000, "lies-less": -1000}.get(manner, 0)
        head = {"Content-Length": str(announced), "ETag": server.mark}
        if manner == "no-length":
            head = {"ETag": server.mark, "Connection": "close"}
            self.close_connection = True
        if start:
            head["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if manner == "shifted":
                head["Content-Range"] = f"bytes {start + 7}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, head)
        if manner == "stalls":
            self.wfile.write(body[: len(body) // 3])
            self.wfile.flush()
            server.stalled.set()
            server.ended.wait(30)
            return
        if manner == "drips":
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if server.ended.wait(0.05):
                    return
        self.wfile.write(body[: len(body) // 2] if manner == "drops" else body[: max(announced, 0)])
        if manner in ("drops", "lies-more"):
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def served(content: bytes, *manners: str) -> Iterator[LineServer]:
    """A running server; its threads end with the block."""
    server = LineServer(content, *manners)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
