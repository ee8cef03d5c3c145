"""What stands behind the proxies: the API's own server, watched, and one that cuts requests wrongly."""

import asyncio
import re
from contextlib import suppress
from threading import Event
from typing import Any

from orchestrator_api.serving import Protocol
from tests.support.raw import get
from tests.unit.api.test_identity import KEYS
from tests.unit.api.test_serving import Lenient

# What the jobs of two users left, and where.
OWN = {"one": (b"/download/1", b"what job 1 left"), "two": (b"/download/2", b"what job 2 left")}


def by(caller: str, raw: bytes, more: bytes = b"") -> bytes:
    """Return a request with the key of *caller*."""
    return raw[:-2] + f"Authorization: Bearer {KEYS[caller]}\r\n".encode() + more + b"\r\n"


CLOSE = b"Connection: close\r\n"
HONEST = by("one", get(OWN["one"][0]), CLOSE)


class Log:
    """What a server saw: each request's connection and target, and how many began."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.seen: list[tuple[int, bytes]] = []
        self.begun = 0
        self.arrived = Event()

    def saw(self, connection: int, target: bytes) -> None:
        self.seen.append((connection, target))
        self.arrived.set()

    def letters(self) -> str:
        """Return a letter for each request: F is whatever the corpus has, the others' are ours."""
        ours = {b"/": "L", b"/end": "E", b"/half": "H", OWN["one"][0]: "O"}
        return "".join(ours.get(target, "F") for _, target in self.seen)

    def connections(self) -> int:
        return len({connection for connection, _ in self.seen})


class Watched(Protocol):
    """The API's own server, with all that reaches its parser written down."""

    def __init__(self, log: Log, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._log = log

    def on_message_begin(self) -> None:
        self._log.begun += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._log.saw((self.client or ("", 0))[1], self.url)
        super().on_headers_complete()


class LenientAndWatched(Watched, Lenient):
    """The same with a parser that overlooks what it can."""


class Bodiless:
    """A server that takes what follows a head for the next request, and skips what is none."""

    def __init__(self, log: Log, knows_lengths: bool) -> None:
        self._log, self._knows_lengths = log, knows_lengths

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, connection = writer.get_extra_info("peername")
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if (request := re.search(rb"[A-Z]+ (\S+) HTTP/1\.[01]\r\n", head)) is None:
                    continue
                self._log.begun += 1
                self._log.saw(connection, request[1])
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if self._knows_lengths and length is not None:
                    await reader.readexactly(int(length[1]) % (1 << 64))  # as C counts
                writer.write(self._answer(request[1]))
        writer.close()

    @staticmethod
    def _answer(target: bytes) -> bytes:
        body = dict([*OWN.values(), (b"/", b"")]).get(target)
        first = b"HTTP/1.1 404 Not Found" if body is None else b"HTTP/1.1 200 OK"
        return first + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body or b""), body or b"")
