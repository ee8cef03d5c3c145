"""A results.zip made to harm whoever unpacks it: nothing lands outside, and nothing takes another's place."""

import io
import ntpath
import os
import stat
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import httpx2
import pytest

from orchestrator_agent import tree as trees
from orchestrator_agent.naming import Names
from orchestrator_agent.packing import pack
from tests.cluster.place import Place, until
from tests.cluster.test_files import extract_with

TREE = Path(__file__).parent / "tree.py"
TOOLS, CARELESS = ["python", "Info-ZIP", "bsdtar", "7z"], "none that is careful"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    subprocess.run([sys.executable, str(TREE)], cwd=folder, check=True)
    return folder


def packed(folder: Path, target: Path) -> Path:
    with target.open("wb") as file:
        pack(folder, file, 1 << 30)
    return target


def findings(archive: Path) -> set[str]:
    """Return what could do harm on some system, by the names and modes in the zip."""
    with zipfile.ZipFile(archive) as found:
        entries = found.infolist()
    names = [entry.filename for entry in entries]
    base, wrong = "C:\\base", set()
    for name in names:
        landed = ntpath.normpath(ntpath.join(base, *(p.rstrip(". ") for p in name.split("/"))))
        if not landed.startswith(base + "\\") or name.startswith("/") or ".." in name.split("/"):
            wrong.add("outside")
        if "\\" in name or not all(c.isprintable() for c in name):
            wrong.add("characters")
        if any(len(part.encode()) > 255 for part in name.split("/")):
            wrong.add("length")
    if len({unicodedata.normalize("NFC", name) for name in names}) < len(names):
        wrong.add("same")
    if any(entry.external_attr >> 16 & 0o7000 for entry in entries):
        wrong.add("mode")
    return wrong


def harm(archive: Path, tool: str, outer: Path) -> set[str]:
    """Unpack it with a tool of everyday use, and tell what is wrong with what that leaves, and where."""
    inner, wrong = outer / "a/b", set()
    inner.mkdir(parents=True)
    try:
        carelessly(archive, inner) if tool == CARELESS else extract_with(tool, archive, inner)
    except AssertionError:
        wrong.add("the tool fails")
    if [path for path in outer.rglob("*") if inner not in {path, *path.parents}] != [outer / "a"]:
        wrong.add("outside")
    found = list(inner.rglob("*"))
    if any(path.is_symlink() or path.lstat().st_mode & 0o7000 for path in found):
        wrong.add("mode")
    files = [path.read_bytes() for path in found if path.is_file()]
    with zipfile.ZipFile(archive) as members:
        sent = [members.read(entry) for entry in members.infolist() if not entry.is_dir()]
    assert len(set(sent)) == len(sent) > 70
    if sorted(files) != sorted(sent):
        wrong.add("lost")
    return wrong


def carelessly(archive: Path, folder: Path) -> None:
    """Unpack as a program does that believes the names, on a system where a backslash parts them."""
    with zipfile.ZipFile(archive) as members:
        for entry in members.infolist():
            target = Path(os.path.normpath(folder / entry.filename.replace("\\", "/")))
            if not entry.is_dir() and not target.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(members.read(entry))


@pytest.mark.parametrize("tool", [*TOOLS, CARELESS])
def test_a_hostile_tree_does_no_harm_when_unpacked_with(
    tree: Path, tmp_path: Path, tool: str
) -> None:
    archive = packed(tree, tmp_path / "results.zip")
    assert findings(archive) == set()
    assert harm(archive, tool, tmp_path / "outer") == set()


def test_names_as_they_were_would_do_harm(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AsTheyWere(Names):
        def of(self, name: str, *, top: bool = False) -> str:
            return os.fsencode(name).decode(errors="replace")

    monkeypatch.setattr(trees, "Names", AsTheyWere)
    monkeypatch.setattr(stat, "S_IFMT", lambda mode: mode)
    archive = packed(tree, tmp_path / "results.zip")
    assert findings(archive) == {"outside", "characters", "same", "mode"}
    found = {tool: harm(archive, tool, tmp_path / tool) for tool in (*TOOLS, CARELESS)}
    # The others look after themselves, in their versions of today.
    assert found["bsdtar"] >= {"mode", "lost"}
    assert found[CARELESS] >= {"outside", "lost"}


def test_what_is_called_otherwise_is_told(tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tree, tmp_path / "results.zip")) as archive:
        names, comment = archive.namelist(), archive.comment.decode()
        read = {name: archive.read(name) for name in names}
    count, *told = comment.splitlines()
    # Of each path that is not what its file holds, some part is told of.
    other = {name for name in names if read[name] and read[name] != name.encode()}
    assert {
        name for name in other if not any(f"{name}/".startswith(f"{t}/") for t in told)
    } == set()
    assert all(any(f"{name}/".startswith(f"{t}/") for name in other) for t in told)
    assert count.startswith(f"{len(told)} named otherwise")
    assert read["..%5c..%5cout"] == b"..\\..\\out"
    assert read["evil%e2%80%aegpj.sh"] == "evil\u202egpj.sh".encode()
    # Those that would be one.
    assert {read["%ff%fe"], read["%ff%fe~2"]} == {b"%ff%fe", b"\xff\xfe"}
    assert read["\u00e9~2"] == "\u00e9".encode()
    # And what harms nobody is called as it was.
    for name in ("CON", "-rf", "$(id)", "\u00fc" * 127, "e\u0301", "README", "Readme", "readme~2"):
        assert read[name] == name.encode()


@pytest.mark.timeout(300)
def test_more_entries_than_a_short_count_holds_come_out_of_every_tool(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for number in range(66_000):
        (work / f"{number}").touch()
    archive = packed(work, tmp_path / "results.zip")
    # Python is asked in tests/cluster/test_files.py.
    for tool in TOOLS[1:]:
        inner = tmp_path / tool
        inner.mkdir()
        extract_with(tool, archive, inner)
        assert len(os.listdir(inner)) == 66_000, tool


def in_parts(url: str) -> bytes:
    """Return a zip as a client gets it that asks for a few kilobytes at a time."""
    size, data = int(httpx2.head(url).headers["content-length"]), b""
    while len(data) < size:
        part = f"bytes={len(data)}-{len(data) + 4999}"
        answer = httpx2.get(url, headers={"Range": part})
        assert answer.status_code == 206
        data += answer.content
    return data


def test_the_zip_that_the_api_serves_does_no_harm(place: Place, tmp_path: Path) -> None:
    """While the job runs, in parts, and at the end."""
    number = place.upload("python3 tree.py; sleep 15", {"tree.py": TREE.read_bytes()})
    partial, whole = (f"{place.front}/download{kind}/{number}" for kind in ("_partial", ""))

    def snapshot() -> bytes:
        data = httpx2.get(partial).content
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return data if "setuid" in archive.namelist() else b""

    served = {"partial": until(snapshot, "a snapshot is there")}
    assert place.wait(number) == "Completed"
    served |= {"whole": httpx2.get(whole).content, "in parts": in_parts(whole)}
    assert served["whole"] == served["in parts"]
    for name, data in served.items():
        archive = tmp_path / f"{name}.zip"
        archive.write_bytes(data)
        assert findings(archive) == set()
        for tool in TOOLS:
            assert harm(archive, tool, tmp_path / name / tool) == set()
