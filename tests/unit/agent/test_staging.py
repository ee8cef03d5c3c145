"""Bundles that are no bundles: refused with a sentence, never with what a library happens to say."""

import io
import zipfile
from pathlib import Path

import pytest

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
