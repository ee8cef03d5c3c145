"""HTTP to the gateway, the one place that a job's pod may reach."""

import http.client
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

TIMEOUT_SECONDS = 60.0
CHUNK = 1 << 16


class Refused(Exception):  # noqa: N818
    """The gateway will not serve this pod, now or later: another attempt is the current one."""


class Gone(Exception):  # noqa: N818
    """What was asked for is not there, though this pod may ask for it."""


class Replaced(Gone):
    """Something else lies where what was asked for should be."""


class TooLarge(Exception):  # noqa: N818
    """The results are larger than the service allows; sending them again is no use."""


class Unavailable(Exception):  # noqa: N818
    """The gateway, or something behind it, cannot serve now; trying again makes sense."""


class Sink(Protocol):
    """Something that a body is written to, piece by piece."""

    def write(self, data: bytes) -> int:
        """Take *data*; returns its length."""


class _ChunkedBody:
    """A request body of unknown length, as HTTP/1.1 chunks of a decent size."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self._connection.send(b"%x\r\n%b\r\n" % (len(self._buffer), bytes(self._buffer)))
            self._buffer.clear()

    def close(self) -> None:
        self.flush()
        self._connection.send(b"0\r\n\r\n")


class Gateway:
    """The gateway's routes, each retried by `persist` where that is safe."""

    def __init__(self, url: str, token: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"the gateway's address must be http://HOST:PORT, not {url!r}")
        self.host, self.port = parts.hostname, parts.port or 80
        self._token = token

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send *body* as JSON and return the answer."""
        data = json.dumps(body, ensure_ascii=False).encode(errors="replace")
        return self._exchange("POST", path, lambda c: c.send(data), len(data))

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON at *path*."""
        return self._exchange("GET", path, lambda _: None, 0)

    def put(self, path: str, write_to: Callable[[Sink], None]) -> dict[str, Any]:
        """Stream what *write_to* writes as a body, and return the answer."""

        def send(connection: http.client.HTTPConnection) -> None:
            body = _ChunkedBody(connection)
            write_to(body)
            body.close()

        return self._exchange("PUT", path, send, None)

    def download(self, path: str, sink: Sink) -> None:
        """Write the bytes at *path* to *sink*; raises Unavailable when they end too early."""
        connection = self._connect()
        try:
            response = self._begin(connection, "GET", path, lambda _: None, 0)
            expected = int(response.headers.get("Content-Length", "-1"))
            got = 0
            while piece := response.read(CHUNK):
                got += sink.write(piece)
            if got != expected:
                raise Unavailable(f"{path} ended after {got} of {expected} bytes")
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{path}: {error}") from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)

    def _exchange(
        self,
        method: str,
        path: str,
        send: Callable[[http.client.HTTPConnection], None],
        length: int | None,
    ) -> dict[str, Any]:
        connection = self._connect()
        try:
            answer = json.loads(self._begin(connection, method, path, send, length).read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise Unavailable(f"{method} {path}: the answer is no JSON object")
        return answer

    def _begin(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        send: Callable[[http.client.HTTPConnection], None],
        length: int | None,
    ) -> http.client.HTTPResponse:
        connection.putrequest(method, path)
        # Read each time: the kubelet renews the file long before the token runs out.
        connection.putheader("Authorization", f"Bearer {self._token.read_text().strip()}")
        if length is None:
            connection.putheader("Transfer-Encoding", "chunked")
        else:
            connection.putheader("Content-Length", str(length))
        connection.putheader(
            "Content-Type", "application/zip" if length is None else "application/json"
        )
        connection.endheaders()
        send(connection)
        response = connection.getresponse()
        if response.status < 300:
            return response
        text = response.read(4096).decode(errors="replace")
        sentence = f"{method} {path}: {response.status} {text}"
        # 401: a token can be refused by a gateway that has not seen the cluster's new keys yet.
        if response.status in {401, 408, 429} or response.status >= 500:
            raise Unavailable(sentence)
        if response.status == 404:
            raise Gone(sentence)
        if response.status == 410:
            raise Replaced(sentence)
        if response.status == 413:
            raise TooLarge(sentence)
        raise Refused(sentence)


def persist(attempt: Callable[[], T], seconds: float, log: Callable[[str], None]) -> T:
    """Return what *attempt* returns, trying again with growing pauses for *seconds*."""
    deadline, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            return attempt()
        except Unavailable as error:
            if time.monotonic() + pause > deadline:
                raise
            log(f"waiting for the gateway: {error}")
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  (spreads retries, guards nothing)
        pause = min(pause * 2, 5.0)
