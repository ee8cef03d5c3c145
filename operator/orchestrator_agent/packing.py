"""Results out: the working directory as a zip, written to anything, nothing followed.

The tree was made by a stranger's code, and while that still runs it changes under our hands:
every folder and file is opened by its own name in its parent's descriptor, never through a link,
never waiting for the other end of a FIFO, and looked at again once open.
"""

import calendar
import contextlib
import errno
import hashlib
import itertools
import os
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from orchestrator_agent.gateway import CHUNK, Sink, TooLarge
from orchestrator_agent.naming import Names

# Fast, and a third to a half of most text; the agent has little CPU of its own.
LEVEL = 1
# The zip format's own limits.
_EARLIEST, _LATEST = (
    calendar.timegm((1980, 1, 1, 0, 0, 0)),
    calendar.timegm((2107, 12, 31, 0, 0, 0)),
)
# The index of a zip is kept in memory until its end.
MOST_ENTRIES, MOST_NAME_BYTES = 150_000, 24 << 20
DEEPEST = 200
# To measure, each folder on the way down stays open, with two descriptors of the thousand that
# there are.
DEEPEST_MEASURED = 400
# Of a folder's entries so many are sorted together.
SORTED = 10_000
# The least that a file takes on most file systems.
BLOCK = 4096
# In the comment of a file that was written to while it was being read: its end may be missing.
CHANGED = b"changed while it was read"
LONGEST_COMMENT = 0xFFFF
NAMED, LONGEST_NAMED = 500, 1000
# A folder's descriptor, and what is left to be looked at of it.
Opened = tuple[int, "os._ScandirIterator[str]"]
_SAFE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder by its place, since whole paths of a hostile tree would fill the memory."""

    above: "Folder | None" = None
    name: str = ""
    # What it is called in the zip.
    shown: str = ""
    depth: int = 0

    def names(self) -> list[tuple[str, str]]:
        """Return (name, what it is called in the zip) of each folder from the top to this one."""
        found, folder = [], self
        while folder.above is not None:
            found.append((folder.name, folder.shown))
            folder = folder.above
        return found[::-1]


@dataclass(frozen=True)
class Item:
    """One thing below the working directory, and how to open it."""

    folder: Folder
    directory: int
    name: str
    shown: str
    info: os.stat_result

    @property
    def path(self) -> str:
        """Return its path in the zip."""
        return path_of(self.folder, self.shown)


def path_of(folder: Folder, shown: str) -> str:
    """Return the path in the zip of what is called *shown* in *folder*."""
    return "/".join([*(inner for _, inner in folder.names()), shown])


@dataclass
class Listed:
    """How many there are of something, and the first paths."""

    count: int = 0
    paths: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.paths) < NAMED:
            self.paths.append(path[:LONGEST_NAMED])


class _Output:
    """What zipfile needs of an output that cannot be sought."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        return self._sink.write(bytes(data))

    def flush(self) -> None:
        """Nothing is kept back here."""


class _Index:
    """What a zip's index will hold of each entry, in a few dozen bytes instead of hundreds."""

    _ROW = struct.Struct("<H5B3H4QIH?")

    def __init__(self) -> None:
        self._rows, self._count = bytearray(), 0

    def append(self, entry: zipfile.ZipInfo) -> None:
        """Take an entry that was written."""
        name = entry.filename.encode()
        self._rows += self._ROW.pack(
            *entry.date_time,
            *(entry.compress_type, entry.flag_bits, entry.extract_version),
            *(entry.CRC, entry.compress_size, entry.file_size, entry.header_offset),
            *(entry.external_attr, len(name), entry.comment == CHANGED),
        )
        self._rows += name
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        at = 0
        while at < len(self._rows):
            *moment, method, flags, version, crc, packed, size, offset, mode, length, changed = (
                self._ROW.unpack_from(self._rows, at)
            )
            at += self._ROW.size
            entry = zipfile.ZipInfo(self._rows[at : at + length].decode(), tuple(moment))
            at += length
            entry.compress_type, entry.flag_bits = method, flags
            entry.extract_version = entry.create_version = version
            entry.CRC, entry.compress_size, entry.file_size = crc, packed, size
            entry.header_offset, entry.external_attr = offset, mode
            entry.comment = CHANGED if changed else b""
            yield entry


