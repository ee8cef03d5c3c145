"""The HTTP server before the applications: uvicorn's, with what it leaves unbounded bounded.

Uvicorn reads heads, trailers and unwanted bodies of any length, waits for a head for ever, and
never gives up on a reader that does not read.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator_api.headers import ALWAYS
from orchestrator_api.tls import Certificate

# What a head may have, and what chunks' sizes, extensions and trailers may have beside a body.
LONGEST_HEAD = 64 * 1024
# As many bytes around each byte of a body as chunks of one byte need, and more.
AROUND_A_BYTE = 16
MOST_FIELDS = 200
# Each chunk costs some work, however small: so many may be of any size, all others need that much.
MOST_SMALL_CHUNKS, LEAST_OF_A_CHUNK = 4096, 16
# How many requests a connection may send before the one in front of them has its answer.
MOST_AHEAD = 64
# How much of a refused body is still read, so that its sender gets to read the answer.
DISCARDED_BYTES = 64 << 20
# And how fast: who sends what is refused has to wait, and not all others.
DISCARDED_BYTES_PER_SECOND = 4 << 20
# What a piece of it costs, however small, as if that were bytes.
DISCARDED_PER_PIECE = 512
# How long a head, the rest of a refused body, or a reader that stalls is waited for.
PATIENCE_SECONDS = 30.0
MOST_CONNECTIONS = 4096
# Fields of which another reader on the way might take another than we do.
ONCE = (b"host", b"authorization", b"content-type", b"range")
# Nobody here has any use for it, but the framework takes it apart for every request; with
# CVE-2024-7592, in the square of its length: 60 kB of backslashes were a quarter of a minute.
UNREAD = b"cookie"


class Doubtful(ValueError):  # noqa: N818
    """Two readers could read the request differently."""


class Protocol(HttpToolsProtocol):
    """One connection. Whatever is doubtful ends it, with a 400 where nothing was answered yet."""

    discards: int | None = DISCARDED_BYTES
    takes_ahead = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Take what uvicorn gives."""
        super().__init__(*arguments, **named)
        # Whether what comes next belongs to a head, and not to a body.
        self._in_head = True
        self._around = self._body = self._chunks = 0
        # Of a refused body: in all, and of what came last.
        self._discarded = self._discarding = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._wait_no_more()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes, and count those that belong to no body."""
        self._around += len(data)
        if self._in_head and self._head_timer is None and not self._answering:
            self._wait()
        super().data_received(data)
        if self._around > LONGEST_HEAD + AROUND_A_BYTE * self._body:
            self.send_400_response("There is too much around the body, or in the head.")
        if self._discarding and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(self._discarding / DISCARDED_BYTES_PER_SECOND, self._read_on)
        self._discarding = 0

    def on_message_begin(self) -> None:
        """Begin to count anew."""
        super().on_message_begin()
        self._body = self._chunks = self._discarded = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one of the trailers is nobody's business."""
        if not self._in_head or name.lower() == UNREAD:
            return
        if len(self.headers) == MOST_FIELDS:
            raise Doubtful
        super().on_header(name, value)

    def on_chunk_header(self) -> None:
        """Count a chunk of the body."""
        self._chunks += 1
        if self._chunks > MOST_SMALL_CHUNKS + self._body // LEAST_OF_A_CHUNK:
            raise Doubtful

    def on_headers_complete(self) -> None:
        """Begin the request, unless it can be read in more than one way."""
        version, names = self.parser.get_http_version(), Counter(name for name, _ in self.headers)
        length = int(dict(self.headers).get(b"content-length", b"0"))
        if version not in {"1.0", "1.1"} or b"#" in self.url:
            raise Doubtful
        if any(names[name] > 1 for name in ONCE) or (version == "1.1" and not names[b"host"]):
            raise Doubtful
        if self._answering and (length or names[b"transfer-encoding"]):
            raise Doubtful  # it would grow for as long as those before it wait for their answers
        upgrade = self.parser.should_upgrade()
        if upgrade and (length or names[b"transfer-encoding"]):
            raise Doubtful  # the parser takes no body then
        if self._answering and len(self.pipeline) >= (MOST_AHEAD if self.takes_ahead else 0):
            raise Doubtful
        super().on_headers_complete()
        self._wait_no_more()
        self._in_head = False
        if upgrade or (self.discards is not None and length > self.discards):
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on, or throw some away that nobody will read any more."""
        self._around -= len(body)
        self._body += len(body)
        if self.cycle.response_complete and self.discards is not None:
            cost = len(body) + DISCARDED_PER_PIECE
            self._discarded += cost
            self._discarding += cost
            # `unhurried` counts it; an answer that a rate counts costs no more for its body.
            if discarded := self.cycle.scope.get("state", {}).get("discarded"):
                discarded(len(body))
            if self._discarded > self.discards:
                self.transport.close()
        super().on_body(body)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """End the request's body."""
        super().on_message_complete()
        self._in_head = True
        self._around = self._body = 0
        self._wait_no_more()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was answered before its end, but not for ever."""
        super().on_response_complete()
        if not self._in_head and self.discards is not None:
            self._wait()

    def pause_writing(self) -> None:
        """Wait for a reader."""
        super().pause_writing()
        self._stalled = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait for it no more."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, and end the connection; never in the midst of an answer."""
        if self.transport.is_closing():
            return
        if not self._in_head and not self._answering:
            self.transport.close()  # what is wrong belongs to a request that has its answer
            return
        if self._answering:
            if self.cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = json.dumps({"id": 0, "status": "Unknown", "message": msg}).encode()
        fields = (
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *ALWAYS,
        )
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + body)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None until there is one
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        self._wait_no_more()
        self._head_timer = self.loop.call_later(PATIENCE_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Server(uvicorn.Server):
    """A server that leaves signals alone: two of them would each hand them on to the other."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the block run."""
        yield


def server(
    app: FastAPI,
    port: int,
    tls: Certificate | None = None,
    protocol: type[Protocol] = Protocol,
) -> Server:
    """Return a server of *app* on all addresses, not begun yet."""
    config = uvicorn.Config(
        app,
        host="0.0.0.0",
        port=port,
        http=protocol,
        ws="none",
        # Nothing here asks where a request came from, or by what name.
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        access_log=False,
        # Not its warnings: every stranger can make it say one for each request.
        log_level="error",
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=25,
        server_header=False,
        ssl_certfile=tls.chain if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    return Server(config)
