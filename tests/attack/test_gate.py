"""What keeps run.sh from starting while it is not known that its pod is cut off the network."""

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.cluster.place import Place, commands, standing_still, until
from tests.cluster.test_job import unzip
from tests.cluster.test_life import SMALL, service
from tests.cluster.test_recovery import answers

WHEN = "date +%s.%N > started"
CANARY = 8082
PIDFD_GETFD = 438
ONCE = {"retries": {"infrastructure": 0}, "resources": SMALL}


def refused(place: Place, number: int) -> None:
    """Check that a job failed for want of isolation, before run.sh ran."""
    assert place.wait(number, seconds=90) == "Failed"
    status = place.job(number)["status"]
    assert status["reason"] == "NetworkNotIsolated", status
    assert "the pod could still reach a port" in status["message"]
    assert "results" not in status


def test_without_who_enforces_policies_nothing_starts_that_requires_it(place: Place) -> None:
    required = service(place, "walled", **ONCE)
    relaxed = service(place, "unwalled", networkIsolation="BestEffort", **ONCE)
    with standing_still(place.pid("kube-router")):
        numbers = [place.upload(WHEN, service=name) for name in (required, relaxed)]
        refused(place, numbers[0])
        # With the guard off, it does start.
        assert place.wait(numbers[1], seconds=90) == "Completed"
    assert place.wait(place.upload(WHEN, service=required)) == "Completed"


def test_nothing_starts_while_the_canary_is_down(place: Place) -> None:
    name = service(place, "songless", **ONCE)
    relaxed = service(place, "songless-too", networkIsolation="BestEffort", **ONCE)
    api = place.pid("api")
    shut(api, CANARY)
    try:
        numbers = [place.upload(WHEN, service=which) for which in (name, relaxed)]
        refused(place, numbers[0])
        # With the guard off, it does start.
        assert place.wait(numbers[1], seconds=90) == "Completed"
    finally:
        place.kill("api")
        until(lambda: place.pid("api") != api and answers(place), "the API is back")
    assert place.wait(place.upload(WHEN, service=name)) == "Completed"


def shut(pid: int, port: int) -> None:
    """Have a process listen on *port* no more, without its knowing."""
    inodes = {
        words[9]
        for table in ("tcp", "tcp6")
        for words in map(str.split, Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:])
        if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port
    }
    links = {int(d.name): str(d.readlink()) for d in Path(f"/proc/{pid}/fd").iterdir()}
    listening = [fd for fd, link in links.items() if link[:-1].partition("[")[2] in inodes]
    assert listening
    pidfd = os.pidfd_open(pid)
    for descriptor in listening:
        copy = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, descriptor, 0)
        with socket.socket(fileno=copy) as listener:
            listener.shutdown(socket.SHUT_RDWR)
    os.close(pidfd)


@pytest.mark.parametrize("down", [True, False])
def test_nothing_starts_while_the_api_server_is_down(place: Place, down: bool) -> None:
    begun = time.monotonic()
    assert place.wait(place.upload(WHEN)) == "Completed"
    start_and_end = time.monotonic() - begun
    others = agents()
    number = place.upload(WHEN)
    agent = newborn(others)
    # The supervisor would start the API server again at once.
    with standing_still(agent, place.pid("local.node")):
        if down:
            place.kill("kube-apiserver")
            until(lambda: not answers(place), "Kubernetes is down")
        os.kill(agent, signal.SIGCONT)
        time.sleep(2 * start_and_end)
        back_at = time.time()
    assert place.wait(number) == "Completed"
    assert place.job(number)["status"]["attempt"] == 1
    assert (float(unzip(place.poll(number).content)["started"]) > back_at) is down


def agents() -> set[int]:
    return {pid for pid, words in commands() if any("orchestrator_agent" in w for w in words)}


def newborn(others: set[int]) -> int:
    """Return the agent that is not one of *others*, within some milliseconds of its birth."""
    deadline = time.monotonic() + 30
    while not (new := agents() - others):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return min(new)
