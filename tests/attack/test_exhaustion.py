"""A run.sh that takes all it can get of a node: it ends with a reason, and nobody else is hurt."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip
from tests.cluster.test_life import SMALL, Numbers, service

OUT_OF_MEMORY, OUT_OF_DISK = ("Failed", "OOMKilled"), ("Failed", "DiskLimitExceeded")
OUT_OF_TIME, WELL = ("Failed", "DeadlineExceeded"), ("Completed", "Succeeded")
# Which of its limits it meets first is a matter of the node's speed.
EITHER = ("Failed", "OOMKilled or DeadlineExceeded")
DISK_OR_TIME = ("Failed", "DiskLimitExceeded or DeadlineExceeded")
# A seven is what a script ends with that was told that there is no more.
REFUSED = ("Failed", "NonZeroExit")


def python(text: str) -> str:
    return f"exec python3 -c '\n{text}\n'"


Offenders = dict[str, tuple[str, tuple[str, str]]]
# Name → run.sh, and the end that it must come to. Log floods, full disks and too much memory are
# in tests/cluster/test_life.py.
OFFENDERS: Offenders = {
    "starts threads": (
        python("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()"),
        EITHER,
    ),
    "opens files without end": (
        # More than one process may have open, in many, and kept so; each costs memory of the kernel's.
        python("import os, signal\nfor _ in range(40):\n    if not os.fork(): break\n"
               "try:\n    while True: os.open(\"/dev/null\", 0)\nexcept OSError: signal.pause()"),
        EITHER,
    ),
    "takes every terminal": (
        python("import os\ntry:\n    while True: os.open(\"/dev/ptmx\", os.O_RDWR | os.O_NOCTTY)\n"
               "except OSError: raise SystemExit(7)"),
        REFUSED,
    ),
    "takes every inotify of its user": (
        python("import ctypes\nwhile ctypes.CDLL(None).inotify_init() >= 0: pass\nraise SystemExit(7)"),
        REFUSED,
    ),
    "makes a million empty files": (
        python("import os\nfor n in range(1_000_000):\n    if n % 1000 == 0: os.mkdir(f\"{n}\")\n"
               "    open(f\"{n // 1000 * 1000}/{n}\", \"w\").close()"),
        DISK_OR_TIME,
    ),
    "hides empty files where nobody looks": (
        python("import os\nfor _ in range(402):\n    os.mkdir(\"d\")\n    os.chdir(\"d\")\n"
               "n = 0\nwhile True:\n    n += 1\n    open(f\"{n}\", \"w\").close()"),
        OUT_OF_DISK,
    ),
    "leaves terabytes of nothing": (
        "truncate -s 1T huge; truncate -s 1T /tmp/huge", ("Failed", "ResultsTooLarge"),
    ),
    "floods its disk and copies it": (
        "head -c 40000000 /dev/urandom > big; while :; do cat big >/dev/null; cp big /tmp/big; done",
        OUT_OF_DISK,
    ),
    "thrashes the page cache": (
        "head -c 50000000 /dev/zero > big; while :; do cat big >/dev/null; done", OUT_OF_TIME,
    ),
    "keeps deleted files open": (
        # Nobody but the node itself sees these: SECURITY.md says so. They go with the job.
        python("kept = []\nimport os\nfor n in range(20):\n    kept.append(open(\"d\", \"wb\"))\n"
               "    os.unlink(\"d\")\n    kept[-1].write(bytes(10_000_000))"),
        WELL,
    ),
    "fills its shared memory": ("head -c 100000000 /dev/zero > /dev/shm/x; exit $?", OUT_OF_MEMORY),
    "floods its container's own log": ("head -c 1000000000 /dev/zero > /proc/1/fd/1", WELL),
    "burns every processor": (
        "for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait", OUT_OF_TIME,
    ),
}  # fmt: skip
# Until no process can be made any more, SIGTERM or not: the wrapper cannot make one either.
MOST_PROCESSES = python("""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("out", "w").write("x")
while True:
    try:
        if not os.fork():
            time.sleep(1000)
    except OSError:
        time.sleep(0.001)
