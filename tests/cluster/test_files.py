"""Files in and out: byte for byte, for every reader, in little memory, and nothing left behind."""

import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from stream_unzip import stream_unzip

from local.paths import STATE
from tests.cluster.place import Place, until
from tests.cluster.test_life import SMALL, service

ZOO = r"""
mkdir -p deep/er/est empty/inner 'a folder'
: > nothing
printf 'ümlaut' > 'ümlaut.txt'
printf 'kanji' > '日本語.txt'
printf 'space' > 'a folder/with space'
printf "it's" > "it's"
head -c 3000000 /dev/urandom > random
head -c 3000000 /dev/zero > zeros
printf 'deep' > deep/er/est/file
printf '#!/bin/sh\n' > tool; chmod 755 tool
printf 'mine' > private; chmod 600 private
printf 'locked' > locked; chmod 0 locked
ln -s /etc/passwd link; ln -s . loop; mkfifo pipe; ln random hard
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
chmod 600 locked
find . -type f ! -name manifest -printf '%P\t%s\t%m\n' | sort > manifest
find . -type f ! -name manifest ! -name sums -exec sha256sum {} + > sums
chmod 0 locked
"""


def extract_with(tool: str, archive: Path, folder: Path) -> None:
    if tool == "python":
        with zipfile.ZipFile(archive) as found:
            assert found.testzip() is None
            found.extractall(folder)
        return
    if tool == "streaming":
        _stream(archive, folder)
        return
    argv = {
        "Info-ZIP": ["unzip", "-q", str(archive), "-d", str(folder)],
        "bsdtar": ["bsdtar", "-x", "-f", str(archive), "-C", str(folder)],
        "7z": ["7zz", "x", "-bd", f"-o{folder}", str(archive)],
    }[tool]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LANG": "C.UTF-8"}
    )
    assert done.returncode == 0, done.stderr + done.stdout


def _stream(archive: Path, folder: Path) -> None:
    with archive.open("rb") as source:
        for name, _, chunks in stream_unzip(iter(lambda: source.read(65536), b"")):
            target = folder / name.decode()
            if name.endswith(b"/"):
                target.mkdir(parents=True, exist_ok=True)
                assert not b"".join(chunks)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(chunks))


ODD = [
    "CON", "-rf", "--help", "$(id)", "`id`", "*", "?", "~", "#x", "a b", "it's", ";ls", "&", "|id",
    "README", "readme", "x" * 255, "\u00fc" * 127, "\u65e5\u672c\u8a9e", "%2e%2e", "a=b", "{a,b}",
]  # fmt: skip


def test_files_with_odd_names_come_to_the_job_as_they_are(place: Place) -> None:
    files = {name: name.encode() * 2 for name in ODD}
    number = place.upload("find . -type f -printf '%P\\t%s\\t%m\\n' > list", files)
    assert place.wait(number) == "Completed"
    with zipfile.ZipFile(io.BytesIO(place.poll(number).content)) as archive:
        lines = archive.read("list").decode().splitlines()
        assert {name: archive.read(name) for name in ODD} == files
    found = {name: (int(size), mode) for name, size, mode in (line.split("\t") for line in lines)}
    assert found.keys() == {*ODD, "run.sh", "list"}
    assert {name: found[name] for name in ODD} == {n: (len(d), "644") for n, d in files.items()}


