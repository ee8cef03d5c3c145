"""Bundles that are no bundles: refused with a sentence, never with what a library happens to say."""

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from orchestrator_agent import staging
from orchestrator_agent.staging import BadInputs, unpack


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
    """Return a zip whose many entries are all the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", bytes(SIZE // 10))
        [first] = archive.infolist()
        for number in range(count):
            entry = zipfile.ZipInfo(f"{number}")
            entry.file_size, entry.compress_size = first.file_size, first.compress_size
            entry.CRC, entry.header_offset = first.CRC, first.header_offset
            entry.orig_filename = "a"
            archive.filelist.append(entry)
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


@pytest.mark.parametrize(
    ("data", "guarded"),
    [(_bomb(), True), (_bomb(), False), (_overlapping(100), True), (_modest(), True)],
    ids=["a bomb", "a bomb, unguarded", "all in the same bytes", "a bomb that says it is none"],
)
def test_a_bundle_does_not_become_more_than_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, guarded: bool
) -> None:
    bundle, folder = tmp_path / "inputs.zip", tmp_path / "work"
    bundle.write_bytes(data)
    folder.mkdir()
    if not guarded:
        monkeypatch.setattr(staging, "sum", lambda _: 0, raising=False)
        unpack(bundle, folder)
        assert (folder / "bomb").stat().st_size == SIZE
        return
    with pytest.raises(BadInputs):
        unpack(bundle, folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= len(data)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_ISUID])
def test_whatever_an_entry_says_it_is_becomes_a_file(tmp_path: Path, kind: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("x")
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    bundle, folder = tmp_path / "inputs.zip", tmp_path / "work"
    bundle.write_bytes(buffer.getvalue())
    folder.mkdir()
    unpack(bundle, folder)
    assert stat.S_IMODE(os.lstat(folder / "x").st_mode) == 0o644
    assert stat.S_ISREG(os.lstat(folder / "x").st_mode)
    assert (folder / "x").read_text() == "/etc/passwd"


def test_what_lies_there_is_neither_written_to_nor_followed(tmp_path: Path) -> None:
    bundle, folder, victim = tmp_path / "inputs.zip", tmp_path / "work", tmp_path / "victim"
    bundle.write_bytes(_zip())
    folder.mkdir()
    victim.write_text("its own")
    (folder / "run.sh").symlink_to(victim)
    with pytest.raises(BadInputs):
        unpack(bundle, folder)
    assert victim.read_text() == "its own"
