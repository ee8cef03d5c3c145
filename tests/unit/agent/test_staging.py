"""Bundles that are no bundles: refused with a sentence, never with what a library happens to say."""

import io
import os
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from orchestrator_agent import staging
from orchestrator_agent.staging import BadInputs, unpack
from orchestrator_crds.job import MAX_FILES


def _zip(method: int = zipfile.ZIP_STORED, name: str = "run.sh") -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, "echo hi\n" * 9)
    return bytearray(buffer.getvalue())


def _changed(data: bytearray, before: bytes, at: int, value: bytes) -> bytes:
    begin = data.index(before) + at
    data[begin : begin + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(_zip()[1:]),
        bytes(_zip(zipfile.ZIP_BZIP2)),
        bytes(_zip(name="n" * 300)),
        _changed(_zip(zipfile.ZIP_DEFLATED), b"run.sh", 6, b"\xff\xff\xff\xff"),
        _changed(_zip(), b"PK\1\2", 8, b"\1"),
        _changed(_zip(), b"PK\3\4", 26, b"\xff\xff"),
    ],
    ids=["empty", "cut in front", "bzip2", "long name", "deflate", "encrypted", "header"],
)
def test_a_damaged_bundle_is_refused(tmp_path: Path, data: bytes) -> None:
    """Found by fuzzing: zlib.error, RuntimeError and OSError (EINVAL) ended the agent without a word."""
    bundle, folder = tmp_path / "inputs.zip", tmp_path / "work"
    bundle.write_bytes(data)
    folder.mkdir()
    with pytest.raises(BadInputs):
        unpack(bundle, folder)


SIZE = 10_000_000


def _overlapping(count: int) -> bytes:
    """Return a zip of many files in the same bytes: each quotes the head of the next, and goes on with it."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed, whole = kernel.compress(bytes(SIZE // 10)) + kernel.flush(), bytes(SIZE // 10)
    entries, body = [], b""
    for number in reversed(range(count)):
        if body:
            # A block of deflate that holds the head as it is, and is not the last.
            size = len(body) - len(packed)
            quote = struct.pack("<BHH", 0, size, size ^ 0xFFFF)
            whole, packed = body[:size] + whole, quote + body
        entry = zipfile.ZipInfo(f"{number:04}")
        entry.compress_type, entry.CRC = zipfile.ZIP_DEFLATED, zlib.crc32(whole)
        entry.file_size, entry.compress_size = len(whole), len(packed)
        entries.append(entry)
        body = entry.FileHeader() + packed
    for entry in entries:
        entry.header_offset = len(body) - len(entry.FileHeader()) - entry.compress_size
    buffer = io.BytesIO(body)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.filelist += reversed(entries)
        archive._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


def _bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(SIZE))
    return buffer.getvalue()


def _modest() -> bytes:
    """Return a bomb that says it is none."""
    data = _bomb()
    return data.replace(SIZE.to_bytes(4, "little"), (100).to_bytes(4, "little"))


def _lie(size: int) -> bytes:
    """Return a bomb whose size stands in a zip64 field, which says another."""
    buffer, large = io.BytesIO(), 0x123456789
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(SIZE))
        archive.filelist[0].file_size = large
    field = large.to_bytes(8, "little")
    assert buffer.getvalue().count(field) == 1
    return buffer.getvalue().replace(field, size.to_bytes(8, "little"))


def _many(count: int, said: int = 0) -> bytes:
    """Return an index of so many files, each of no bytes, which says that it has *said* bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", b"")
    data = buffer.getvalue()
    begin, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    index = data[begin:end] * count
    counts = struct.pack("<HHII", *[min(count, 0xFFFF)] * 2, said or len(index), begin)
    return data[:begin] + index + data[end : end + 8] + counts + data[-2:]


BOMBS: dict[str, Callable[[], bytes]] = {
    "a bomb": _bomb,
    "all in the same bytes": lambda: _overlapping(20),
    "a bomb that says it is none": _modest,
    "a bomb that says it is none, in zip64": lambda: _lie(100),
    "one that says it is endless": lambda: _lie((1 << 63) - 1),
    "a million files": lambda: _many(1_000_000),
    "an index longer than the zip": lambda: _many(1, 1 << 31),
}


def unpacked(folder: Path, data: bytes) -> tuple[str, int]:
    """Unpack a bundle; returns why it was refused, and how many bytes it became."""
    bundle, work = folder / "inputs.zip", folder / "work"
    bundle.write_bytes(data)
    work.mkdir()
    told = ""
    try:
        unpack(bundle, work)
    except BadInputs as error:
        told = str(error)
    return told, sum(path.stat().st_size for path in work.iterdir())


@pytest.mark.parametrize("name", BOMBS)
def test_a_bundle_does_not_become_more_than_it_has(tmp_path: Path, name: str) -> None:
    data = BOMBS[name]()
    told, size = unpacked(tmp_path, data)
    assert told
    assert size <= len(data)


@pytest.mark.parametrize("name", ["a bomb", "all in the same bytes", "one that says it is endless"])
def test_unless_what_its_files_have_is_not_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(staging, "sum", lambda _: 0, raising=False)
    told, size = unpacked(tmp_path, BOMBS[name]())
    # Later Pythons see for themselves that files lie in one another.
    assert size >= SIZE or "Overlapped" in told


@pytest.mark.parametrize("guarded", [True, False])
def test_the_index_of_a_million_files_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """A few of them: each takes half a kilobyte, and an agent has not that much memory."""
    if not guarded:
        monkeypatch.setattr(staging, "LONGEST_INDEX", 1 << 40)
    data = _many(30_000)
    tracemalloc.start()
    unpacked(tmp_path, data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (most < 1 << 20) == guarded


def test_as_many_files_as_an_upload_may_have_are_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(MAX_FILES):
            archive.writestr(f"{number:04}{'ü' * 125}", b"x")
    assert unpacked(tmp_path, buffer.getvalue()) == ("", MAX_FILES)


def _special(kind: int) -> bytes:
    """Return a zip of one entry that says what it is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("x")
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_ISUID])
def test_whatever_an_entry_says_it_is_becomes_a_file(tmp_path: Path, kind: int) -> None:
    bundle, folder = tmp_path / "inputs.zip", tmp_path / "work"
    bundle.write_bytes(_special(kind))
    folder.mkdir()
    unpack(bundle, folder)
    assert stat.S_IMODE(os.lstat(folder / "x").st_mode) == 0o644
    assert stat.S_ISREG(os.lstat(folder / "x").st_mode)
    assert (folder / "x").read_text() == "/etc/passwd"


@pytest.mark.parametrize("guarded", [True, False])
def test_what_lies_there_is_neither_written_to_nor_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    bundle, folder, victim = tmp_path / "inputs.zip", tmp_path / "work", tmp_path / "victim"
    bundle.write_bytes(_zip())
    folder.mkdir()
    victim.write_text("its own")
    (folder / "run.sh").symlink_to(victim)
    if not guarded:
        monkeypatch.setattr(os, "O_EXCL", 0)
        monkeypatch.setattr(os, "O_NOFOLLOW", 0)
    with nullcontext() if not guarded else pytest.raises(BadInputs):
        unpack(bundle, folder)
    assert (victim.read_text() == "its own") is guarded
