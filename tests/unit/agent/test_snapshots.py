"""When partial results are saved: paced by what one costs, and only what is new."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator_agent import snapshots
from orchestrator_agent.gateway import Gateway, Sink
from orchestrator_agent.settings import Settings
from orchestrator_agent.snapshots import Snapshots
from tests.support.pod import wait_until

SHORT = 0.05


class Slow:
    """A gateway that takes its time over each snapshot, and notes when each began and ended."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.took: list[tuple[float, float]] = []
        self._one = threading.Lock()

    def put(self, path: str, write_to: Callable[[Sink], None]) -> dict[str, Any]:
        assert path == "/snapshot"
        assert self._one.acquire(blocking=False), "two at once"
        began = time.monotonic()
        write_to(self)
        time.sleep(self.seconds)
        self.took.append((began, time.monotonic()))
        self._one.release()
        return {}

    def write(self, data: bytes) -> int:
        return len(data)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.setattr(snapshots, "SHORTEST_PAUSE_SECONDS", SHORT)
    gateway = Slow()
    settings = Settings(
        gateway="http://x", token=tmp_path / "token", work=tmp_path / "work", job=tmp_path,
        scratch=tmp_path, result_bytes=1 << 30, snapshot_bytes=1 << 30, disk_bytes=1 << 30,
        upload_seconds=1, isolation_required=True,
    )  # fmt: skip
    settings.work.mkdir()
    (settings.work / "out").write_text("0")
    thread = Snapshots(cast("Gateway", gateway), settings, lambda _: None)
    thread.start()
    yield gateway
    thread.stop()


def test_what_does_not_change_is_saved_once(slow: Slow, tmp_path: Path) -> None:
    wait_until(lambda: bool(slow.took), "it is saved")
    time.sleep(10 * SHORT)
    assert len(slow.took) == 1
    (tmp_path / "work/out").write_text("something new")
    wait_until(lambda: len(slow.took) == 2, "it is saved again")
    time.sleep(10 * SHORT)
    assert len(slow.took) == 2


def test_saving_takes_at_most_a_tenth_of_the_time(slow: Slow, tmp_path: Path) -> None:
    slow.seconds = 2 * SHORT

    def written() -> bool:
        (tmp_path / "work/out").write_text("x" * (time.monotonic_ns() % 10_000))
        return len(slow.took) >= 3

    wait_until(written, "it is saved three times")
    for (began, ended), (again, _) in zip(slow.took, slow.took[1:], strict=False):
        assert again - ended >= 10 * (ended - began)
