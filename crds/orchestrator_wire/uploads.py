"""Objects on their way into any S3, in parts as they come, with one part in memory at most."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator_wire import errors

# S3 wants parts of at least 5 MiB, and takes 10,000 of them. One part is all that an upload keeps
# in memory, so they grow only where an object would else have too many.
PART_BYTES = 5 * 1024 * 1024
PARTS_OF_A_SIZE = 2000
# An upload that is larger than this waits for a place, where its caller has a limited number.
SMALL_BYTES = 256 * 1024
# Pieces that are smaller than the first are gathered, until they are as much as the second.
SMALL_PIECE_BYTES, GATHERED_BYTES = 1 << 14, 1 << 16


@dataclass(frozen=True)
class Stored:
    """What was stored: size in bytes, SHA-256 in hex, and the store's ETag."""

    size_bytes: int
    sha256: str
    etag: str


class Place(Protocol):
    """What large uploads take for their duration: a semaphore, for instance."""

    async def acquire(self) -> Any:
        """Wait for it."""

    def release(self) -> None:
        """Give it back."""


class Call(Protocol):
    """A small request to the store, tried again while it is down."""

    async def __call__(
        self,
        method: str,
        key: str,
        data: Sequence[bytes] | None = None,
        query: dict[str, str] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """Return the answer's head and body; raises NoSuchObject or StoreDown."""


class Upload:
    """One object on its way in: a single PUT when it is small, a multipart upload otherwise.

    A context manager: when the block fails it is aborted, and leaves nothing in the store.
    """

    def __init__(self, call: Call, key: str, places: Place | None) -> None:
        self._call, self._key, self._places = call, key, places
        # What is kept back of it, in pieces as they came: to copy all costs as much as to hash it.
        self._part: list[bytes] = []
        # Those that are small are gathered: each costs fifty bytes beside what is in it.
        self._small = bytearray()
        self._part_bytes = 0
        self._id = ""
        self._etags: list[str] = []
        self._digest = hashlib.sha256()
        self._has_place = False
        self.size_bytes = 0

    async def __aenter__(self) -> "Upload":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                await self.abort()
        finally:
            if self._places is not None and self._has_place:
                self._places.release()

    async def write(self, data: bytes) -> None:
        """Take the next bytes; sends a part whenever one is full. Raises StoreDown."""
        self._digest.update(data)
        self.size_bytes += len(data)
        if self.size_bytes > SMALL_BYTES and self._places is not None and not self._has_place:
            await self._places.acquire()
            self._has_place = True
        while data:
            # Some servers want all parts but the last to be of one size, to the byte.
            full = PART_BYTES * (1 + len(self._etags) // PARTS_OF_A_SIZE)
            room = full - self._part_bytes
            piece, data = (data, b"") if len(data) <= room else (data[:room], data[room:])
            self._keep(piece)
            if self._part_bytes == full:
                await self._send_part()

    def _keep(self, piece: bytes) -> None:
        self._part_bytes += len(piece)
        if len(piece) < SMALL_PIECE_BYTES:
            self._small += piece
            if len(self._small) < GATHERED_BYTES:
                return
            piece = b""
        for found in (bytes(self._small), piece):
            if found:
                self._part.append(found)
        self._small.clear()

    def _taken(self) -> list[bytes]:
        """Return what was kept back, and keep it no more."""
        part = [*self._part, bytes(self._small)]
        self._part, self._part_bytes = [], 0
        self._small.clear()
        return part

    async def finish(self) -> Stored:
        """Make the object whole and visible; raises StoreDown."""
        if self._id:
            if self._part_bytes:
                await self._send_part()
            etag = await self._complete()
        else:
            headers, _ = await self._call("PUT", self._key, data=self._taken())
            etag = headers["ETag"].strip('"')
        return Stored(self.size_bytes, self._digest.hexdigest(), etag)

    async def abort(self) -> None:
        """Forget the upload and leave nothing in the store; never raises StoreError."""
        self._taken()
        if self._id:
            try:
                await self._call("DELETE", self._key, query={"uploadId": self._id})
            except errors.StoreError:
                return  # the sweep takes what a store that is down could not give up

    async def _send_part(self) -> None:
        part = self._taken()
        if not self._id:
            _, body = await self._call("POST", self._key, query={"uploads": ""})
            self._id = _tag(body, "UploadId")
        query = {"partNumber": str(len(self._etags) + 1), "uploadId": self._id}
        headers, _ = await self._call("PUT", self._key, data=part, query=query)
        self._etags.append(headers["ETag"])

    async def _complete(self) -> str:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(self._etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        query = {"uploadId": self._id}
        try:
            _, answer = await self._call("POST", self._key, data=[body], query=query)
        except errors.NoSuchObject:
            # Asked again after a lost answer, the store knows no such upload: it is whole already.
            return await self._etag_if_whole()
        # S3 may answer 200 and only then fail; the body tells.
        if b"<Error>" in answer:
            raise errors.StoreDown(f"completing {self._key}: {answer[:500]!r}")
        return _tag(answer, "ETag").replace("&#34;", "").replace("&quot;", "").strip('"')

    async def _etag_if_whole(self) -> str:
        try:
            headers, _ = await self._call("HEAD", self._key)
        except errors.NoSuchObject as error:
            raise errors.StoreDown(f"{self._key} was lost on its way") from error
        size, etag = stat_of(headers)
        if size != self.size_bytes:
            raise errors.StoreDown(f"{self._key} has {size} bytes, not the {self.size_bytes} sent")
        return etag


def stat_of(headers: Mapping[str, str]) -> tuple[int, str]:
    """Return (size in bytes, ETag) of an object, by the head of an answer about it."""
    return int(headers.get("Content-Length", "0")), headers.get("ETag", "").strip('"')


def _tag(body: bytes, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>".encode(), body)
    if found is None:
        raise errors.StoreDown(f"the object store's answer has no {name}: {body[:500]!r}")
    return found[1].decode()
