"""Requests made to cost more than they are long, and what any request costs the server.

Each goes over a connection of its own, in pieces that are made as they are sent: who has its answer
sends no more.
"""

import asyncio
import gzip
import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, repeat

from tests.support.raw import CHUNKED, MEGABYTE, UPLOAD, Address, get, post, steps

MILLION = 1_000_000
CLOSE = b"Connection: close\r\n"
FIELDS = (
    b'--M\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n1\r\n'
    b'--M\r\nContent-Disposition: form-data; name="service"\r\n\r\nexample\r\n'
)
TICK_SECONDS = 0.001
Pieces = Iterable[bytes]


def form(*parts: Pieces, kind: bytes = b"multipart/form-data; boundary=M", more: bytes = b"") -> Pieces:  # fmt: skip
    """Yield an upload of *parts*, in chunks."""
    head = UPLOAD.replace(b"multipart/form-data; boundary=M", kind)
    yield head + more + CLOSE + CHUNKED + b"\r\n"
    for pieces in parts:
        for some in batches(pieces):
            yield b"%x\r\n%b\r\n" % (len(some), some)
    yield b"0\r\n\r\n"


def batches(pieces: Pieces) -> Pieces:
    """Put pieces together, a thousand at a time."""
    left = iter(pieces)
    while some := b"".join(islice(left, 1000)):
        yield some


def file(head: bytes, data: bytes = b"x") -> bytes:
    begin = b'--M\r\nContent-Disposition: form-data; name="f"; filename="'
    return begin + head + b"\r\n\r\n" + data + b"\r\n"


def parts(count: int) -> Pieces:
    return form([FIELDS], (file(b'%d"' % n) for n in range(count)), [b"--M--\r\n"])


def fields(count: int) -> Pieces:
    one = b'--M\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    return form([FIELDS], repeat(one, count), [b"--M--\r\n"])


def upload(size: int) -> Pieces:
    """Yield an honest upload of *size* bytes and a run.sh."""
    return form(
        [FIELDS, file(b'run.sh"', b"echo"), file(b'data"', b"")[:-2]],
        repeat(bytes(1 << 16), size >> 16),
        [b"\r\n--M--\r\n"],
    )


def crumbs(first: bytes, pieces: Pieces) -> Pieces:
    """Yield a request whose body comes in chunks of one byte."""
    yield first
    for step in steps(pieces, 1 << 12):
        yield b"".join(b"1\r\n%c\r\n" % byte for byte in step)
    yield b"0\r\n\r\n"


def download(more: bytes, target: bytes = b"/download/1") -> Pieces:
    return [get(target, CLOSE + more)]