""")
# None of them waits: without the wrapper's lead it would not come to its turn for minutes.
FORK_BOMB = "b() { b | b & }; b; echo > out; sleep 1000"
# Some seconds of its share of a processor.
WORK = "python3 -c 'for n in range(4_000_000): n * n'; echo done > done"


def conditions(place: Place) -> dict[str, Any]:
    """Return what each node says about itself, and since when."""
    nodes = json.loads(place.kubectl("get", "nodes", "-ojson"))["items"]
    return {
        f"{node['metadata']['name']} {c['type']}": (c["status"], c["lastTransitionTime"])
        for node in nodes for c in node["status"]["conditions"]
    }  # fmt: skip


@contextmanager
def offending(place: Place, name: str, offenders: Offenders, **spec: Any) -> Iterator[Numbers]:
    """Start all of them beside a neighbour who does his work; none may be felt by the node."""
    place = replace(place, made=[])
    service(
        place, name, deadlineSeconds=15, results={"maxBytes": 60_000_000},
        resources={**SMALL, "cpu": "150m"}, **spec,
    )  # fmt: skip
    place.apply("OrchestratorQuota", name, {"services": [name]})
    before = conditions(place)
    neighbour = place.upload(WORK)
    try:
        yield {
            key: place.upload(script, service=name, user=700 + n)
            for n, (key, (script, _)) in enumerate(offenders.items())
        }
        assert place.wait(neighbour) == "Completed"
        assert unzip(place.poll(neighbour).content)["done"] == b"done\n"
    finally:
        place.forget()
    assert conditions(place) == before


@pytest.fixture(scope="module")
def offenders(chosen: Place) -> Iterator[Numbers]:
    with offending(chosen, "offenders", OFFENDERS) as numbers:
        yield numbers


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OFFENDERS)
def test_a_run_sh_that(place: Place, offenders: Numbers, name: str) -> None:
    comes_to(place, offenders[name], OFFENDERS[name][1])


def comes_to(place: Place, number: int, end: tuple[str, str]) -> None:
    # What hundreds of thousands of files cost to be closed comes out of the job's own share, too.
    place.wait(number, seconds=200)
    status = place.job(number)["status"]
    phase, reasons = end
    assert status["phase"] == phase, status
    assert status["reason"] in reasons.split(" or "), status
    # A node that starts dozens of pods at once may take half a minute from one container of a pod to
    # the other, and only then is the pod shut in: that attempt is not the job's.
    late = place.kubectl(
        "get", "events", "--output=name",
        f"--field-selector=involvedObject.name=job-{number},reason=NetworkNotIsolated",
    )  # fmt: skip
    assert status["attempt"] == 1 + len(late.split())
    assert status["message"]


def test_it_is_its_limit_that_ends_each(place: Place) -> None:
    """The counter-proof of memory, disk and time; processes and terminals are the kubelet's and the node's."""
    large = {"cpu": "500m", "memory": "1Gi", "ephemeralStorage": "1Gi"}
    service(place, "roomy", deadlineSeconds=20, resources=large)
    # What a container shares has an end of its own, of 64 MiB.
    otherwise = {"fills its shared memory": REFUSED, "floods its disk and copies it": OUT_OF_TIME}
    numbers = {name: place.upload(OFFENDERS[name][0], service="roomy") for name in otherwise}
    patient = place.upload("sleep 16", service="roomy")
    for name, end in otherwise.items():
        assert end != OFFENDERS[name][1]
        comes_to(place, numbers[name], end)
    # The offenders have 15 s.
    comes_to(place, patient, WELL)


@pytest.mark.parametrize("script", [MOST_PROCESSES, FORK_BOMB], ids=["them all", "a fork bomb"])
def test_a_run_sh_that_takes_every_process_there_is_ends_at_its_deadline(
    place: Place, script: str
) -> None:
    before = conditions(place)
    resources = {**SMALL, "cpu": "150m", "memory": "4Gi"}
    name = service(place, "crowded", deadlineSeconds=12, resources=resources)
    number = place.upload(script, service=name)
    place.wait(number, seconds=100)
    status = place.job(number)["status"]
    assert (status["phase"], status["reason"], status["attempt"]) == (*OUT_OF_TIME, 1), status
    assert status["results"]
    assert conditions(place) == before


def test_what_the_kernel_counts_by_user_is_of_each_job_alone(place: Place) -> None:
    nodes = json.loads(place.kubectl("get", "nodes", "-ojson"))["items"]
    handlers = [h for node in nodes for h in node["status"]["runtimeHandlers"] if not h["name"]]
    assert all(handler["features"]["userNamespaces"] for handler in handlers)
    takes_all = (
        "import ctypes\nn = 0\nwhile ctypes.CDLL(None).inotify_init() >= 0: n += 1\nprint(n)"
    )
    holds_all = f"python3 -uc '{takes_all}\nimport time\ntime.sleep(600)'"

    def beside_a_holder(service: str, user: int) -> dict[str, bytes]:
        """Return what a job finds there is, beside another that holds all there was."""
        holder = place.upload(holds_all, service=service, user=user)
        log = ("logs", f"job-{holder}-1", "--container=agent")
        until(
            lambda: re.search(r"^\d+$", place.kubectl(*log, check=False), re.MULTILINE),
            "it holds all",
        )
        script = f"python3 -c '{takes_all}' > all; cat /proc/self/uid_map > users"
        other = place.upload(script, service=service, user=user + 1)
        assert place.wait(other) == "Completed"
        return unzip(place.poll(other).content)

    found = beside_a_holder("example", 41)
    assert int(found["all"]) > 100
    inside, outside, _ = map(int, found["users"].split())
    assert inside == 0
    assert outside > 0
    # Where both are users of the node's, the first leaves the second nothing.
    found = beside_a_holder(service(place, "shared", hostUsers=True), 43)
    assert int(found["all"]) < 10
