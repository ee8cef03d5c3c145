"""Results out: the working directory as a zip, written to anything."""

import calendar
import os
import stat
import struct
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from orchestrator_agent.gateway import CHUNK, Sink, TooLarge
from orchestrator_agent.tree import Item, Listed, open_one, walk

# Fast, and a third to a half of most text; the agent has little CPU of its own.
LEVEL = 1
# The zip format's own limits.
_EARLIEST, _LATEST = (
    calendar.timegm((1980, 1, 1, 0, 0, 0)),
    calendar.timegm((2107, 12, 31, 0, 0, 0)),
)
# The index of a zip is kept in memory until its end.
MOST_ENTRIES, MOST_NAME_BYTES = 150_000, 24 << 20
# In the comment of a file that was written to while it was being read: its end may be missing.
CHANGED = b"changed while it was read"
LONGEST_COMMENT = 0xFFFF


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
            descriptor = open_one(item.name, item.directory, stat.S_IRUSR)
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
