"""HTTP as nobody should send it: a corpus, and what the public API must make of it.

Each is sent over one connection, and followed by a request that is fine; so a request that was cut
wrongly shows in how many answers there are.
"""

import socket
from collections.abc import Iterable, Iterator

Address = tuple[str, int]
MEGABYTE = 1 << 20
# So much lies in buffers on the way.
ON_THE_WAY = 8 * MEGABYTE

HOST = b"Host: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
# Answered with 200, the last one of a connection.
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# Whoever takes it for the begin of a request has the next one for a field of it.
HALF = b"GET /half HTTP/1.1\r\nHost: x\r\nA: "


def post(fields: bytes, body: bytes = b"") -> bytes:
    """Return a request that is answered with 404, if it is one."""
    return b"POST /nowhere HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def get(target: bytes, fields: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + HOST + fields + b"\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


BOTH, REFUSED, ONLY_FIRST = [404, 200], [400], [404]
# What the first request is, and the answers to both.
REQUESTS: dict[str, tuple[bytes, list[int]]] = {
    # As it should be.
    "a length": (post(b"Content-Length: 3\r\n", b"abc"), BOTH),
    "chunks": (post(CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n"), BOTH),
    "trailers": (post(CHUNKED, b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"), BOTH),
    "a request as a body": (post(b"Content-Length: %d\r\n" % len(LAST), LAST), BOTH),
    "half a request as a body": (post(b"Content-Length: %d\r\n" % len(HALF), HALF), BOTH),
    "a request as a chunk": (post(CHUNKED, chunk(LAST) + chunk(b"")), BOTH),
    "half a request as a chunk": (post(CHUNKED, chunk(HALF) + chunk(b"")), BOTH),
    "a body of a GET": (get(b"/nowhere", b"Content-Length: 3\r\n") + b"abc", BOTH),
    "line ends before it": (b"\r\n\r\n" + post(b""), BOTH),
    # Two lengths, or none that can be read in one way only.
    "a length and chunks": (post(b"Content-Length: 4\r\n" + CHUNKED, b"0\r\n\r\n"), REFUSED),
    "chunks and a length": (post(CHUNKED + b"Content-Length: 4\r\n", b"0\r\n\r\n"), REFUSED),
    "two lengths": (post(b"Content-Length: 0\r\nContent-Length: 3\r\n", b"abc"), REFUSED),
    "one length twice": (post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), REFUSED),
    "a list of lengths": (post(b"Content-Length: 3, 3\r\n", b"abc"), REFUSED),
    "a length with a sign": (post(b"Content-Length: +3\r\n", b"abc"), REFUSED),
    "a length in hex": (post(b"Content-Length: 0x3\r\n", b"abc"), REFUSED),
    "a length of 2^64 + 3": (post(b"Content-Length: 18446744073709551619\r\n", b"abc"), REFUSED),
    "a space before the colon": (post(b"Content-Length : 3\r\n", b"abc"), REFUSED),
    "chunks, with a space": (post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), REFUSED),
    "nearly chunks": (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), REFUSED),
    "chunks, then not": (post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), REFUSED),
    "chunks twice": (post(CHUNKED + CHUNKED, b"0\r\n\r\n"), REFUSED),
    "chunks after a control": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), REFUSED),
    "folded chunks": (post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), REFUSED),
    "chunks in HTTP/1.0": (
        b"POST /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n0\r\n\r\n", ONLY_FIRST,
    ),
    # Chunks that end somewhere else.
    "no end of a chunk": (post(CHUNKED, b"3\r\nabc0\r\n\r\n"), REFUSED),
    "a chunk that is longer": (post(CHUNKED, b"3\r\nabcdef\r\n0\r\n\r\n"), REFUSED),
    "a chunk of less than none": (post(CHUNKED, b"-3\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk of 0x3": (post(CHUNKED, b"0x3\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "a chunk of 2^64 + 3": (post(CHUNKED, b"10000000000000003\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "LF after a size": (post(CHUNKED, b"3\nabc\r\n0\r\n\r\n"), REFUSED),
    "LF after a chunk": (post(CHUNKED, b"3\r\nabc\n0\r\n\r\n"), REFUSED),
    "LF at the end": (post(CHUNKED, b"3\r\nabc\r\n0\n\n"), REFUSED),
    "a space after a size": (post(CHUNKED, b"3 \r\nabc\r\n0\r\n\r\n"), REFUSED),
    "LF in an extension": (post(CHUNKED, b"3;a\nb\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "CR in an extension": (post(CHUNKED, b"3;a\rb\r\nabc\r\n0\r\n\r\n"), REFUSED),
    "no end of the chunks": (post(CHUNKED, b"3\r\nabc\r\n0\r\n"), REFUSED),
    "a length in a trailer": (post(CHUNKED, b"0\r\nContent-Length: 50\r\n\r\n"), REFUSED),
    # Heads that end somewhere else, or say something else.
    "LF alone": (b"POST /nowhere HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc", REFUSED),
    "one LF": (post(b"A: b\nContent-Length: 3\r\n", b"abc"), REFUSED),
    "CR alone": (post(b"A: b\rContent-Length: 3\r\n", b"abc"), REFUSED),
    "a folded field": (post(b"A: b\r\n c\r\nContent-Length: 3\r\n", b"abc"), REFUSED),
    "a folded first field": (b"POST /nowhere HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n", REFUSED),
    "NUL in a value": (post(b"A: b\0c\r\n"), REFUSED),
    "NUL in a name": (post(b"A\0: b\r\n"), REFUSED),
    "no colon": (post(b"A\r\n"), REFUSED),
    "no name": (post(b": b\r\n"), REFUSED),
    "no host": (b"GET /nowhere HTTP/1.1\r\n\r\n", REFUSED),
    "two hosts": (post(b"Host: y\r\n"), REFUSED),
    "two credentials": (post(b"Authorization: a\r\nAuthorization: b\r\n"), REFUSED),
    "two types": (post(b"Content-Type: a/b\r\nContent-Type: c/d\r\n"), REFUSED),
    "two ranges": (get(b"/nowhere", b"Range: bytes=0-\r\nRange: bytes=1-\r\n"), REFUSED),
    "HTTP/1.2": (get(b"/nowhere", version=b"HTTP/1.2"), REFUSED),
    "HTTP/2.0": (get(b"/nowhere", version=b"HTTP/2.0"), REFUSED),
    "HTTP/0.9": (b"GET /nowhere\r\n", REFUSED),
    "HTTP/2 as it begins": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
    "a fragment": (get(b"/nowhere#/x"), REFUSED),
    "a space in the target": (get(b"/nowhere x"), REFUSED),
    "a tab for a space": (b"GET\t/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
    "another protocol": (get(b"/nowhere", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), ONLY_FIRST),
    "web sockets": (get(b"/nowhere", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), ONLY_FIRST),
    "another protocol, and a body": (
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n", b"abc"), REFUSED,
    ),
    "the last one said so": (post(b"Connection: close\r\n"), ONLY_FIRST),
    "rubbish after it": (post(b"") + b"rubbish\r\n\r\n", REFUSED),
}  # fmt: skip
# Whom a request asks for, as no client writes it: the answer to a caller whose job it is, and to
# another. A 200 is that of /download/1.
SPELLINGS: dict[str, tuple[bytes, int, int]] = {
    "plain": (get(b"/download/1"), 200, 404),
    "an absolute target": (get(b"http://x/download/1"), 200, 404),
    "an absolute target of elsewhere": (get(b"http://evil.example/download/1"), 200, 404),
    "a slash too many": (get(b"//download/1"), 404, 404),
    "a host with a question mark": (get(b"/download/1").replace(b"Host: x", b"Host: a?"), 200, 404),
    "a host with a path": (
        get(b"/download/1").replace(b"Host: x", b"Host: x/health?"), 200, 404,
    ),
    "a host with a user": (get(b"/download/1").replace(b"Host: x", b"Host: a@b:c"), 200, 404),
    "dot segments": (get(b"/health/../download/1"), 404, 404),
    "encoded dot segments": (get(b"/health/%2e%2e/download/1"), 404, 404),
    "an encoded slash": (get(b"/health%2f..%2fdownload/1"), 404, 404),
    "twice encoded": (get(b"/download%252f1"), 404, 404),
    "a backslash": (get(b"/health\\..\\download\\1"), 404, 404),
    "parameters of a segment": (get(b"/download;x/1"), 404, 404),
    "another case": (get(b"/Download/1"), 404, 404),
    "NUL at the end": (get(b"/download/1%00"), 400, 400),
    "a line end": (get(b"/download/1%0d%0aX:%20y"), 400, 400),
    "a number of another script": (get(b"/download/%d9%a1"), 400, 400),
    "a slash at the end": (get(b"/download/1/"), 404, 404),
    "a fragment": (get(b"/download/1#x"), 400, 400),
    "another path beside it": (
        get(b"/download/1", b"X-Original-URL: /health\r\nX-Rewrite-URL: /health\r\n"), 200, 404,
    ),
    "another address": (
        get(b"/download/1", b"X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n"
            b"Forwarded: for=127.0.0.1;host=localhost\r\n"), 200, 404,
    ),
    "another name": (
        get(b"/download/1", b"X-Forwarded-User: one\r\nX-Remote-User: one\r\nRemote-User: one\r\n"
            b"X-Forwarded-Access-Token: orc_one\r\nCookie: key=orc_one\r\n"), 200, 404,
    ),
    "a key in the query": (get(b"/download/1?access_token=orc_one&key=orc_one"), 200, 404),
    "another prefix": (
        get(b"/download/1", b"X-Forwarded-Prefix: /health\r\nX-Script-Name: /health\r\n"), 200, 404,
    ),
    "another method": (
        get(b"/terminate/1", b"X-HTTP-Method-Override: POST\r\nX-HTTP-Method: POST\r\n"
            b"X-Method-Override: POST\r\n"), 405, 405,
    ),
    "another method in the query": (get(b"/terminate/1?_method=POST"), 405, 405),
    "TRACE": (get(b"/download/1").replace(b"GET", b"TRACE"), 405, 405),
    "OPTIONS": (get(b"*").replace(b"GET", b"OPTIONS"), 404, 404),
    "PUT": (get(b"/download/1").replace(b"GET", b"PUT"), 405, 405),
    "DELETE": (get(b"/download/1").replace(b"GET", b"DELETE"), 405, 405),
}  # fmt: skip
UPLOAD = b"POST /upload HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=M\r\n"
TEN_GB = b"Content-Length: 10000000000\r\n"
LINES = b"A: " + b"b" * 1020 + b"\r\n"
# What is sent first and then for ever, the answer, and how many bytes of it are let in at most. None
# is 404 or 400, whichever comes first.
FLOODS: dict[str, tuple[bytes, bytes, int | None, int]] = {
    "a target": (b"GET /", b"a" * MEGABYTE, 400, MEGABYTE),
    "a field's value": (get(b"/nowhere")[:-2] + b"A: ", b"b" * MEGABYTE, 400, MEGABYTE),
    "a field's name": (get(b"/nowhere")[:-2], b"b" * MEGABYTE, 400, MEGABYTE),
    "fields": (get(b"/nowhere")[:-2], LINES * 1000, 400, MEGABYTE),
    "line ends before a head": (b"", b"\r\n" * 500_000, 400, MEGABYTE),
    "an extension of a chunk": (post(CHUNKED) + b"1;", b"a" * MEGABYTE, None, MEGABYTE),
    "extensions": (post(CHUNKED), (b"1;" + b"a" * 1000 + b"\r\nb\r\n") * 1000, None, MEGABYTE),
    "trailers": (post(CHUNKED) + b"0\r\n", LINES * 1000, None, MEGABYTE),
    "ten gigabytes to nobody": (post(TEN_GB), bytes(MEGABYTE), 404, 0),
    "ten gigabytes to upload": (UPLOAD + TEN_GB + b"\r\n", bytes(MEGABYTE), 413, 0),
    "chunks to nobody": (post(CHUNKED), b"100000\r\n" + bytes(MEGABYTE) + b"\r\n", 404, 64 * MEGABYTE),
}  # fmt: skip


def answers(address: Address, pieces: Iterable[bytes]) -> tuple[list[int], int]:
    """Send *pieces* until nobody listens; returns the statuses that came, and the bytes that went."""
    data, sent = heard(address, pieces)
    return [status for status, _ in parsed(data)], sent


def heard(address: Address, pieces: Iterable[bytes], *, once: bool = False) -> tuple[bytes, int]:
    """Send *pieces* until nobody listens; returns all that came, and how many bytes went.

    With *once*, no more is waited for than one answer.
    """
    with socket.create_connection(address, timeout=60) as connection:
        sent, data = _sent(connection, pieces), b""
        try:
            while not (once and _answered(data)) and (piece := connection.recv(1 << 16)):
                data += piece
        except ConnectionError:
            pass  # what came before that counts
    return data, sent


def let_in(address: Address, pieces: Iterable[bytes]) -> int:
    """Send *pieces* until nobody listens; returns the bytes that went."""
    with socket.create_connection(address, timeout=60) as connection:
        return _sent(connection, pieces)


def endless(first: bytes, more: bytes, size: int) -> Iterator[bytes]:
    """Yield what goes on for longer than anybody should listen: *size* bytes."""
    yield first
    for _ in range(size // len(more) + 1):
        yield more


def _sent(connection: socket.socket, pieces: Iterable[bytes]) -> int:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    sent = 0
    try:
        # In small steps, so that what was let in is known.
        for step in steps(pieces, 1 << 16):
            connection.sendall(step)
            sent += len(step)
    except OSError:
        pass  # shut
    return sent


def steps(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield *pieces* in steps of at most *size* bytes."""
    for piece in pieces:
        for begin in range(0, len(piece), size):
            yield piece[begin : begin + size]


def parsed(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield status and body of each answer, which must follow one another without a gap."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *_ = head.split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 "), first
        size = _length(head)
        yield int(first.split()[1]), data[:size]
        data = data[size:]


def _answered(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= _length(head)


def _length(head: bytes) -> int:
    fields = (line.partition(b": ") for line in head.split(b"\r\n")[1:])
    return int({name.lower(): value for name, _, value in fields}[b"content-length"])
