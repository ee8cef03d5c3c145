"""Results out: the working directory as a zip, written to anything, nothing followed.

The tree was made by a stranger's code, and while that still runs it changes under our hands:
every folder and file is opened by its own name in its parent's descriptor, never through a link,
never waiting for the other end of a FIFO, and looked at again once open.
"""

import contextlib
import hashlib
import os
import stat
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from orchestrator_agent.gateway import CHUNK, Sink, TooLarge

# Fast, and a third to a half of most text; the agent has little CPU of its own.
LEVEL = 1
# The zip format's own limits.
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
# The index of a zip is kept in memory until its end.
MOST_ENTRIES = 150_000
DEEPEST = 200
# The least that a file takes on most file systems.
BLOCK = 4096
# In the comment of a file that was written to while it was being read: its end may be missing.
CHANGED = b"changed while it was read"
LONGEST_COMMENT = 0xFFFF
NAMED = 500
_SAFE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Item:
    """One thing below the working directory: its path, and how to open it."""

    path: str
    directory: int
    name: str
    info: os.stat_result


class _Output:
    """What zipfile needs of an output that cannot be sought."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        return self._sink.write(bytes(data))

    def flush(self) -> None:
        """Nothing is kept back here."""


@dataclass
class _Packer:
    archive: zipfile.ZipFile
    limit: int
    size: int = 0
    count: int = 0
    skipped: list[str] = field(default_factory=list)

    def add(self, item: Item) -> None:
        self.count += 1
        if self.count > MOST_ENTRIES:
            raise TooLarge(f"The job left more than {MOST_ENTRIES} files.")
        if stat.S_ISDIR(item.info.st_mode):
            self.archive.writestr(_entry(item.path + "/", item.info), b"")
        elif not (stat.S_ISREG(item.info.st_mode) and self._file(item)):
            self.skipped.append(item.path)

    def _file(self, item: Item) -> bool:
        """Add one file; returns whether it was one. A live job may have swapped it meanwhile."""
        try:
            descriptor = _open(item.name, item.directory, stat.S_IRUSR)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as source:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                return False
            self.size += info.st_size
            if self.size > self.limit:
                raise TooLarge(f"The job left more than {self.limit} bytes.")
            entry = _entry(item.path, info)
            entry.file_size = info.st_size
            # To the size it had when opened: a file that grows while it is read must end.
            left = info.st_size
            with self.archive.open(entry, "w") as target:
                while left and (piece := source.read(min(CHUNK, left))):
                    target.write(piece)
                    left -= len(piece)
            if _changed(info, os.fstat(descriptor)):
                # Comments stand in the zip's index, which is written last.
                entry.comment = CHANGED
        return True


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def pack(folder: Path, sink: Sink, limit: int) -> list[str]:
    """Write *folder* as a zip to *sink*; returns the paths that were left out.

    Those are what is neither file nor folder (symlinks, sockets, devices: following one would read
    what is not the job's), and what cannot be opened. Raises TooLarge for more than *limit* bytes.
    """
    with zipfile.ZipFile(cast("IO[bytes]", _Output(sink)), "w") as archive:
        packer = _Packer(archive, limit)
        for item in walk(folder, packer.skipped):
            packer.add(item)
        archive.comment = _note(packer.skipped)
    return packer.skipped


def _note(skipped: list[str]) -> bytes:
    """Return the comment of the zip: what is not in it, as far as a comment's room goes."""
    if not skipped:
        return b""
    lines = [f"{len(skipped)} left out, since they are neither files nor folders:"]
    lines += [readable(path) for path in skipped[:NAMED]]
    return "\n".join(lines).encode()[:LONGEST_COMMENT]


def walk(folder: Path, skipped: list[str]) -> Iterator[Item]:
    """Yield every file, every empty folder, and every other thing below *folder*.

    Folders that cannot be opened, or lie too deep, are added to *skipped*.
    """
    waiting = [""]
    while waiting:
        path = waiting.pop()
        try:
            directory = _descend(folder, path)
        except OSError:
            skipped.append(path)
            continue
        try:
            for name in sorted(os.listdir(directory)):  # noqa: PTH208  (a descriptor, no path)
                inner = f"{path}/{name}" if path else name
                try:
                    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except OSError:
                    continue  # it went away between listing and looking
                if not stat.S_ISDIR(info.st_mode) or _is_empty(name, directory):
                    yield Item(inner, directory, name, info)
                elif inner.count("/") >= DEEPEST:
                    skipped.append(inner)
                else:
                    waiting.append(inner)
        finally:
            os.close(directory)


def _descend(folder: Path, path: str) -> int:
    """Open the folder at *path* below *folder*, name by name, so that no link is followed."""
    directory = os.open(folder, os.O_DIRECTORY | _SAFE)
    for name in filter(None, path.split("/")):
        outer, directory = directory, -1
        try:
            directory = _open(name, outer, stat.S_IRUSR | stat.S_IXUSR, os.O_DIRECTORY)
        finally:
            os.close(outer)
    return directory


def _open(name: str, directory: int, needed: int, flags: int = 0) -> int:
    """Open *name*, after giving its owner, who is also us, the rights that the job took away."""
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    wanted = stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)
    if wanted and info.st_mode & needed != needed:
        # There is no chmod that follows no link; a file that is a link by now is refused below.
        with contextlib.suppress(OSError):
            os.chmod(name, stat.S_IMODE(info.st_mode) | needed, dir_fd=directory)
    return os.open(name, _SAFE | flags, dir_fd=directory)


def _is_empty(name: str, directory: int) -> bool:
    try:
        descriptor = _open(name, directory, stat.S_IRUSR | stat.S_IXUSR, os.O_DIRECTORY)
    except OSError:
        return False
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is None
    finally:
        os.close(descriptor)


def _entry(path: str, info: os.stat_result) -> zipfile.ZipInfo:
    moment = time.gmtime(info.st_mtime)[:6]
    entry = zipfile.ZipInfo(readable(path), min(max(moment, _EARLIEST), _LATEST))
    entry.compress_type = zipfile.ZIP_DEFLATED
    # The archive's own level does not reach entries that are written like this one.
    entry._compresslevel = LEVEL  # type: ignore[attr-defined]
    entry.external_attr = (info.st_mode & 0xFFFF) << 16 | (0x10 if path.endswith("/") else 0)
    return entry


def readable(path: str) -> str:
    """Return *path* with bytes that are no UTF-8 written as %XX, since a zip holds text."""
    raw = path.encode(errors="surrogateescape")
    return raw.decode(errors="backslashreplace").replace("\\x", "%")


def used_bytes(folders: Iterable[Path], enough: Callable[[], bool] = lambda: False) -> int:
    """Return how much disk everything in *folders* takes; hard links count once.

    An empty file counts as a block, since a node has only so many of them. Stops as soon as
    *enough* says so, with what it has.
    """
    total, seen = 0, set()
    for folder in folders:
        for item in walk(folder, []):
            if enough():
                return total
            info = item.info
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += max(info.st_blocks * 512, BLOCK)
    return total


def signature(folder: Path) -> tuple[str, int]:
    """Return a digest that changes when a name, size or time below *folder* does, and the size.

    The size is that of the files, in bytes.
    """
    total, size = hashlib.sha256(), 0
    for item in walk(folder, []):
        info = item.info
        size += info.st_size if stat.S_ISREG(info.st_mode) else 0
        line = f"{item.path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_mode}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest(), size
