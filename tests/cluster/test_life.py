"""Whatever becomes of a job: the right phase, a reason that a person understands, and its bytes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2
import pytest

from local.paths import STATE
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip

SMALL = {"cpu": "100m", "memory": "64Mi", "ephemeralStorage": "64Mi"}
Numbers = dict[str, int]
Corpus = dict[str, tuple[str, str, str, str]]
# Name → run.sh, the phase and reason that it must end in, what its log or message must hold, and
# a file that must be in what it left.
CORPUS: Corpus = {
    "ends well": ("echo x > out", "Completed", "Succeeded", "exit code 0"),
    "writes nothing": ("true", "Completed", "Succeeded", "exit code 0"),
    "is empty": ("", "Completed", "Succeeded", "exit code 0"),
    "has no shebang and no line end": ("exit 5", "Failed", "NonZeroExit", "exit code 5"),
    "has CRLF line ends": ("#!/bin/bash\r\nexit 5\r\n", "Failed", "NonZeroExit", "exit code 2"),
    "has a shebang of its own": ("#!/usr/bin/python3\nexit 6", "Failed", "NonZeroExit", "exit code 6"),
    "begins with a byte order mark": ("\ufeffexit 5", "Failed", "NonZeroExit", "exit code 127"),
    "is a program": ("\x7fELF\0\1", "Failed", "NonZeroExit", "exit code 126"),
    "does not parse": ("if; then", "Failed", "NonZeroExit", "syntax error"),
    "ends with 255": ("exit 255", "Failed", "NonZeroExit", "exit code 255"),
    "kills itself": ("kill -KILL $$", "Failed", "NonZeroExit", "exit code 137"),
    "dumps core": ("kill -SEGV $$", "Failed", "NonZeroExit", "exit code 139"),
    "leaves daemons": (
        "for i in 1 2 3; do (trap '' TERM HUP; setsid sleep 300) & done; echo x > out",
        "Completed", "Succeeded", "exit code 0",
    ),
    "never lets go of its output": ("(exec sleep 300) & exit 0", "Completed", "Succeeded", "code 0"),
    "closes its output": ("exec >&- 2>&-; sleep 1; exit 4", "Failed", "NonZeroExit", "code 4"),
    "stops itself for a while": (
        "(sleep 1; kill -CONT $$) & kill -STOP $$; exit 0", "Completed", "Succeeded", "code 0",
    ),
    "floods its log": (
        "head -c 300000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 9",
        "Failed", "NonZeroExit", "the end",
    ),
    "needs too much memory": (
        "exec python3 -c 'x = bytearray(10**9)'", "Failed", "OOMKilled", "memory",
    ),
    "has a child that needs too much memory": (
        "python3 -c 'x = bytearray(10**9)'; exit $?", "Failed", "OOMKilled", "memory",
    ),
    "copes with a child that needs too much memory": (
        "python3 -c 'x = bytearray(10**9)' || true; echo x > out",
        "Completed", "Succeeded", "exit code 0",
    ),
    "fills its disk": (
        "echo x > out; while :; do head -c 1000000 /dev/zero >> big; sleep 0.05; done",
        "Failed", "DiskLimitExceeded", "more disk than its service allows",
    ),
    "fills its /tmp": (
        "echo x > out; while :; do head -c 1000000 /dev/zero >> /tmp/big; sleep 0.05; done",
        "Failed", "DiskLimitExceeded", "more disk than its service allows",
    ),
    "takes too long": ("echo x > out; sleep 300", "Failed", "DeadlineExceeded", "longer than its"),
    "takes too long and ignores SIGTERM": (
        "trap '' TERM; echo x > out; while :; do sleep 1; done",
        "Failed", "DeadlineExceeded", "longer than its service allows",
    ),
    "leaves too much": (
        "head -c 30000000 /dev/urandom > big", "Failed", "ResultsTooLarge", "too large to be kept",
    ),
}  # fmt: skip


def gone(place: Place, number: int) -> bool:
    return not place.job(number)


def service(place: Place, name: str, **spec: Any) -> str:
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    place.apply("OrchestratorService", name, {
        "image": image, "nodePools": ["cpu"], "resources": SMALL, "graceSeconds": 1, **spec,
    })  # fmt: skip
    until(lambda: place.get("osvc", name).get("status", {}).get("conditions"), "it is judged")
    return name


@contextmanager
def uploaded(place: Place, name: str, corpus: Corpus = CORPUS, **spec: Any) -> Iterator[Numbers]:
    """Upload all of them at once, to be waited for one by one."""
    # With a list of its own: what one test made is taken away at that test's end.
    place = replace(place, made=[])
    service(place, name, **{"deadlineSeconds": 30, "results": {"maxBytes": 20_000_000}, **spec})
    place.apply("OrchestratorQuota", name, {"services": [name], "maxRunningPerUser": 10})
    try:
        yield {
            key: place.upload(script, service=name, user=500 + n)
            for n, (key, (script, *_)) in enumerate(corpus.items())
        }
    finally:
        place.forget()


@pytest.fixture(scope="module")
def corpus(chosen: Place) -> Iterator[Numbers]:
    with uploaded(chosen, "corpus") as numbers:
        yield numbers


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CORPUS)
def test_a_run_sh_that(place: Place, corpus: Numbers, name: str) -> None:
    ends_as_told(place, corpus[name], CORPUS[name])


def ends_as_told(place: Place, number: int, told: tuple[str, str, str, str]) -> None:
    script, phase, reason, words = told
    place.wait(number, seconds=200)
    status = place.job(number)["status"]
    assert (status["phase"], status["reason"]) == (phase, reason), status
    assert words in status["message"]
    assert status["attempt"] == 1
    assert status["finishedAt"]
    # What it left is kept, but for what is more than may be kept.
    assert bool(status.get("results")) == (reason != "ResultsTooLarge")
    if "> out" in script:
        left = httpx2.get(f"{place.front}/download_partial/{number}", timeout=60)
        assert unzip(left.content)["out"] == b"x\n"


def test_progress_is_in_status_and_in_the_poll(place: Place) -> None:
    number = place.upload("echo 3/10 refining > $ORCHESTRATOR_PROGRESS; sleep 30")
    place.wait(number, "Running")
    message = "The job is running: 3/10 refining"
    until(lambda: place.poll(number).json()["message"] == message, "the poll tells the progress")
    progress = place.job(number)["status"]["progress"]
    assert (progress["done"], progress["total"]) == (3, 10)
    httpx2.post(f"{place.front}/terminate/{number}")


def test_a_large_working_directory_is_saved_once_somebody_asks(place: Place) -> None:
    service(place, "large-work", results={"maxPacedSnapshotBytes": 1000})
    number = place.upload("head -c 5000 /dev/zero > big; sleep 60", service="large-work")
    place.wait(number, "Running")
    until(lambda: place.job(number)["status"]["snapshots"] == "OnRequest", "the agent says so")
    folder = place.job(number)["spec"]["inputs"]["key"].split("/")[1]
    kept = STATE / "object-store/orchestrator/jobs" / folder
    assert {path.name for path in kept.iterdir()} == {"inputs.zip"}

    def asked() -> bool:
        answer = httpx2.get(f"{place.front}/download_partial/{number}")
        return "big" in unzip(answer.content)

    until(asked, "the file is there")
    httpx2.post(f"{place.front}/terminate/{number}")


def test_a_suspicious_script_is_noted_and_runs_all_the_same(place: Place) -> None:
    number = place.upload("curl --version >/dev/null 2>&1\ntrue")
    assert place.wait(number) == "Completed"
    assert place.job(number)["spec"]["inputs"]["findings"] == ["line 1: network tool (curl)"]


def test_a_suspicious_script_is_invalid_where_that_is_enforced(place: Place) -> None:
    service(place, "strict", scriptPolicy="Enforce")
    number = place.upload("echo a\nsudo true", service="strict")
    assert place.wait(number) == "Invalid"
    assert place.poll(number).json()["message"] == (
        "run.sh holds what its service does not allow: line 2: privilege escalation (sudo)."
    )
    status = place.job(number)["status"]
    assert (status["reason"], status["attempt"]) == ("ScriptRefused", 0)
    assert place.wait(place.upload("echo a", service="strict")) == "Completed"


def test_a_job_expires_and_its_record_says_what_it_was(place: Place) -> None:
    service(place, "brief", retention={"resultsSeconds": 4, "failedSeconds": 2})
    completed = place.upload("echo x > out", service="brief")
    failed = place.upload("exit 3", service="brief")
    assert place.wait(completed) == "Completed"
    assert place.wait(failed, "Failed", "Cleaned")
    place.wait(completed, "Cleaned")
    place.wait(failed, "Cleaned")
    message = place.poll(completed).json()["message"]
    assert re.search(r"deleted on .*submit it again.*ended as Completed: run.sh ended", message)
    message = place.poll(failed).json()["message"]
    assert "It had ended as Failed: run.sh ended with exit code 3." in message
    for number in (completed, failed):
        until(partial(gone, place, number), "the resource is gone")
        assert httpx2.post(f"{place.front}/terminate/{number}").status_code == 409
        left = httpx2.get(f"{place.front}/download_partial/{number}")
        assert left.json()["status"] == "Cleaned"


def test_a_failure_is_a_kubernetes_event_and_a_success_is_none(place: Place) -> None:
    good, bad = place.upload("true"), place.upload("exit 3")
    place.wait(good)
    place.wait(bad)

    def events(number: int) -> str:
        selector = f"--field-selector=involvedObject.name=job-{number}"
        return place.kubectl("get", "events", selector, "--no-headers")

    until(lambda: "NonZeroExit" in events(bad), "the failure is an event")
    assert "NonZeroExit" in place.kubectl("describe", "oj", f"job-{bad}")
    assert events(good) == "" or "No resources" in events(good)


def test_a_job_that_no_node_will_ever_fit_is_invalid_at_once_and_told_why(place: Place) -> None:
    service(place, "huge", resources={**SMALL, "cpu": "1000"})
    number = place.upload("true", service="huge")
    assert place.wait(number) == "Invalid"
    status = place.job(number)["status"]
    assert status["reason"] == "NeverFits"
    assert "so it would wait for ever" in status["message"]


def test_a_job_that_waits_for_a_node_can_be_stopped(place: Place) -> None:
    # Nodes may come for pods that wait: so this one is made, and waits.
    place.apply("OrchestratorNodePool", "cloud", {"nodeSelector": {"cloud": "1"}, "elastic": True})
    service(place, "bursts", nodePools=["cloud"])
    number = place.upload("true", service="bursts")
    place.wait(number, "Submitted")
    until(lambda: place.job(number)["status"]["reason"] == "Unschedulable", "the reason is told")
    httpx2.post(f"{place.front}/terminate/{number}")
    assert place.status(number) == "Killed"
    until(lambda: place.job(number)["status"]["phase"] == "Killed", "its end is recorded")
    until(lambda: not place.get("pod", f"job-{number}-1"), "the pod is gone")


@pytest.mark.parametrize("when", ["staging in", "staging out"])
def test_a_job_that_is_stopped_while_its_files_move_ends_once(place: Place, when: str) -> None:
    service(place, "mover", resources={**SMALL, "ephemeralStorage": "1Gi"})
    big = {"big": bytes(80_000_000)} if when == "staging in" else {}
    script = "true" if big else "head -c 150000000 /dev/urandom > big; echo x > out"
    number = place.upload(script, big, service="mover")
    if when == "staging in":
        place.wait(number, "Running", "Completed")
    else:

        def main_is_over() -> bool:
            pod = place.get("pod", f"job-{number}-1")
            states = {
                c["name"]: c["state"] for c in pod.get("status", {}).get("containerStatuses", ())
            }
            return "terminated" in states.get("main", {}) or place.status(number) == "Completed"

        until(main_is_over, "run.sh has ended")
    answer = httpx2.post(f"{place.front}/terminate/{number}")
    assert answer.status_code in {200, 409}
    until(lambda: place.job(number)["status"]["phase"] in {"Killed", "Completed"}, "it is over")
    status = place.job(number)["status"]
    wanted = ("Killed", "Terminated") if answer.status_code == 200 else ("Completed", "Succeeded")
    assert (status["phase"], status["reason"]) == wanted
    until(lambda: not place.get("pod", f"job-{number}-1"), "the pod is gone")
    assert place.job(number)["status"]["phase"] == status["phase"]


STOPPED = {
    # What it leaves, and the code it ends with.
    "saves what it has": (
        "trap 'echo saved > saved; exit 7' TERM; echo up; while :; do sleep 0.1; done", "saved", 7,
    ),
    "does not listen": (
        "trap '' TERM; echo left > left; echo up; while :; do sleep 0.1; done", "left", 137,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_a_job_that_is_told_to_stop_and(place: Place, name: str) -> None:
    """By the real kubelet: SIGTERM, its grace, SIGKILL, and then its results."""
    script, left, code = STOPPED[name]
    number = place.upload(script, service=service(place, "graceful", graceSeconds=3))
    log = ("logs", f"job-{number}-1", "--container=agent")
    until(lambda: "up" in place.kubectl(*log, check=False).splitlines(), "it runs")
    assert httpx2.post(f"{place.front}/terminate/{number}").status_code == 200
    until(lambda: place.job(number)["status"]["phase"] == "Killed", "its end is recorded")
    status = place.job(number)["status"]
    assert (status["reason"], status["exitCode"], status["attempt"]) == ("Terminated", code, 1)
    assert place.poll(number).json()["message"].endswith(f" /download_partial/{number}.")
    assert left in unzip(httpx2.get(f"{place.front}/download_partial/{number}").content)
