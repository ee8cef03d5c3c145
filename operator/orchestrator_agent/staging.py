"""Inputs in: one zip from the gateway, checked whole before a single file is made."""

import errno
import hashlib
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from orchestrator_agent.gateway import Gateway

# The API makes bundles; whatever is packed in another way is none of its making.
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# The API packs a thousand files at most; zipfile keeps ten times as much of each in memory.
LONGEST_INDEX = 1 << 20
# All that zipfile raises on bytes that are no zip, or one that it cannot read.
_DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)
# What the system says to a place before the file's start, and to names that cannot be made.
_NO_PLACE = {errno.EINVAL, errno.EEXIST, errno.ENAMETOOLONG}


class BadInputs(Exception):  # noqa: N818
    """The input bundle is not what the job's record says; nothing was started."""


class Corrupt(Exception):  # noqa: N818
    """The input bundle's bytes are not those that were uploaded; another try may get them."""


class _Hashing:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)


def fetch(gateway: Gateway, sha256: str, target: Path) -> None:
    """Download the bundle to *target*; raises Corrupt when its digest is not *sha256*."""
    with target.open("wb") as file:
        sink = _Hashing(file)
        gateway.download("/inputs", sink)
    if sink.digest.hexdigest() != sha256:
        raise Corrupt("the input bundle's SHA-256 differs from the job's record")


def unpack(bundle: Path, folder: Path) -> None:
    """Write the bundle's files into *folder*, which must not have them; raises BadInputs."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _index_bytes(bundle) > LONGEST_INDEX:
            raise BadInputs("the input bundle has more files than any upload")
        with zipfile.ZipFile(bundle) as archive:
            entries = archive.infolist()
            # The API packs nothing tighter than it is, and no two files into the same bytes.
            if sum(entry.file_size for entry in entries) > bundle.stat().st_size:
                raise BadInputs("the input bundle holds more than it has bytes")
            for entry in entries:
                _write(archive, entry, directory)
    except _DAMAGED as error:
        raise BadInputs(f"the input bundle cannot be unpacked: {error!r}") from error
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise  # the disk's fault, not the bundle's
        raise BadInputs(f"the input bundle cannot be unpacked: {error}") from error
    finally:
        os.close(directory)


def _index_bytes(bundle: Path) -> int:
    """Return how long a zip says its index is, of which zipfile would read no more."""
    with bundle.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    return int(end[zipfile._ECD_SIZE]) if end else 0  # type: ignore[attr-defined]


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, directory: int) -> None:
    name = entry.filename
    # The API refused such names at the door; the zip is checked again here, where it matters.
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise BadInputs(f"the input bundle has a file with the name {name!r}")
    if entry.compress_type not in _METHODS:
        raise BadInputs(f"the input bundle has a file packed with method {entry.compress_type}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with (
        archive.open(entry) as source,
        os.fdopen(os.open(name, flags, 0o644, dir_fd=directory), "wb") as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
