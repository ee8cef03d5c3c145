"""A gateway for the agent's tests: real HTTP on loopback, answers as the test says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeGateway:
    """What the gateway holds, was sent, and is to answer. *failures* come before any success."""

    inputs: bytes = b""
    url: str = ""
    canary: dict[str, Any] = field(default_factory=lambda: {"port": 9, "listening": True})
    failures: dict[str, list[int]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    inputs_sha256: str = ""
    wanted_at: str = ""

    @property
    def end(self) -> dict[str, Any]:
        """Return the report that `/end` was sent."""
        report: dict[str, Any] = json.loads(self.bodies["/end"][-1])
        return report

    def answer(self, path: str, body: bytes) -> bytes:
        """Return the body of a success."""
        if path == "/start":
            digest = self.inputs_sha256 or sha256(self.inputs).hexdigest()
            return json.dumps({"sizeBytes": len(self.inputs), "sha256": digest}).encode()
        if path == "/inputs":
            return self.inputs
        if path == "/canary":
            return json.dumps(self.canary).encode()
        if path == "/snapshot-wanted":
            return json.dumps({"at": self.wanted_at}).encode()
        if path in {"/results", "/snapshot"}:
            receipt = {"sizeBytes": len(body), "sha256": sha256(body).hexdigest(), "etag": "e"}
            return json.dumps(receipt).encode()
        return b"{}"


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


@contextmanager
def fake_gateway(inputs: bytes = b"") -> Iterator[FakeGateway]:
    """Serve a gateway on a loopback port while the block runs."""
    state = FakeGateway(inputs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = _body(self)
            state.calls.append(self.path)
            state.bodies.setdefault(self.path, []).append(body)
            state.tokens.add(self.headers.get("Authorization", ""))
            failures = state.failures.get(self.path, [])
            status = failures.pop(0) if failures else 200
            data = state.answer(self.path, body) if status == 200 else b'{"message": "no"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