class _Forgetful(dict[str, zipfile.ZipInfo]):
    """What zipfile knows entries by; here each has a name of its own anyway."""

    def __setitem__(self, _name: str, _entry: zipfile.ZipInfo) -> None:
        """Keep nothing."""


@dataclass
class _Packer:
    archive: zipfile.ZipFile
    limit: int
    size: int = 0
    count: int = 0
    name_bytes: int = 0
    skipped: Listed = field(default_factory=Listed)
    renamed: Listed = field(default_factory=Listed)

    def add(self, item: Item) -> None:
        self.count += 1
        path = item.path
        self.name_bytes += len(path.encode())
        if self.count > MOST_ENTRIES or self.name_bytes > MOST_NAME_BYTES:
            raise TooLarge(f"The job left more than {MOST_ENTRIES} files, or too long names.")
        if stat.S_ISDIR(item.info.st_mode):
            self.archive.writestr(_entry(path + "/", item.info), b"")
        elif not (stat.S_ISREG(item.info.st_mode) and self._file(item, path)):
            self.skipped.add(path)

    def _file(self, item: Item, path: str) -> bool:
        """Add one file; returns whether it was one. A live job may have swapped it meanwhile."""
        try:
            descriptor = _open(item.name, item.directory, stat.S_IRUSR)
        except OSError:
            return False
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            os.close(descriptor)
            return False
        with os.fdopen(descriptor, "rb") as source:
            self.size += info.st_size
            if self.size > self.limit:
                raise TooLarge(f"The job left more than {self.limit} bytes.")
            entry = _entry(path, info)
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


def pack(folder: Path, sink: Sink, limit: int) -> Listed:
    """Write *folder* as a zip to *sink*; returns the paths that were left out.

    Those are what is neither file nor folder (symlinks, sockets, devices: following one would read
    what is not the job's), and what cannot be opened. Names that could do harm where the zip is
    unpacked are changed, which its comment tells. Raises TooLarge for more than *limit* bytes.
    """
    with zipfile.ZipFile(cast("IO[bytes]", _Output(sink)), "w") as archive:
        archive.filelist = cast("list[zipfile.ZipInfo]", _Index())
        archive.NameToInfo = _Forgetful()
        packer = _Packer(archive, limit)
        for item in walk(folder, packer.skipped, packer.renamed):
            packer.add(item)
        archive.comment = _note(packer.skipped, packer.renamed)
    return packer.skipped


def _note(skipped: Listed, renamed: Listed) -> bytes:
    """Return the comment of the zip: what is not as it was, as far as a comment's room goes."""
    notes = (
        (skipped, "left out, since they are neither files nor folders:"),
        (renamed, "named otherwise, since their names could do harm, or be taken for others:"),
    )
    lines = [[f"{found.count} {what}", *found.paths] for found, what in notes if found.count]
    room = LONGEST_COMMENT // max(len(lines), 1) - 1
    parts = ["\n".join(part).encode()[:room].decode(errors="ignore") for part in lines]
    return "\n".join(parts).encode()


def walk(folder: Path, skipped: Listed, renamed: Listed | None = None) -> Iterator[Item]:
    """Yield every file, every empty folder, and every other thing below *folder*.

    Folders that cannot be opened, or lie too deep, are added to *skipped*. With *renamed*, names
    that could do harm are shown otherwise, and added to it. Raises TooLarge for more folders side
    by side than can be remembered.
    """
    waiting = [Folder()]
    while waiting:
        here = waiting.pop()
        try:
            directory = _descend(folder, here)
        except OSError:
            skipped.add(path_of(here.above, here.shown) if here.above else "")
            continue
        names = Names()
        try:
            for name in _listed(directory):
                try:
                    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except OSError:
                    continue  # it went away between listing and looking
                shown = name if renamed is None else names.of(name, top=not here.depth)
                if renamed is not None and shown != name:
                    renamed.add(path_of(here, shown))
                if not stat.S_ISDIR(info.st_mode) or _is_empty(name, directory):
                    yield Item(here, directory, name, shown, info)
                elif here.depth >= DEEPEST:
                    skipped.add(path_of(here, shown))
                elif len(waiting) == MOST_ENTRIES:
                    raise TooLarge(f"The job left more than {MOST_ENTRIES} folders side by side.")
                else:
                    waiting.append(Folder(here, name, shown, here.depth + 1))
        finally:
            os.close(directory)


