"""Results out: the working directory as a zip, written to anything, nothing followed."""

import hashlib
import os
import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from orchestrator_agent.gateway import CHUNK, Sink

# Fast, and a third to a half of most text; the agent has little CPU of its own.
LEVEL = 1
# The zip format's own limits.
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Output:
    """What zipfile needs of an output that cannot be sought."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        return self._sink.write(bytes(data))

    def flush(self) -> None:
        """Nothing is kept back here."""


def pack(folder: Path, sink: Sink) -> list[str]:
    """Write *folder* as a zip to *sink*; returns the paths that are neither file nor folder.

    Symlinks, sockets and devices are left out: following one would read what is not the job's.
    """
    skipped: list[str] = []
    output = cast("IO[bytes]", _Output(sink))
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for path, directory, name, info in _walk(folder):
            if stat.S_ISDIR(info.st_mode):
                archive.writestr(_entry(path + "/", info), b"")
            elif not (stat.S_ISREG(info.st_mode) and _add(archive, path, directory, name)):
                skipped.append(path)
    return skipped


def _walk(folder: Path) -> Iterator[tuple[str, int, str, os.stat_result]]:
    """Yield (path in the zip, descriptor of its folder, name, lstat) of everything below."""
    for root, folders, files, directory in os.fwalk(folder, follow_symlinks=False):
        folders.sort()
        prefix = "" if root == str(folder) else os.path.relpath(root, folder) + "/"
        for name in sorted([*files, *folders]):
            try:
                info = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                continue  # it went away between listing and looking, as files of a live job do
            # Folders that hold something are there by what they hold.
            if not stat.S_ISDIR(info.st_mode) or _is_empty(name, directory):
                yield prefix + name, directory, name, info


def _is_empty(name: str, directory: int) -> bool:
    try:
        descriptor = os.open(name, os.O_DIRECTORY | _OPEN, dir_fd=directory)
    except OSError:
        return False
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is None
    finally:
        os.close(descriptor)


def _add(archive: zipfile.ZipFile, path: str, directory: int, name: str) -> bool:
    """Add one file; returns whether it was one. A live job may have swapped it meanwhile."""
    try:
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as source:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            return False
        # To the size it had when opened: a file that grows while it is read must end.
        left = info.st_size
        with archive.open(_entry(path, info), "w", force_zip64=True) as target:
            while left and (piece := source.read(min(CHUNK, left))):
                target.write(piece)
                left -= len(piece)
    return True


def _entry(path: str, info: os.stat_result) -> zipfile.ZipInfo:
    moment = time.gmtime(info.st_mtime)[:6]
    # The zip format begins in 1980 and ends in 2107.
    entry = zipfile.ZipInfo(
        _readable(path), min(max(moment, (1980, 1, 1, 0, 0, 0)), (2107, 12, 31, 23, 59, 58))
    )
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (info.st_mode & 0xFFFF) << 16 | (0x10 if path.endswith("/") else 0)
    return entry


def _readable(path: str) -> str:
    """Return *path* with bytes that are no UTF-8 written as %XX, since a zip holds text."""
    return (
        path.encode(errors="surrogateescape").decode(errors="backslashreplace").replace("\\x", "%")
    )


def signature(folder: Path) -> str:
    """Return a digest that changes when a name, size or time below *folder* does."""
    total = hashlib.sha256()
    for path, _, _, info in _walk(folder):
        line = f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_mode}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()
