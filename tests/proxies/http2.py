"""HTTP/2 as nobody should send it to a proxy, which makes HTTP/1.1 of it: a corpus.

After "HTTP/2: The Sequel is Always Worse" (James Kettle, 2021): lengths and codings that HTTP/2 has
no use for (H2.CL, H2.TE), and line ends where HTTP/2 needs none.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from tests.support.raw import CHUNKED, HALF, LAST, Address, chunk, get

Fields = list[tuple[bytes, bytes]]
LENGTH, CODING = b"content-length", (b"transfer-encoding", b"chunked")
# Ends whatever was taken for the begin of a request.
END = get(b"/end")


@dataclass(frozen=True)
class Asked:
    """A request over HTTP/2: its fields, those that every request has first, its body, what follows."""

    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    method: bytes = b"POST"
    path: bytes = b"/nowhere"
    scheme: bytes = b"http"
    host: bytes = b"x"

    def head(self) -> Fields:
        return [
            (b":method", self.method),
            (b":path", self.path),
            (b":scheme", self.scheme),
            (b":authority", self.host),
            *self.fields,
        ]


def length(count: int) -> tuple[bytes, bytes]:
    return LENGTH, b"%d" % count


# What a proxy passes on as it stands, and the API answers with 404.
REGULAR = {
    "no body": Asked(),
    "a length": Asked((length(3),), b"abc"),
    "a body without a length": Asked(body=b"abc"),
    "a request as a body": Asked((length(len(END)),), END),
    "a request as a body without a length": Asked(body=END),
    "half a request as a body": Asked(body=HALF),
    "chunks as a body": Asked(body=chunk(b"") + END),
    "a body of a GET": Asked(body=END, method=b"GET"),
}
# What stands behind a line end.
_MORE = {
    "a length": b"Content-Length: 0",
    "chunks": CHUNKED.strip(),
    "a request": b"Host: x\r\n\r\nGET /end HTTP/1.1\r\nHost: x",
    "half a request": b"Host: x\r\n\r\nGET /half HTTP/1.1\r\nA: b",
}
_ENDS = {"CR LF": b"\r\n", "LF": b"\n", "CR": b"\r", "NUL": b"\0", "a vertical tab": b"\x0b"}
_TAIL = chunk(b"") + END


def _injected() -> dict[str, Asked]:
    """Return lines in every place where HTTP/2 lets a sender put bytes."""
    found = {}
    for end_name, end in _ENDS.items():
        for more_name, more in _MORE.items():
            line = end + more.replace(b"\r\n", end)
            name, value = more.replace(b"\r\n", end).split(b": ", 1)
            for where, asked in {
                "a value": Asked(((b"a", b"b" + line),), _TAIL),
                "a name": Asked(((b"a: b" + end + name, value),), _TAIL),
                "the method": Asked(method=b"POST /nowhere HTTP/1.1" + line, body=_TAIL),
                "the path": Asked(path=b"/nowhere HTTP/1.1" + line, body=_TAIL),
                "the scheme": Asked(scheme=b"http://x/nowhere HTTP/1.1" + line, body=_TAIL),
                "the authority": Asked(host=b"x" + line, body=_TAIL),
                "a trailer": Asked(body=b"abc", trailers=((b"a", b"b" + line),)),
            }.items():
                found[f"{more_name} after {end_name} in {where}"] = asked
    return found


ODD = {
    # H2.CL
    "a length of 0 and a request": Asked((length(0),), END),
    "a shorter length": Asked((length(3),), b"abc" + END),
    "a longer length": Asked((length(3 + len(LAST)),), b"abc"),
    "two lengths": Asked((length(0), length(len(END))), END),
    "two lengths, otherwise": Asked((length(len(END)), length(0)), END),
    "a list of lengths": Asked(((LENGTH, b"%d, 0" % len(END)),), END),
    "a length with a sign": Asked(((LENGTH, b"+%d" % len(END)),), END),
    "a length of 2^64": Asked(((LENGTH, b"18446744073709551616"),), END),
    "a length with a space": Asked(((LENGTH, b"0 "),), END),
    # An nginx takes none.
    "trailers": Asked(body=b"abc", trailers=((b"a", b"b"),)),
    "a length in a trailer": Asked(body=b"abc", trailers=(length(len(END)),)),
    "a length of a GET": Asked((length(0),), END, method=b"GET"),
    # H2.TE
    "chunks": Asked((CODING,), _TAIL),
    "chunks, in capitals": Asked(((b"Transfer-Encoding", b"chunked"),), _TAIL),
    "chunks and a length": Asked((CODING, length(len(_TAIL))), _TAIL),
    "chunks with a space": Asked(((b"transfer-encoding ", b"chunked"),), _TAIL),
    "chunks with a colon": Asked(((b"transfer-encoding: chunked\r\na", b"b"),), _TAIL),
    "chunks and a colon": Asked(((b"transfer-encoding:", b"chunked"),), _TAIL),
    "chunks with an underscore": Asked(((b"transfer_encoding", b"chunked"),), _TAIL),
    "chunks in a trailer": Asked(body=_TAIL, trailers=(CODING,)),
    "chunks of a GET": Asked((CODING,), _TAIL, method=b"GET"),
    # What belongs to a connection of HTTP/1.1.
    "close": Asked(((b"connection", b"close"),), END),
    "a connection's field": Asked(((b"connection", b"content-length"), length(len(END))), END),
    "another protocol": Asked(((b"connection", b"upgrade"), (b"upgrade", b"h2c")), END),
    "continue": Asked(((b"expect", b"100-continue"), length(len(END))), END),
    # Heads that say something else.
    "another host": Asked(((b"host", b"y"),)),
    "two more hosts": Asked(((b"host", b"x"), (b"host", b"y"))),
    "no path": Asked(path=b""),
    "a path that is none": Asked(path=b"nowhere"),
    "a path with a space": Asked(path=b"/nowhere HTTP/1.1"),
    "a target of elsewhere": Asked(path=b"http://y/nowhere"),
    "a tab in the method": Asked(method=b"GET\t/nowhere"),
    "no method": Asked(method=b""),
    "a tunnel": Asked(method=b"CONNECT", body=END),
    "a field without a name": Asked(((b"", b"b"),)),
    "a pseudo field too many": Asked(((b":path", b"/other"),)),
    "a pseudo field of our own": Asked(((b":protocol", b"websocket"),), END),
    "a pseudo field at the end": Asked(((b"a", b"b"), (b":method", b"GET"))),
    "pseudo fields as trailers": Asked(body=b"abc", trailers=((b":path", b"/other"),)),
} | _injected()  # fmt: skip


def ask(address: Address, asked: Asked) -> tuple[int, bytes]:
    """Send a request over a connection of its own; returns status (0 for none) and body."""
    lenient = H2Configuration(
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
    )
    connection, status, body = H2Connection(lenient), 0, b""
    connection.initiate_connection()
    connection.send_headers(1, asked.head(), end_stream=not (asked.body or asked.trailers))
    if asked.body:
        connection.send_data(1, asked.body, end_stream=not asked.trailers)
    if asked.trailers:
        connection.send_headers(1, list(asked.trailers), end_stream=True)
    with socket.create_connection(address, timeout=30) as there:
        there.sendall(connection.data_to_send())
        # What comes after a GOAWAY is no answer any more.
        with suppress(ConnectionError, ProtocolError):
            while data := there.recv(1 << 16):
                for event in connection.receive_data(data):
                    match event:
                        case ResponseReceived():
                            status = int(dict(event.headers)[b":status"])
                        case DataReceived():
                            body += event.data
                        case StreamEnded() | StreamReset() | ConnectionTerminated():
                            return status, body
                there.sendall(connection.data_to_send())
    return status, body
