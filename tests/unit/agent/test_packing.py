"""Results of a tree that changes, hides, is endless: a zip that holds, in little memory, at once."""

import io
import os
import stat
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from orchestrator_agent import packing, tree
from orchestrator_agent.gateway import TooLarge
from orchestrator_agent.naming import Names, harmless
from orchestrator_agent.packing import CHANGED, pack
from orchestrator_agent.tree import Listed
from orchestrator_crds.names import BadFileName, file_name
from tests.unit.agent.trees import deep

SIZE = 3_000_000


class Meddling(io.BytesIO):
    """Changes something as soon as the first bytes arrive."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self._meddle: Callable[[], object] | None = meddle

    def write(self, data: bytes) -> int:  # type: ignore[override]
        meddle, self._meddle = self._meddle, None
        if meddle:
            meddle()
        return super().write(data)


def swap(new: Callable[[Path], object]) -> Callable[[Path], None]:
    """Have something else take a file's place."""

    def meddle(path: Path) -> None:
        other = path.with_name("other")
        new(other)
        other.rename(path)

    return meddle


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"y" * SIZE)


CHANGES: dict[str, tuple[Callable[[Path], object], int | None, bool]] = {
    # What is done to a file → what the zip holds of it, in bytes, and whether it says so.
    "grows": (grow, SIZE, True),
    "shrinks": (lambda path: os.truncate(path, 10), 10, True),
    "is emptied and filled": (lambda path: path.write_bytes(b"z" * SIZE), SIZE, True),
    "is replaced": (swap(lambda other: other.write_bytes(b"z")), SIZE, False),
    "is deleted": (Path.unlink, SIZE, False),
    "becomes a link": (swap(lambda other: other.symlink_to("/etc/passwd")), SIZE, False),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["while it is read", "before"])
def test_a_file_that(tmp_path: Path, change: str, when: str) -> None:
    meddle, size, marked = CHANGES[change]
    work, busy = tmp_path / "work", tmp_path / "work/busy"
    work.mkdir()
    busy.write_bytes(os.urandom(SIZE))
    if when == "before":
        # Between looking at it and opening it.
        (work / "a first one").write_bytes(b"x")
        out = Meddling(lambda: None)
        seen = tree.open_one
        opened: list[str] = []

        def late(name: str, *more: int) -> int:
            if name == "busy" and not opened:
                opened.append(name)
                meddle(busy)
            return seen(name, *more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packing, "open_one", late)
            skipped = pack(work, out, 1 << 30)
        assert opened
        gone = change in {"is deleted", "becomes a link"}
        assert skipped.paths == (["busy"] if gone else [])
        expected = None if gone else busy.stat().st_size
    else:
        out = Meddling(lambda: meddle(busy))
        assert pack(work, out, 1 << 30).count == 0
        expected = size
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        found = {entry.filename: entry for entry in archive.infolist()}
        assert ("busy" in found) == (expected is not None)
        if expected is not None:
            assert found["busy"].file_size == expected
            assert found["busy"].comment == (CHANGED if marked and when != "before" else b"")


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "link"])
def test_what_takes_a_files_place_is_neither_waited_for_nor_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    busy, seen = tmp_path / "busy", tree.open_one
    busy.write_bytes(b"x")

    def late(name: str, *more: int) -> int:
        busy.unlink()
        made: dict[str, Callable[[], object]] = {
            "fifo": lambda: os.mkfifo(busy),
            "socket": lambda: os.mknod(busy, 0o600 | stat.S_IFSOCK),
            "folder": busy.mkdir,
            "link": lambda: busy.symlink_to("/proc/self/environ"),
        }
        made[kind]()
        return seen(name, *more)

    monkeypatch.setattr(packing, "open_one", late)
    out = io.BytesIO()
    open_before = len(os.listdir("/proc/self/fd"))
    assert pack(tmp_path, out, 1 << 30).paths == ["busy"]
    # Kept open, each would be one fewer for the results.
    assert len(os.listdir("/proc/self/fd")) == open_before
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == []


MEASURE = """
import sys
from pathlib import Path
from orchestrator_agent import packing
from orchestrator_agent.gateway import TooLarge
from orchestrator_agent.measuring import used_bytes
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
class Sink:
    def write(self, data): return len(data)
before = peak()
for change in sys.argv[3:]:
    name, _, value = change.partition("=")
    setattr(packing, name, eval(value) if value else 1 << 40)
try:
    packing.pack(Path(sys.argv[1]), Sink(), int(sys.argv[2]))
    word = "packed"
except TooLarge:
    word = "refused"
used_bytes([Path(sys.argv[1])])
print(word, (peak() - before) // 1024)
"""


def measured(folder: Path, limit: int, *lifted: str) -> tuple[str, int]:
    """Pack in a process of its own; returns what came of it, and how many MiB more it took."""
    source = str(Path(packing.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(limit), *lifted],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": source},
    )  # fmt: skip
    word, size = done.stdout.split()
    return word, int(size)


