"""How much disk a job takes is known, whatever it does so as not to be counted."""

import os
import resource
import threading
from pathlib import Path

import pytest

from orchestrator_agent import tree, watching
from orchestrator_agent.measuring import BLOCK, DEEPEST_MEASURED, TooDeep, used_bytes
from tests.unit.agent.trees import deep


def test_the_disk_is_measured_however_many_folders_are_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more than can be remembered it was not measured any more, and a job could take it all."""
    monkeypatch.setattr(tree, "MOST_FOLDERS", 10)
    for number in range(100):
        (tmp_path / f"{number}" / "inner").mkdir(parents=True)
    assert used_bytes([tmp_path]) == 200 * BLOCK


def test_a_folder_that_holds_one_hard_link_is_counted(tmp_path: Path) -> None:
    """Only empty ones were: a million folders, each with a link to the same file, counted as one."""
    (tmp_path / "file").touch()
    for number in range(10):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "link").hardlink_to(tmp_path / "file")
    assert used_bytes([tmp_path]) == 11 * BLOCK


def test_what_lies_too_deep_to_be_measured_is_too_much(tmp_path: Path) -> None:
    """It counted as nothing: a million files could hide there."""
    levels = DEEPEST_MEASURED + 1
    here = deep(tmp_path, levels, b"d")
    before = os.listdir("/proc/self/fd")
    assert used_bytes([tmp_path]) == levels * BLOCK
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    with pytest.raises(TooDeep, match="more than 400 deep"):
        used_bytes([tmp_path])
    assert len(os.listdir("/proc/self/fd")) == len(before)
    os.close(here)


def test_measuring_the_disk_ends_where_there_is_too_much(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}").touch()
    assert used_bytes([tmp_path]) == 100 * BLOCK
    assert used_bytes([tmp_path], lambda used: used > 10 * BLOCK) == 11 * BLOCK


def test_a_folder_that_cannot_be_opened_for_want_of_descriptors_is_too_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the limit met the opening of a folder, all below it counted as nothing."""
    os.close(deep(tmp_path, 40, b"d"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(1, 40, 7):
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + more, hard))
        try:
            with pytest.raises(TooDeep, match="too deep to be opened"):
                used_bytes([tmp_path])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def watched(monkeypatch: pytest.MonkeyPatch, *answers: int | Exception) -> tuple[list[str], int]:
    """Have the disk watch measure this and no more; returns what it said, and how often it told."""
    left, over, told = list(answers), threading.Event(), 0
    said: list[str] = []

    def used(*_: object) -> int:
        if not left:
            over.set()
            return 0
        if isinstance(answer := left.pop(0), Exception):
            raise answer
        return answer

    def tell() -> bool:
        nonlocal told
        told += 1
        return True

    monkeypatch.setattr(watching, "used_bytes", used)
    monkeypatch.setattr(watching, "DISK_SECONDS", 0.01)
    watch = watching.DiskWatch([Path("/")], 1, tell, said.append)
    watch.start()
    assert over.wait(10)
    watch.stop()
    return said, told


def test_a_disk_that_cannot_be_measured_once_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, told = watched(monkeypatch, OSError("gone"), 2, OSError("gone"), 2, 2)
    assert [line.split(":")[0] for line in said] == [
        "cannot measure the disk this time", "cannot measure the disk this time", "stopping the job",
    ]  # fmt: skip
    assert told == 1


def test_what_was_moved_while_it_was_measured_is_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert watched(monkeypatch, 2, 1, 2, 1) == ([], 0)


def test_a_job_is_stopped_for_folders_that_lie_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = TooDeep("it has folders in folders, more than 400 deep")
    assert watched(monkeypatch, deep, deep) == ([f"stopping the job: {deep}"], 1)