@pytest.fixture(scope="module")
def zoo(chosen: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    number = chosen.upload(ZOO)
    assert chosen.wait(number) == "Completed"
    status = chosen.job(number)["status"]
    assert status["skipped"]["count"] == 4
    assert sorted(status["skipped"]["names"]) == ["link", "loop", "pipe", "sock"]
    path = tmp_path_factory.mktemp("zoo") / "results.zip"
    path.write_bytes(chosen.poll(number).content)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == status["results"]["sha256"]
    return path


def test_the_zip_holds_names_sizes_modes_and_empty_folders(zoo: Path) -> None:
    with zipfile.ZipFile(zoo) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        manifest = archive.read("manifest").decode()
        expected = [line.split("\t") for line in manifest.splitlines()]
        assert {name for name in entries if not name.endswith("/")} == {
            "manifest", "sums", *(name for name, _, _ in expected),
        }  # fmt: skip
        for name, size, mode in expected:
            assert entries[name].file_size == int(size), name
            if name != "locked":
                assert stat.S_IMODE(entries[name].external_attr >> 16) == int(mode, 8), name
        assert archive.read("locked") == b"locked"
        assert "empty/inner/" in entries
        assert archive.read("hard") == archive.read("random")
        # Whoever opens the zip can see what is not in it.
        assert archive.comment.decode().splitlines()[1:] == ["link", "loop", "pipe", "sock"]


@pytest.mark.parametrize("tool", ["python", "Info-ZIP", "bsdtar", "7z", "streaming"])
def test_every_reader_gets_the_same_files(zoo: Path, tmp_path: Path, tool: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    extract_with(tool, zoo, folder)
    sums = dict(line.split("  ./")[::-1] for line in (folder / "sums").read_text().splitlines())
    assert len(sums) > 10
    (folder / "locked").chmod(0o600)
    # By the sums that the job itself made of them.
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    with zipfile.ZipFile(zoo) as archive:
        for info in archive.infolist():
            path = folder / info.filename
            if info.is_dir():
                assert path.is_dir()
            else:
                path.chmod(0o600)
                assert path.read_bytes() == archive.read(info), info.filename
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.timeout(300)
def test_more_files_than_an_old_zip_can_count(place: Place) -> None:
    name = service(place, "many-files", resources={**SMALL, "cpu": "1", "ephemeralStorage": "1Gi"})
    number = place.upload("mkdir many; cd many; seq 70000 | split -l 1 -d -a 5 -", service=name)
    assert place.wait(number, seconds=200) == "Completed"
    with zipfile.ZipFile(io.BytesIO(place.poll(number).content)) as archive:
        assert len(archive.namelist()) == 70_001
        assert archive.read("many/x69999") == b"70000\n"


@pytest.mark.timeout(300)
def test_a_file_larger_than_an_old_zip_can_hold(place: Place, tmp_path: Path) -> None:
    number = place.upload("truncate -s 4400M big; echo end >> big")
    assert place.wait(number, seconds=200) == "Completed"
    path = tmp_path / "results.zip"
    path.write_bytes(place.poll(number).content)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("big")
        assert info.file_size == 4400 * 1024**2 + 4
    done = subprocess.run(
        ["7zz", "t", "-bd", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def anonymous_bytes(place: Place, part: str = "api") -> int:
    """Return the memory of the container of a part of the system, without the page cache."""
    for line in Path(f"/proc/{place.pid(part)}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            text, word = Path(f"/sys/fs/cgroup/memory{path}/memory.stat").read_text(), "total_rss"
        elif not controllers and Path(f"/sys/fs/cgroup{path}/memory.stat").exists():
            text, word = Path(f"/sys/fs/cgroup{path}/memory.stat").read_text(), "anon"
        else:
            continue
        return int(dict(row.split() for row in text.splitlines())[word])
    raise AssertionError("no memory cgroup")


@contextmanager
def peak(read: Callable[[], int]) -> Iterator[list[int]]:
    """Watch *read* while the block runs; the list then holds its highest value."""
    over, highest = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.02):
            highest[0] = max(highest[0], read())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(300)
def test_three_large_uploads_and_downloads_at_once_take_little_memory(place: Place) -> None:
    service(place, "large", resources={**SMALL, "ephemeralStorage": "1Gi"})
    data = os.urandom(1 << 20) * 200
    digest = hashlib.sha256(data).hexdigest()
    # What other tests have left of it, such as records of a crowd of jobs, is not the files'.
    before = anonymous_bytes(place)
    with peak(lambda: anonymous_bytes(place)) as highest, ThreadPoolExecutor(3) as pool:
        numbers = list(
            pool.map(
                lambda n: place.upload("true", {"big": data}, service="large", user=n), range(3)
            )
        )
        for number in numbers:
            assert place.wait(number, seconds=200) == "Completed"

        def fetch(number: int) -> str:
            with zipfile.ZipFile(io.BytesIO(place.poll(number).content)) as archive:
                return hashlib.sha256(archive.read("big")).hexdigest()

        assert list(pool.map(fetch, numbers)) == [digest] * 3
    print(f"the API's memory: {before / 1e6:.0f} MB, at most {highest[0] / 1e6:.0f} MB")
    assert 20e6 < highest[0] < min(before + 90e6, 150e6)


def unfinished() -> list[Path]:
    """Return what the object store keeps of multipart uploads that are not finished."""
    return list((STATE / "object-store/.minio.sys/multipart").glob("*/*"))


def test_a_client_that_goes_away_leaves_nothing(place: Place) -> None:
    before = place.objects()
    host, port = place.front.removeprefix("http://").split(":")
    head = (
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=M\r\n"
        "Content-Length: 100000000\r\n\r\n"
        '--M\r\nContent-Disposition: form-data; name="file"; filename="run.sh"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + bytes(20_000_000))
        until(unfinished, "a part of it is in the store")
    until(lambda: not unfinished(), "the store has forgotten it")
    assert place.objects() <= before


def test_a_client_that_stops_sending_is_not_waited_for_for_ever(place: Place) -> None:
    host, port = place.front.removeprefix("http://").split(":")
    head = (
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=M\r\n"
        "Content-Length: 1000\r\n\r\n--M\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode())
        started = time.monotonic()
        answer = connection.recv(65536)
        while not answer.endswith(b"}"):  # the body may come in a piece of its own
            answer += (piece := connection.recv(65536))
            assert piece, answer
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"].startswith("The upload stopped")
    assert time.monotonic() - started < 50
