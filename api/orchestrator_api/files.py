"""Stored zips as HTTP answers: whole, one range of it, or just the head."""

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi import Response
from fastapi.responses import StreamingResponse

from orchestrator_api.errors import RangeNotSatisfiable
from orchestrator_wire import errors
from orchestrator_wire.s3 import Store

ZIP = "application/zip"
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def one_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (first, last) byte of the one range that *header* asks for, or None for the whole.

    Anything but one well-formed range is answered with the whole, as RFC 9110 allows. Raises
    RangeNotSatisfiable for one that lies outside.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or (not found[1] and not found[2]):
        return None
    if not found[1]:
        length = int(found[2])
        first, last = max(size - length, 0), size - 1
        satisfiable = length > 0 and size > 0
    else:
        first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
        if found[2] and int(found[2]) < first:
            return None
        satisfiable = first < size
    if not satisfiable:
        raise RangeNotSatisfiable(header, size)
    return first, last


def attachment(name: str) -> str:
    """Return the Content-Disposition that has browsers save an answer, and never show it."""
    return f'attachment; filename="{name}"'


def _free() -> None:
    pass


async def closing(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass *pieces* on, and close their source also when the client goes away half-way."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Asked:
    """What a client asked for: its Range and If-Range headers, and whether the head is enough."""

    byte_range: str = ""
    if_range: str = ""
    head: bool = False
    # Called before bytes are read, so that not everybody's are at once; may raise an ApiError.
    hold: Callable[[], None] = _free
    # Passes the bytes on, each piece when it is the caller's turn, and closes their source.
    in_turn: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] = closing


async def zip_response(
    store: Store, key: str, name: str, asked: Asked, *, etag: str = "", sha256: str = ""
) -> Response:
    """Return the zip at *key* as an answer, streamed; raises NoSuchObject, Replaced or StoreDown.

    With *etag*, an object that was replaced since is refused before the first byte. With *sha256*,
    a whole one that was damaged since breaks the connection before the last.
    """
    size, found_etag = await store.stat(key)
    if etag and found_etag != etag:
        raise errors.Replaced(f"{key} has the ETag {found_etag}, not {etag}")
    quoted = f'"{found_etag}"'
    headers = {
        "ETag": quoted,
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(name),
    }
    # A part of another version would not fit what the client has (RFC 9110, 13.1.5).
    partial = asked.byte_range and asked.if_range in {"", quoted}
    part = one_range(asked.byte_range, size) if partial else None
    if part:
        headers["Content-Range"] = f"bytes {part[0]}-{part[1]}/{size}"
    headers["Content-Length"] = str(part[1] - part[0] + 1 if part else size)
    status = 206 if part else 200
    if asked.head:
        return Response(status_code=status, headers=headers, media_type=ZIP)
    asked.hold()
    _, pieces = await store.read(
        key, etag=found_etag, byte_range=f"bytes={part[0]}-{part[1]}" if part else ""
    )
    right = pieces if part or not sha256 else checked(pieces, key, sha256)
    sent = asked.in_turn(right)
    return StreamingResponse(sent, status_code=status, headers=headers, media_type=ZIP)


async def checked(pieces: AsyncIterator[bytes], key: str, sha256: str) -> AsyncIterator[bytes]:
    """Pass *pieces* on, the last of them only if their SHA-256 is right; raises StoreDown."""
    digest, last = hashlib.sha256(), b""
    try:
        async for piece in pieces:
            if last:
                yield last
            digest.update(piece)
            last = piece
        if digest.hexdigest() != sha256:
            raise errors.StoreDown(f"{key} has the SHA-256 {digest.hexdigest()}, not {sha256}")
        yield last
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]
