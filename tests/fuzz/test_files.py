"""File names and zips that others made: taken as they should be, or refused with a sentence."""

import io
import os
import tempfile
import unicodedata
import warnings
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from orchestrator_agent.staging import BadInputs, unpack
from orchestrator_api.errors import RangeNotSatisfiable
from orchestrator_api.files import one_range
from orchestrator_crds.names import BadFileName, file_name
from tests.fuzz.dose import fuzzed

WORDS = [
    "..", ".", "/", "\\", "run.sh", "\0", "\r\n", "\u202e", "\ufeff", "\ud800", "\ue000", "a" * 250,
    "é", "e\u0301", "CON", "C:", "~", "%2e%2e", "$(id)", "-rf", " ", "\u2028", "\u2044", "\uff0f",
]  # fmt: skip
NAMES = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=8).map("".join)


def _is_plain(name: str) -> bool:
    hostile = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    return (
        name not in {"", ".", ".."}
        and not set(name) & set("/\\\0\r\n")
        and all(unicodedata.category(c) not in hostile for c in name)
        and len(name.encode()) <= 255
    )


@fuzzed(2000, raw=NAMES)
def test_a_name_is_one_plain_part_or_refused_with_a_sentence(raw: str) -> None:
    try:
        name = file_name(raw)
    except BadFileName as error:
        assert str(error).endswith("rename the file.")
        return
    assert _is_plain(name)
    assert file_name(name) == file_name(f"C:\\x/{name}") == name


def test_the_last_part_alone_is_no_rule() -> None:
    """The counter-proof: what a path's last part lets through."""
    assert sum(not _is_plain(word.rsplit("/", 1)[-1]) for word in WORDS) > 8


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """Draw a zip of hostile names in some method, and change, cut or double some bytes of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in draw(st.lists(NAMES.filter(_encodes), max_size=3)):
            info = zipfile.ZipInfo(name[:200] or "x")
            info.compress_type = draw(st.sampled_from(METHODS))
            info.external_attr = (
                draw(st.sampled_from([0o100644, 0o120777, 0o104755, 0o40755])) << 16
            )
            with warnings.catch_warnings(action="ignore"):  # two of one name
                archive.writestr(info, draw(st.binary(max_size=40)))
    data = bytearray(buffer.getvalue())
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        until = at + draw(st.integers(0, 4))
        data[at:until] = draw(st.binary(max_size=4))
    return bytes(data)


def _encodes(name: str) -> bool:
    return not any(unicodedata.category(c) == "Cs" for c in name)


@fuzzed(600, data=zips() | st.binary(max_size=60))
def test_a_bundle_is_unpacked_into_its_folder_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "outer", "work")
        folder.mkdir(parents=True)
        bundle = Path(place, "bundle.zip")
        bundle.write_bytes(data)
        try:
            unpack(bundle, folder)
        except BadInputs as error:
            assert str(error)
        assert sorted(os.listdir(place)) == ["bundle.zip", "outer"]
        assert os.listdir(folder.parent) == ["work"]
        for entry in os.scandir(folder):
            assert entry.is_file(follow_symlinks=False)
            assert entry.stat(follow_symlinks=False).st_mode & 0o7777 == 0o644


RANGE = st.text(max_size=20) | st.lists(
    st.sampled_from(["bytes", "=", "-", ",", " ", "0", "9", "99999999999999999999", "٣"]),
    max_size=8,
).map("".join)


@fuzzed(1000, header=RANGE, size=st.integers(0, 12))
def test_a_range_lies_within_the_file(header: str, size: int) -> None:
    try:
        found: Any = one_range(header, size)
    except RangeNotSatisfiable as error:
        assert error.headers == {"Content-Range": f"bytes */{size}"}
        return
    assert found is None or 0 <= found[0] <= found[1] < size