def _listed(directory: int) -> Iterator[str]:
    """Yield the names in a folder, of which there may be more than fit into memory."""
    with os.scandir(directory) as entries:
        while some := sorted(entry.name for entry in itertools.islice(entries, SORTED)):
            yield from some


def _descend(top: Path, folder: Folder) -> int:
    """Open *folder* below *top*, name by name, so that no link is followed."""
    directory = os.open(top, os.O_DIRECTORY | _SAFE)
    for name, _ in folder.names():
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
    moment = time.gmtime(min(max(info.st_mtime, _EARLIEST), _LATEST))[:6]
    entry = zipfile.ZipInfo(path, moment)
    entry.compress_type = zipfile.ZIP_DEFLATED
    # The archive's own level does not reach entries that are written like this one.
    entry._compresslevel = LEVEL  # type: ignore[attr-defined]
    # Nobody who unpacks it gets programs that run as their owner.
    mode = stat.S_IFMT(info.st_mode) | info.st_mode & 0o777
    entry.external_attr = mode << 16 | (0x10 if path.endswith("/") else 0)
    return entry


class TooDeep(Exception):  # noqa: N818
    """The job has folders in folders, deeper than is looked: how much is there, nobody knows."""


def used_bytes(folders: Iterable[Path], enough: Callable[[int], bool] = lambda _: False) -> int:
    """Return how much disk everything in *folders* takes; hard links count once.

    Whatever takes less counts as a block, since a node has only so many files and folders. Stops
    as soon as *enough* says so of what it has, in bytes. Raises TooDeep.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    for info in itertools.chain.from_iterable(map(_everything, folders)):
        if enough(total):
            return total
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            if (info.st_dev, info.st_ino) in seen:
                continue
            if len(seen) < MOST_ENTRIES:
                seen.add((info.st_dev, info.st_ino))
        total += max(info.st_blocks * 512, BLOCK)
    return total


def _everything(top: Path) -> Iterator[os.stat_result]:
    """Yield what each thing below *top* is, however many there are; raises TooDeep.

    Unlike `walk`, it remembers nothing but the way down, whose folders stay open.
    """
    way = [_entered(os.open(top, os.O_DIRECTORY | _SAFE))]
    try:
        while way:
            directory, entries = way[-1]
            entry = next(entries, None)
            if entry is None:
                _leave(way)
                continue
            if len(way) > DEEPEST_MEASURED + 1:
                raise TooDeep(f"it has folders in folders, more than {DEEPEST_MEASURED} deep")
            try:
                info = entry.stat(follow_symlinks=False)
                yield info
                if stat.S_ISDIR(info.st_mode):
                    needed = stat.S_IRUSR | stat.S_IXUSR
                    way.append(_entered(_open(entry.name, directory, needed, os.O_DIRECTORY)))
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    raise TooDeep("it has folders in folders, too deep to be opened") from error
                # Otherwise it went away meanwhile.
    finally:
        while way:
            _leave(way)


def _entered(directory: int) -> Opened:
    try:
        return directory, os.scandir(directory)
    except OSError:
        os.close(directory)
        raise


def _leave(way: list[Opened]) -> None:
    directory, entries = way.pop()
    entries.close()
    os.close(directory)


def signature(folder: Path) -> tuple[str, int]:
    """Return a digest that changes when a name, size or time below *folder* does, and the size.

    The size is that of the files, in bytes.
    """
    total, size = hashlib.sha256(), 0
    for item in walk(folder, Listed()):
        info = item.info
        size += info.st_size if stat.S_ISREG(info.st_mode) else 0
        line = f"{item.path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_mode}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest(), size
