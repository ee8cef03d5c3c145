"""Bodies that mean harm, sent raw: refused with a sentence, in bounded memory, and nothing is left."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.cluster.place import Place, cpu_seconds, until
from tests.cluster.test_files import anonymous_bytes, peak, unfinished

HEAD = (
    "POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    "Content-Type: multipart/form-data; boundary=M\r\n{}\r\n"
)
FIELDS = (
    b'--M\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n1\r\n'
    b'--M\r\nContent-Disposition: form-data; name="service"\r\n\r\nexample\r\n'
)
MEGABYTE = bytes(1 << 20)


def file(name: str, more: str = "") -> bytes:
    return f'--M\r\nContent-Disposition: form-data; name="file"; filename="{name}"{more}\r\n\r\n'.encode()


def whole(*parts: bytes) -> list[bytes]:
    return [FIELDS, *parts, b"\r\n--M--\r\n"]


def endless(piece: bytes, times: int, *first: bytes) -> Iterator[bytes]:
    yield FIELDS
    yield from first
    for _ in range(times):
        yield piece


BODIES: dict[str, tuple[object, int, str]] = {
    "a part names its file by filename*": (
        whole(file("run.sh", "; filename*=UTF-8''..%2f..%2fetc%2fpasswd"), b"x"), 400, "filename*",
    ),
    "a name climbs out": (whole(file("../../etc/.."), b"x"), 400, "no usable last part"),
    "a name hides its end": (whole(file("a\u202egpj.sh"), b"x"), 400, "invisible characters"),
    "a name has a NUL": (whole(file("a\0b"), b"x"), 400, "control or invisible"),
    "a name is too long": (whole(file("x" * 300), b"x"), 400, "longer than 255 bytes"),
    "two names look the same": (
        whole(file("\u00e9"), b"x\r\n", file("e\u0301"), b"x"), 400, "Two files have the name",
    ),
    "ten thousand parts": (
        whole(*[file(f"f{n}") + b"x\r\n" for n in range(10_000)]), 400, "More than 1000 files",
    ),
    "ten thousand fields": (
        whole(*[b'--M\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'] * 10_000),
        400, "form fields",
    ),
    "endless headers of a part": (
        endless(b"X-Header: " + b"x" * 1000 + b"\r\n", 20_000, b"--M\r\n"), 413, "too long parts",
    ),
    "an endless line of header": (endless(MEGABYTE, 20, b"--M\r\nX: "), 413, "too long parts"),
    "an endless field": (
        endless(MEGABYTE, 20, b'--M\r\nContent-Disposition: form-data; name="a"\r\n\r\n'),
        400, "more than 64 KiB",
    ),
    "no end": ([FIELDS, file("run.sh"), b"x" * 100_000], 400, "broken multipart"),
    "no beginning": ([b"x" * 65536] * 100, 400, "broken multipart"),
    "a part without a name": (whole(b"--M\r\n\r\nx"), 400, "broken multipart"),
    "larger than announced to anyone": (
        endless(MEGABYTE, 402, file("run.sh")), 413, "larger than 419430400 bytes",
    ),
}  # fmt: skip


def answer(place: Place, head: str, body: object) -> tuple[int, dict[str, object]]:
    """Send *body* in chunks and return what comes back."""
    host, port = place.front.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=100) as connection:
        connection.sendall(head.encode())
        try:
            for piece in body:  # type: ignore[attr-defined]
                for start in range(0, len(piece), 1 << 16):
                    chunk = piece[start : start + (1 << 16)]
                    connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it has answered already, and will not listen for ever
        data = b""
        while piece := connection.recv(65536):
            data += piece
    status, _, rest = data.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("name", BODIES)
def test_a_body_where(place: Place, name: str) -> None:
    body, status, words = BODIES[name]
    before, jobs = place.objects(), place.kubectl("get", "orchestratorjobs", "-oname")
    quiet, used = anonymous_bytes(place), cpu_seconds(place.pid("api"))
    with peak(lambda: anonymous_bytes(place)) as highest:
        found, said = answer(place, HEAD.format("Transfer-Encoding: chunked\r\n"), body)
    assert (found, said["id"], said["status"]) == (status, 0, "Unknown"), said
    assert words in str(said["message"])
    assert highest[0] - quiet < 60e6
    # The largest has 402 MB, for a second; a parser that looks back would take minutes.
    assert cpu_seconds(place.pid("api")) - used < 20
    assert place.objects() <= before
    until(lambda: not unfinished(), "the store has forgotten it")
    assert place.kubectl("get", "orchestratorjobs", "-oname") == jobs


@pytest.mark.parametrize(
    "line", ["Content-Length: -1", "Content-Length: 1\r\nContent-Length: 2", "Content-Length: x"]
)
def test_a_length_that_is_none_is_refused(place: Place, line: str) -> None:
    host, port = place.front.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(HEAD.format(f"{line}\r\n").encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