# What may stand in a header behind its first word, of which a pattern could look back at all that came.
OPTIONS = {
    "quotes": b'="' + b'\\"; x="' * 8000,
    "pairs": b"".join(b"; %d=b" % n for n in range(7000)),
    "semicolons": b";" * 60_000,
    "gaps": b"; " * 30_000,
    "backslashes": b'; a="' + b"\\" * 60_000,
    "a space that does not end": b"; a" + b" " * 60_000 + b"x",
    "a name that does not end": b"; " + b"a" * 60_000,
    "values one in another": b'; a="' + b'"; b="' * 9000,
    "continuations": b"; a*0=x" * 8000,
}
# Of parts, where a line is hardly longer, and a parameter that comes twice is refused.
DISPOSED, TWICE = 4000, {"quotes", "values one in another", "continuations"}
# What is sent, and the status of the answer; None is 404 or 400, whichever comes first. /download/1 is a
# zip of a few bytes.
REQUESTS: dict[str, tuple[Callable[[], Pieces], int | None]] = {
    "a million parts": (lambda: parts(MILLION), 400),
    "a million fields": (lambda: fields(MILLION), 400),
    "a million headers of a part": (lambda: form([FIELDS, b"--M\r\n"], repeat(b"A: b\r\n", MILLION)), 413),
    "a header of a part that does not end": (
        lambda: form([FIELDS, b"--M\r\nA: "], repeat(b"b" * 1000, 10_000)), 413,
    ),
    "forms in forms": (
        lambda: form([FIELDS, *(b"--M\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n" * 1000,)]), 400,
    ),
    "a boundary of 60 kB": (
        lambda: form(repeat(bytes(1000), 1000), kind=b"multipart/form-data; boundary=" + b"M" * 60_000), 400,
    ),
    "what is nearly a boundary": (
        lambda: form([FIELDS, file(b'f"', b"\r\n--" * MEGABYTE), b"--M--\r\n"]), 201,
    ),
    "what is nearly a long boundary": (
        lambda: form(
            [b"--" + b"-" * 70 + file(b'f"', b"\r\n" + b"-" * 4 * MEGABYTE)[3:]],
            kind=b"multipart/form-data; boundary=" + b"-" * 70,
        ), 400,
    ),
    "line ends before the first part": (lambda: form(repeat(b"\r\n" * 1000, 2000)), 400),
    "line ends in a file": (lambda: form([FIELDS, file(b'f"', b"\r" * 4 * MEGABYTE), b"--M--\r\n"]), 201),
    "parts after the last": (
        lambda: form([FIELDS, file(b'f"'), b"--M--\r\n"], repeat(file(b'g"'), 50_000)), 201,
    ),
    "names of accents": (
        lambda: form([FIELDS], (file(b"%d%b\"" % (n, "\u0301\u0323".encode() * 60)) for n in range(300)),
                     [b"--M--\r\n"]), 201,
    ),
    "a name of accents": (
        lambda: form([FIELDS, file("\u0301\u0323".encode() * 990 + b'"'), b"--M--\r\n"]), 400,
    ),
    "a number that does not end": (
        lambda: form([FIELDS.replace(b"\r\n1\r\n", b"\r\n" + b"1" * 65_000 + b"\r\n"), file(b'f"'), b"--M--\r\n"]),
        400,
    ),
    "an address that does not end": (
        lambda: form([FIELDS, file(b'f"'), b'--M\r\nContent-Disposition: form-data; name="callback_url"\r\n\r\n',
                      b"http://" + b"a." * 30_000, b"\r\n--M--\r\n"]), 400,
    ),
    "a run.sh of one line": (lambda: form([FIELDS, file(b'run.sh"', b"x(){" * (1 << 18)), b"--M--\r\n"]), 201),
    "a form in chunks of a byte": (
        lambda: crumbs(UPLOAD + CLOSE + CHUNKED + b"\r\n", [FIELDS, bytes(MEGABYTE)]), 400,
    ),
    "chunks of a byte to nobody": (lambda: crumbs(post(CLOSE + CHUNKED), [bytes(MEGABYTE)]), None),
    "a packed form": (
        lambda: form([gzip.compress(bytes(50 * MEGABYTE))], more=b"Content-Encoding: gzip\r\n"), 400,
    ),
    "a packed transfer": (lambda: [UPLOAD + CLOSE + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], 400),
    "a million fields, urlencoded": (
        lambda: form(repeat(b"a=b&", MILLION), kind=b"application/x-www-form-urlencoded"), 400,
    ),
    "deep JSON": (lambda: form([b"[" * MEGABYTE], kind=b"application/json"), 400),
    "deep JSON to nobody": (lambda: [post(CLOSE + b"Content-Length: %d\r\n" % MEGABYTE), b"[" * MEGABYTE], 404),
    "twenty thousand ranges": (lambda: download(b"Range: bytes=" + b"0-," * 20_000 + b"\r\n"), 200),
    "a range of digits": (lambda: download(b"Range: bytes=" + b"0" * 60_000 + b"-\r\n"), 200),
    "a range of spaces": (lambda: download(b"Range: bytes=" + b" " * 60_000 + b"x\r\n"), 200),
    "a version of 60 kB": (lambda: download(b'Range: bytes=0-\r\nIf-Range: "' + b"a" * 60_000 + b'"\r\n'), 200),
    "many cookies": (lambda: download(b"Cookie: " + b"a=b;" * 15_000 + b"\r\n"), 200),
    "a cookie of backslashes": (lambda: download(b'Cookie: a="' + b"\\" * 60_000 + b'"\r\n'), 200),
    "fifteen thousand headers": (lambda: download(b"A:\r\n" * 15_000), 400),
    "a query of 15,000": (lambda: download(b"", b"/download/1?" + b"a=b&" * 15_000), 200),
    "a number in the path": (lambda: download(b"", b"/download/" + b"1" * 60_000), 400),
    "a path of slashes": (lambda: download(b"", b"/" * 60_000), 404),
    "a path that is encoded": (lambda: download(b"", b"/download/" + b"%31" * 20_000), 400),
    "a token of dots": (lambda: download(b"Authorization: Bearer " + b"a." * 30_000 + b"\r\n"), 200),
    "options of a connection": (lambda: [get(b"/download/1", b"Connection: " + b"a, " * 20_000 + b"close\r\n")], 200),
    "a thousand expectations": (lambda: download(b"Expect: 100-continue\r\n" * 100), 200),
    **{
        f"a type with {name}": (
            lambda options=options: form([b"x"], kind=b"multipart/form-data" + options), 400,  # type: ignore[misc]
        )
        for name, options in OPTIONS.items()
    },
    **{
        f"parts with {name}": (
            lambda options=options[:DISPOSED]: form(  # type: ignore[misc]
                [FIELDS], (file(b'%d"' % n + options) for n in range(100)), [b"--M--\r\n"],
            ), 400 if name in TWICE else 201,
        )
        for name, options in OPTIONS.items()
    },
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a request cost the server: seconds of its processor, and most of them without a pause."""

    seconds: float
    standstill: float


class _Watch:
    """Sees how long the loop had the processor between two looks."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._look()

    def _look(self) -> None:
        now = time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now
        self._next = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look)

    def stop(self) -> None:
        self._look()
        self._next.cancel()


async def cost(address: Address, pieces: Pieces, *, on: bool = False) -> tuple[Cost, int | None, int]:  # fmt: skip
    """Ask the server that runs in this thread, from another; returns (cost, status, bytes sent)."""
    watch, began = _Watch(), time.thread_time()
    status, sent = await asyncio.to_thread(exchange, address, pieces, on=on)
    spent = time.thread_time() - began
    watch.stop()
    return Cost(spent, watch.longest), status, sent


def exchange(address: Address, pieces: Pieces, *, on: bool = False) -> tuple[int | None, int]:
    """Send *pieces* until there is an answer, or *on* and on; returns its status and what went."""
    sent, answer = 0, b""
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        with suppress(ConnectionError):
            for step in steps(pieces, 1 << 16):
                if not on and select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(step)
                sent += len(step)
        with suppress(ConnectionError):
            while b"\r\n" not in answer and (piece := connection.recv(1 << 16)):
                answer += piece.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return (int(answer.split()[1]) if answer else None), sent
