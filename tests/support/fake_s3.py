"""An S3 server for unit tests: real HTTP on loopback, objects in memory, signatures not checked."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import md5

from aiohttp import web

from orchestrator_wire.s3 import Location, Store
from tests.support.loopback import listening


@dataclass
class FakeS3:
    """What the server holds."""

    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    forbid_uploads: bool = False
    # Whether a request must say that it is signed, be it truly or not.
    strict: bool = False
    # What one that does not is answered then.
    unsigned_status: int = 403
    down: bool = False
    # What every request is answered with, if not 0.
    status: int = 0
    # Whether ETags are no digests of what was sent, as those of encrypted objects.
    sealed: bool = False
    # Whether it has no keys to encrypt with.
    no_kms: bool = False
    # (method, query's names, x-amz- headers, signed headers) of every request for an object.
    asked: list[tuple[str, set[str], dict[str, str], str]] = field(default_factory=list)
    # Whether requests for a key fail.
    down_for: Callable[[str], bool] = lambda key: False
    # How many bytes of an answer are sent before the connection breaks.
    cut_after: int | None = None
    largest_body: int = 0
    # When every object was last modified.
    modified: str = "2020-01-01T00:00:00.000Z"
    # Whether the answer to the next completion of a multipart upload is lost.
    lose_completion: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        key = request.match_info["key"].removeprefix("/")
        if status := self._refusal(request, key):
            return web.Response(status=status)
        body = await request.read()
        self.largest_body = max(self.largest_body, len(body))
        if not key:
            if self.forbid_uploads and "uploads" in request.query:
                return web.Response(status=403)
            return self._uploads() if "uploads" in request.query else self._bucket(request)
        if "uploads" in request.query:
            self.uploads[key] = {}
            return _xml(f"<R><UploadId>{key}</UploadId></R>")
        if upload := request.query.get("uploadId"):
            return self._multipart(request, key, upload, body)
        if request.method == "PUT":
            self.objects[key] = body
            return web.Response(headers={"ETag": self._etag(body)})
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        return await self._read(request, key)

    def _refusal(self, request: web.Request, key: str) -> int:
        """Return the status that a request is refused with, or 0."""
        if self.down or self.down_for(key):
            return 503
        if self.status:
            return self.status
        if key:
            self._note(request)
        if self.no_kms and "x-amz-server-side-encryption" in request.headers:
            return 501
        unsigned = not (
            {"Authorization"} & set(request.headers) or "X-Amz-Signature" in request.query
        )
        return self.unsigned_status if self.strict and unsigned else 0

    def _note(self, request: web.Request) -> None:
        headers = {
            k.lower(): v for k, v in request.headers.items() if k.lower().startswith("x-amz-")
        }
        signed = re.search("SignedHeaders=([^,]*)", request.headers.get("Authorization", ""))
        names = signed[1] if signed else ""
        self.asked.append((request.method, set(request.query), headers, names))

    def _etag(self, data: bytes) -> str:
        return _etag(data + b"sealed" * self.sealed)

    def _bucket(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        rows = "".join(
            f"<Contents><Key>{k}</Key><LastModified>{self.modified}</LastModified>"
            f"<ETag>{self._etag(v)}</ETag><Size>{len(v)}</Size></Contents>"
            for k, v in self.objects.items()
            if k.startswith(prefix)
        )
        name = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        return _xml(
            f"<ListBucketResult {name}><Name>b</Name><IsTruncated>false</IsTruncated>{rows}"
            "</ListBucketResult>"
        )

    def _uploads(self) -> web.Response:
        rows = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{key}</UploadId><Initiated>{self.modified}</Initiated>"
            "</Upload>"
            for key in self.uploads
        )
        name = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        return _xml(
            f"<ListMultipartUploadsResult {name}><Bucket>b</Bucket><IsTruncated>false</IsTruncated>"
            f"{rows}</ListMultipartUploadsResult>"
        )

    def _multipart(self, request: web.Request, key: str, upload: str, body: bytes) -> web.Response:
        if request.method == "DELETE":
            del self.uploads[upload]
            return web.Response(status=204)
        if request.method == "PUT":
            self.uploads[upload][int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": self._etag(body)})
        if upload not in self.uploads:
            return web.Response(status=404)
        parts = self.uploads.pop(upload)
        self.objects[key] = b"".join(parts[n] for n in sorted(parts))
        if self.lose_completion:
            self.lose_completion = False
            return web.Response(status=504)
        return _xml(f"<R><ETag>{self._etag(self.objects[key])}</ETag></R>")

    async def _read(self, request: web.Request, key: str) -> web.StreamResponse:
        self.reads.append(key)
        data = self.objects.get(key)
        if data is None:
            return web.Response(status=404)
        headers = {"ETag": self._etag(data)}
        if request.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
            return web.Response(status=412)
        status = 200
        if asked := request.headers.get("Range"):
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
            assert found is not None, asked
            data, status = data[int(found[1]) : int(found[2]) + 1], 206
        if request.method == "HEAD" or self.cut_after is None:
            response: web.StreamResponse = web.Response(status=status, headers=headers, body=data)
            return response
        response = web.StreamResponse(
            status=status, headers={**headers, "Content-Length": str(len(data))}
        )
        await response.prepare(request)
        await response.write(data[: self.cut_after])
        assert request.transport is not None
        request.transport.close()
        return response


def _etag(data: bytes) -> str:
    return f'"{md5(data).hexdigest()}"'  # noqa: S324  (what S3 uses)


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


@contextlib.asynccontextmanager
async def fake_s3(**where: str) -> AsyncIterator[tuple[FakeS3, Store]]:
    """Serve a bucket on a loopback port; gives its state and a connection to it."""
    state = FakeS3()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/bucket{key:.*}", state.handle)
    keys = ("access", "secretsecret")
    async with listening(app) as endpoint:
        store = Store.connect(
            Location(endpoint, "us-east-1", "bucket", *keys, secure=False, **where)
        )
        try:
            yield state, store
        finally:
            await store.close()
