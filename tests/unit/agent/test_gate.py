"""What the agent makes of /job, which the job may write to: each of its checks, and what it is there for."""

import itertools
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator_agent import gate as gates
from orchestrator_agent.gate import Gate, Log
from tests.support import pod as pods
from tests.support.fake_gateway import fake_gateway
from tests.support.job_folder import CORPUS
from tests.support.pod import PlainPod, bundle

LIFTED = 1 << 40
OFF: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "links": lambda patch: patch.setattr(os, "O_NOFOLLOW", 0),
    "kinds": lambda patch: patch.setattr(stat, "S_ISFIFO", lambda _: True),
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    gates.make(tmp_path)
    return tmp_path


@pytest.fixture
def gate(job: Path) -> Iterator[Gate]:
    made = Gate(job, Log(lambda _: None))
    yield made
    made.close()


def replaced(job: Path, kind: str) -> Path:
    """Put something in the place of `stop`; returns the file that it leads to."""
    victim, stop = job / "victim", job / "stop"
    stop.unlink()
    if kind == "link":
        victim.write_text("its own")
        stop.symlink_to(victim)
        return victim
    stop.write_text("its own")
    return stop


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_put_in_a_fifos_place_is_not_written_to(gate: Gate, job: Path, kind: str) -> None:
    victim = replaced(job, kind)
    assert not gate.stop()
    assert victim.read_text() == "its own"


@pytest.mark.parametrize(("kind", "checks"), [("link", OFF), ("file", {"kinds"})])
def test_unchecked_it_would_be_and_the_job_would_count_as_told(
    gate: Gate, job: Path, monkeypatch: pytest.MonkeyPatch, kind: str, checks: set[str]
) -> None:
    victim = replaced(job, kind)
    for check in checks:
        OFF[check](monkeypatch)
    assert gate.stop()
    assert victim.read_text() == "disk\nwn"


@pytest.mark.parametrize("waits", [False, True])
def test_a_fifo_that_nobody_reads_is_not_waited_for(
    gate: Gate, job: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    if waits:
        monkeypatch.setattr(os, "O_NONBLOCK", 0)
    told: list[bool] = []
    agent = threading.Thread(target=lambda: told.append(gate.stop()), daemon=True)
    agent.start()
    agent.join(0.2 if waits else 10)
    assert agent.is_alive() == waits
    if waits:
        reader = os.open(job / "stop", os.O_RDONLY)
        agent.join(10)
        os.close(reader)
    assert told == [waits]


class Endless(Exception):  # noqa: N818
    """The agent would read on."""


@pytest.mark.parametrize("bounded", [True, False])
def test_a_flood_of_log_does_not_keep_the_agent_from_the_gate(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    reads = itertools.count(1)

    def flood(_: int, size: int) -> bytes:
        if next(reads) > 1000:
            raise Endless
        return bytes(size)

    monkeypatch.setattr(os, "read", flood)
    if bounded:
        gate._drain()
        assert next(reads) == 17
        return
    monkeypatch.setattr(gates, "LARGEST_PIPE", LIFTED)
    with pytest.raises(Endless):
        gate._drain()


def fill(gate: Gate, path: Path, data: bytes) -> None:
    """Write as much as there is into a FIFO, while the agent does its work."""
    end = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    for start in range(0, len(data), 1 << 12):
        os.write(end, data[start : start + (1 << 12)])
        gate.wait(0)
    os.close(end)


# Where a job writes → where it would pile up, and the limit.
FULL: dict[str, tuple[str, str]] = {
    "gate": ("_said", "LONGEST_RECORD"),
    "progress": ("_progress", "LONGEST_PROGRESS"),
}


@pytest.mark.parametrize("name", FULL)
def test_of_what_a_job_writes_the_end_is_kept(gate: Gate, job: Path, name: str) -> None:
    kept, limit = FULL[name]
    fill(gate, job / name, bytes(200_000))
    assert len(getattr(gate, kept)) == getattr(gates, limit)


@pytest.mark.parametrize("name", FULL)
def test_unlimited_all_of_it_would_be(
    gate: Gate, job: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kept, limit = FULL[name]
    # Not more than a read can ask for.
    monkeypatch.setattr(gates, limit, 1 << 20)
    fill(gate, job / name, bytes(200_000))
    assert len(getattr(gate, kept)) == 200_000


@pytest.mark.parametrize("limits", [(), ("KEPT_BYTES", "ECHOED_BYTES")])
def test_of_a_log_both_ends_are_kept_and_the_first_megabytes_are_shown(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[str, ...]
) -> None:
    most = (3 * gates.KEPT_BYTES, gates.ECHOED_BYTES + 1000)
    for limit in limits:
        monkeypatch.setattr(gates, limit, LIFTED)
    shown: list[int] = []
    log = Log(lambda data: shown.append(len(data)))
    for _ in range(20):
        log.add(bytes(1 << 20))
    within = (len(log.head) + len(log.tail) <= most[0], sum(shown) <= most[1])
    assert within == ((False, False) if limits else (True, True))


@pytest.mark.parametrize("held", [True, False])
def test_a_log_that_all_writers_have_closed_is_not_an_end(
    job: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    if not held:
        monkeypatch.setattr(os, "O_RDWR", os.O_RDONLY)
    gate = Gate(job, Log(lambda _: None))
    os.close(os.open(job / "log", os.O_WRONLY))
    # Nothing to hear, again and again at once, would be all that the agent hears.
    assert bool(gate._poll.poll(10)) != held
    gate.close()


@pytest.mark.parametrize("first", [False, True])
def test_the_wrapper_has_the_last_word(monkeypatch: pytest.MonkeyPatch, gate: Gate, job: Path, first: bool) -> None:  # fmt: skip
    if first:
        monkeypatch.setattr(gates, "reversed", iter, raising=False)
    fill(gate, job / "gate", b"start\nexit 0 0\ndisk 0 0\n\nexit 5 0\n")
    record = gate.record()
    assert record
    assert record.code == (0 if first else 5)


# Without a line of the agent or its wrapper: the script of the corpus that then has its way, and how.
MUTANTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "begins the wrapper's last line": (
        "wrapper.sh", '  echo "\n$why $code $oom" >&3', '  echo "$why $code $oom" >&3', {"why": "lost"},
    ),
    "says that its pod is to end": (
        "__main__.py", 'if record.why != "terminated":', "if record:", {"why": "terminated"},
    ),
    "says all that the wrapper could say": (
        "gate.py", "in reversed(self._said", "in list(self._said", {"why": "exit", "exitCode": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_check_a_job_would_deceive_the_agent_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, line, other, deceived = MUTANTS[name]
    package = tmp_path / "mutant" / pods.PACKAGE.name
    shutil.copytree(pods.PACKAGE, package)
    text = (package / file).read_text()
    assert text.count(line) == 1
    (package / file).write_text(text.replace(line, other))
    monkeypatch.setattr(pods, "PACKAGE", package)
    script, why, code = CORPUS[name]
    with fake_gateway() as gateway:
        gateway.inputs = bundle(run_sh=script)
        pod = PlainPod(tmp_path, gateway.url)
        pod.start_agent()
        pod.start_main()
        assert pod.finish()[0] == 0
        pod.close()
        end = gateway.end
    assert {key: end.get(key) for key in deceived} == deceived
    assert (end["why"], end.get("exitCode")) != (why, code)
