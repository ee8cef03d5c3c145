"""The zip that an upload becomes, written straight to the store."""

import io
import json
import zipfile
from itertools import accumulate
from typing import IO, Self, cast

from orchestrator_crds.job import InputFile
from orchestrator_crds.names import SCRIPT
from orchestrator_wire.uploads import Upload

# How many bytes the list of a job's files takes in its resource, and an entry beside the name.
LISTED, BESIDE_NAME = 16 << 10, 32


class _Buffer:
    """Where zipfile writes to; emptied into the store after every step."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.pieces.append(data)
        return len(data)

    def flush(self) -> None:
        """Emptied by its owner."""


class Bundle:
    """A zip of files that come one after the other, of lengths that nobody knows before.

    A context manager: one that was not closed is given up at the block's end.
    """

    def __init__(self, upload: Upload, limit: int) -> None:
        """Begin a zip whose files have at most *limit* bytes together."""
        self._upload, self._buffer = upload, _Buffer()
        # Some readers stumble over zip64 where it is not needed.
        self._zip64 = limit > zipfile.ZIP64_LIMIT
        self._zip = zipfile.ZipFile(cast("IO[bytes]", self._buffer), "w")
        self._entry: IO[bytes] | None = None
        self._size = 0
        self.files: list[InputFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._entry is not None:
            self._entry.close()
        self._zip.close()

    def begin(self, name: str) -> None:
        """Begin the next file."""
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        # Level 0 keeps the bytes as they are; deflate's framing lets a streaming reader find the
        # end of an entry whose length was not known when it began. The archive's own level would
        # not reach entries that are written like this one.
        info._compresslevel = 0  # type: ignore[attr-defined]
        info.external_attr = 0o100644 << 16
        self._entry = self._zip.open(info, "w", force_zip64=self._zip64)
        self.files.append(InputFile(name=name, size_bytes=0))
        self._size = 0

    async def write(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the file; raises StoreDown."""
        if self._entry is None:
            raise ValueError("no file was begun")
        self._entry.write(data)
        self._size += len(data)
        await self._drain()

    async def end(self) -> None:
        """End the file; raises StoreDown."""
        if self._entry is None:
            raise ValueError("no file was begun")
        self._entry.close()
        self._entry = None
        self.files[-1] = self.files[-1].model_copy(update={"size_bytes": self._size})
        await self._drain()

    def listed(self) -> tuple[InputFile, ...]:
        """Return the first files: as many as a job's resource has room to name.

        Whoever may upload could fill the cluster's own store with a thousand long names a job.
        """
        sizes = accumulate(BESIDE_NAME + len(json.dumps(file.name)) for file in self.files)
        return tuple(self.files[: sum(size <= LISTED for size in sizes)])

    async def close(self) -> None:
        """End the zip; raises StoreDown."""
        self._zip.close()
        await self._drain()

    async def _drain(self) -> None:
        pieces, self._buffer.pieces = self._buffer.pieces, []
        for piece in pieces:
            await self._upload.write(piece)


def of_script(text: str) -> bytes:
    """Return the bundle of a job that was made with a script instead of an upload.

    Equal scripts give equal bytes, so it can be made again whenever it is asked for.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(SCRIPT), text.encode())
    return buffer.getvalue()
