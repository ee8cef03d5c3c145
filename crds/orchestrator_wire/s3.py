"""Objects in and out of any S3, streamed, without threads and without a copy in memory.

The minio library signs, aiohttp moves the bytes. A body is not part of what is signed, so it needs
no hash of its own and may be sent while it is being made.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.error import MinioException
from minio.signer import sign_v4_s3
from yarl import URL

from orchestrator_wire import errors
from orchestrator_wire.uploads import Place, Upload, stat_of

T = TypeVar("T")

CHUNK, SENT_AT_ONCE = 1 << 16, 1 << 18
UNSIGNED_BODY = "UNSIGNED-PAYLOAD"
ATTEMPTS = 3
PAGE = 1000


@dataclass(frozen=True)
class Location:
    """Where a bucket is and how to get in: HOST:PORT of the server, region, keys, TLS or not.

    *encryption* is what the server is asked to encrypt new objects with: nothing, `AES256` or
    `aws:kms`, then with the key *kms_key_id* or the bucket's own.
    """

    endpoint: str
    region: str
    bucket: str
    access_key: str
    secret_key: str
    secure: bool
    encryption: str = ""
    kms_key_id: str = ""

    @property
    def encryption_headers(self) -> dict[str, str]:
        """Return the headers that every request which begins an object has."""
        named = {
            "x-amz-server-side-encryption": self.encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.kms_key_id,
        }
        return {name: value for name, value in named.items() if value}


class Store:
    """One bucket of an S3 server."""

    def __init__(self, signer: Minio, where: "Location") -> None:
        self._signer, self.where = signer, where
        self.bucket = where.bucket
        self._credentials = Credentials(where.access_key, where.secret_key)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=60),
            connector=aiohttp.TCPConnector(limit=256),
            auto_decompress=False,
        )

    @classmethod
    def connect(cls, where: "Location") -> "Store":
        """Return the store. Nothing is sent yet."""
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=3.0, read=10.0), retries=False)
        # A region given is a region that need not be asked for.
        signer = Minio(
            where.endpoint,
            where.access_key,
            where.secret_key,
            secure=where.secure,
            region=where.region,
            http_client=pool,
        )
        return cls(signer, where)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def check(self) -> None:
        """Return when the bucket is there; raises StoreDown otherwise."""
        if not await _in_thread(self._signer.bucket_exists, self.bucket):
            raise errors.StoreDown(f"There is no bucket {self.bucket}.")

    async def make_bucket(self) -> None:
        """Make the bucket when it is missing; raises StoreDown."""
        if not await _in_thread(self._signer.bucket_exists, self.bucket):
            await _in_thread(self._signer.make_bucket, self.bucket)

    def upload(self, key: str, places: Place | None = None) -> Upload:
        """Begin an upload to *key*; nothing is there to be read until it is finished.

        An upload that is not small takes one of *places* for its duration: one part in memory for
        each is all that uploads take, however many there are.
        """
        return Upload(self._call, key, places)

    async def stat(self, key: str) -> tuple[int, str]:
        """Return (size in bytes, ETag) of an object; raises NoSuchObject or StoreDown."""
        headers, _ = await self._call("HEAD", key)
        return stat_of(headers)

    async def read(
        self, key: str, *, etag: str = "", byte_range: str = ""
    ) -> tuple[aiohttp.ClientResponse, AsyncIterator[bytes]]:
        """Return the answer's head and its bytes. The caller must use up or close the bytes.

        With *etag*, only that very object will do. Raises NoSuchObject, Replaced or StoreDown.
        """
        headers = {"If-Match": f'"{etag}"'} if etag else {}
        if byte_range:
            headers["Range"] = byte_range
        response = await self._send("GET", key, headers=headers)
        return response, _pieces(response, key)

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error. Raises StoreDown."""
        await self._call("DELETE", key)

    async def keys(self, prefix: str) -> list[tuple[str, datetime]]:
        """Return (key, when it was last modified) of every object under *prefix*."""
        return [entry async for page in self.pages(prefix) for entry in page]

    async def pages(self, prefix: str) -> AsyncIterator[list[tuple[str, datetime]]]:
        """Yield (key, when it was last modified) of the objects under *prefix*, many at a time."""
        found = self._signer.list_objects(self.bucket, prefix=prefix, recursive=True)

        def some() -> list[tuple[str, datetime]]:
            return [(o.object_name, o.last_modified) for o in itertools.islice(found, PAGE)]

        while page := await _in_thread(some):
            yield page

    async def abandon_uploads(self, prefix: str, before: datetime) -> int:
        """Abort multipart uploads to *prefix* that were begun before a time; returns how many.

        They are what a process that was killed leaves: no object, but room in the store.
        """
        # All of the bucket's: MinIO takes a prefix for the whole key. The library has the call for
        # its own use only. Of more than a thousand, the rest is the next call's.
        found = await _in_thread(self._signer._list_multipart_uploads, self.bucket)
        old = [
            upload
            for upload in found.uploads
            if upload.object_name.startswith(prefix) and (upload.initiated_time or before) < before
        ]
        for upload in old:
            query = {"uploadId": str(upload.upload_id)}
            with contextlib.suppress(errors.NoSuchObject):
                await self._call("DELETE", upload.object_name, query=query)
        return len(old)

    async def get(self, key: str) -> bytes:
        """Return a small object whole; raises NoSuchObject or StoreDown."""
        _, data = await self._call("GET", key)
        return data

    async def put(self, key: str, data: bytes) -> None:
        """Store a small object whole; raises StoreDown."""
        await self._call("PUT", key, data=[data])

    async def _call(
        self,
        method: str,
        key: str,
        data: Sequence[bytes] | None = None,
        query: dict[str, str] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """Send a small request, trying again while the store is down; returns head and body."""
        for attempt in range(ATTEMPTS):
            try:
                response = await self._send(method, key, data=data, query=query)
                try:
                    return response.headers, await response.read()
                finally:
                    response.release()
            except (errors.StoreDown, aiohttp.ClientError, TimeoutError) as error:
                if attempt == ATTEMPTS - 1:
                    if isinstance(error, errors.StoreDown):
                        raise
                    raise errors.StoreDown(f"{method} {key}: {error}") from error
                await asyncio.sleep(0.1 * 4**attempt)
        raise AssertionError("unreachable")

    async def _send(
        self,
        method: str,
        key: str,
        *,
        data: Sequence[bytes] | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        try:
            url, signed = self._sign(method, key, query or {})
            # A signed URL must not be encoded again. Bytes as such would be sent in one go, and
            # copied for it; so they go as pieces.
            response = await self._session.request(
                method,
                URL(url, encoded=True),
                data=None if data is None else _in_pieces(data),
                headers=signed
                | (headers or {})
                | ({} if data is None else {"Content-Length": str(sum(map(len, data)))}),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.StoreDown(f"{method} {key}: {error!r}") from error
        except ValueError as error:
            # From the libraries: whoever wrote such a key or ETag into a job, no object has it.
            raise errors.NoSuchObject(f"{method} {key!r}: {error!r}") from error
        if response.status < 300:
            return response
        text = (await response.read())[:500].decode(errors="replace")
        raise errors.store_error(response.status, f"{method} {key}: {response.status} {text}")

    def _sign(self, method: str, key: str, query: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of a request; what it asks for is in them, signed.

        Not as a signed URL: S3 wants every x-amz- header signed, and the library's are not.
        """
        date = datetime.now(UTC)
        url = self._signer._base_url.build(
            method=method,
            region=self.where.region,
            bucket_name=self.bucket,
            object_name=key,
            query_params={**query},
        )
        # Parts of an upload are encrypted as it was begun, and must not say so again.
        begins = (method == "PUT" and "uploadId" not in query) or "uploads" in query
        headers = {
            "Host": url.netloc,
            "x-amz-content-sha256": UNSIGNED_BODY,
            "x-amz-date": date.strftime("%Y%m%dT%H%M%SZ"),
            **(self.where.encryption_headers if begins else {}),
        }
        signed: dict[str, Any] = sign_v4_s3(
            method=method,
            url=url,
            region=self.where.region,
            headers={**headers},
            credentials=self._credentials,
            content_sha256=UNSIGNED_BODY,
            date=date,
        )
        return url.geturl(), signed


async def _in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Return what a call of the minio library returns; raises StoreDown when it fails."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise errors.StoreDown(str(error)) from error


async def _pieces(response: aiohttp.ClientResponse, key: str) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_chunked(CHUNK):
            yield piece
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise errors.StoreDown(f"reading {key}: {error!r}") from error
    finally:
        response.close()


async def _in_pieces(data: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Yield *data* in pieces that are worth a call of the system each."""
    some: list[bytes] = []
    size = 0
    for piece in data:
        for start in range(0, len(piece), SENT_AT_ONCE):
            some.append(piece[start : start + SENT_AT_ONCE])
            size += len(some[-1])
            if size >= SENT_AT_ONCE:
                yield b"".join(some)
                some, size = [], 0
    if some:
        yield b"".join(some)