def test_a_sparse_terabyte_is_refused_at_once_and_a_large_file_takes_no_memory(
    tmp_path: Path,
) -> None:
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 300 << 20)
    word, more = measured(tmp_path, 1 << 30)
    assert (word, more < 8) == ("packed", True), more
    os.truncate(tmp_path / "holes", 1 << 40)
    word, more = measured(tmp_path, 1 << 30)
    assert (word, more < 8) == ("refused", True), more


def test_paths_longer_than_a_zip_can_hold_come_out_shorter(tmp_path: Path) -> None:
    """Bytes that are no text become three, and the agent came to its end on 150,000 of them."""
    here = deep(tmp_path, tree.DEEPEST, b"\xff" * 255)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    out = io.BytesIO()
    assert pack(tmp_path, out, 1 << 30).count == 0
    with zipfile.ZipFile(out) as archive:
        [name] = archive.namelist()
        assert archive.testzip() is None
    assert name.count("/") == tree.DEEPEST
    assert {len(part) for part in name.split("/")[:-1]} == {240}


def test_many_long_paths_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Each of 150,000 files could take the room of a path of 50 kB."""
    here = deep(tmp_path, tree.DEEPEST - 1, b"d" * 255)
    for number in range(2000):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    word, more = measured(tmp_path, 1 << 30)
    assert (word, more < 48) == ("refused", True), more
    word, more = measured(tmp_path, 1 << 30, "MOST_NAME_BYTES")
    assert (word, more > 80) == ("packed", True), more


def entries(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}").touch()
    return folder


def test_a_hundred_and_fifty_thousand_entries_take_less_than_32_mb(tmp_path: Path) -> None:
    """They took 81. Measured on fewer, of which each takes the same: making so many takes its time."""
    few, many = 2000, 27_000
    _, less = measured(entries(tmp_path / "few", few), 1 << 30)
    word, more = measured(entries(tmp_path / "many", many), 1 << 30)
    assert word == "packed"
    assert (more - less) * packing.MOST_ENTRIES / (many - few) < 32
    # As the index of zipfile has them.
    _, more = measured(tmp_path / "many", 1 << 30, "_Index=list")
    assert (more - less) * packing.MOST_ENTRIES / (many - few) > 48


def test_more_folders_side_by_side_than_can_be_remembered_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were remembered before the first of their files was counted."""
    for number in range(11):
        (tmp_path / f"{number}" / "inner").mkdir(parents=True)
    for limit, refused in ((10, True), (11, False)):
        monkeypatch.setattr(tree, "MOST_FOLDERS", limit)
        with pytest.raises(TooLarge, match="side by side") if refused else nullcontext():
            pack(tmp_path, io.BytesIO(), 1 << 30)


def test_of_what_is_left_out_the_first_are_told_and_all_are_counted(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:0200}").symlink_to("x")
    out = io.BytesIO()
    found = pack(tmp_path, out, 1 << 30)
    assert (found.count, len(found.paths)) == (1000, tree.NAMED)
    with zipfile.ZipFile(out) as archive:
        assert archive.comment.startswith(b"1000 left out")


@pytest.mark.parametrize("moment", [-(2**62), 0, 2**40, 2**62])
def test_a_time_that_no_calendar_has_is_another(moment: int) -> None:
    entry = packing._entry("x", os.stat_result((0o100600, *[0] * 6, 0, moment, 0)))
    assert 1980 <= entry.date_time[0] <= 2107


def test_names_are_harmless_by_the_rule_for_uploads() -> None:
    seen: dict[str, int] = {}
    for number in range(sys.maxunicode + 1):
        c = chr(number)
        category = unicodedata.category(c)
        if seen.setdefault(category, 0) > 300 or c in "/\\":
            continue
        seen[category] += 1
        try:
            allowed = file_name(f"a{c}b") == f"a{c}b"
        except (BadFileName, UnicodeEncodeError):
            allowed = False
        if category != "Cs" or 0xDC80 <= number <= 0xDCFF:
            assert (harmless(f"a{c}b") == f"a{c}b") == allowed, hex(number)
    assert len(seen) > 25


def test_every_name_is_given_once_and_soon() -> None:
    """Thousands of names that come to be one and the same, and numbers that are taken already."""
    names = Names()
    variants = ["".join("\\" if n >> i & 1 else "%5c" for i in range(12)) for n in range(4096)]
    given = [names.of(name) for name in [*variants, "x%5c~2", "x%5c~3", "x%5c", "x\\", "X", "x"]]
    assert len(set(given)) == len(given)
    assert given[-4:] == ["x%5c", "x%5c~4", "X", "x"]


def test_nothing_is_kept_of_what_is_not_named() -> None:
    listed = Listed()
    listed.add("x" * 5000)
    assert listed.paths == ["x" * tree.LONGEST_NAMED]


def test_more_entries_than_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_ENTRIES", 10)
    for number in range(11):
        (tmp_path / f"{number}").touch()
    with pytest.raises(TooLarge):
        pack(tmp_path, io.BytesIO(), 1 << 30)
