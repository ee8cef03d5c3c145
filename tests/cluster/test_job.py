"""The main path, on the real thing: upload, pod, results, and what the administrator sees."""

import hashlib
import io
import re
import time
import zipfile

import httpx2

from tests.cluster.place import Place, examples, until

DOCKING = examples() / "docking"


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_two_proteins_become_a_score(place: Place) -> None:
    files = {n: (DOCKING / n).read_bytes() for n in ("2oob_A.pdb", "2oob_B.pdb")}
    script = (DOCKING / "run.sh").read_text()
    number = place.upload(script, files, service="docking")
    assert place.wait(number) == "Completed"
    answer = place.poll(number)
    found = unzip(answer.content)
    assert {n: found[n] for n in files} == files
    assert found["run.sh"].decode() == script
    assert re.search(r"total\s+865\.\d+", found["gdock.log"].decode())
    recorded = place.job(number)["status"]["results"]
    assert recorded["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert recorded["sizeBytes"] == len(answer.content)
    assert answer.headers["etag"] == f'"{recorded["etag"]}"'


def test_the_example_service_takes_the_same_upload(place: Place) -> None:
    files = {n: (DOCKING / n).read_bytes() for n in ("2oob_A.pdb", "2oob_B.pdb")}
    number = place.upload((DOCKING / "run.sh").read_text(), files)
    assert place.wait(number) == "Completed"
    assert b"total" in unzip(place.poll(number).content)["gdock.log"]


def test_a_happy_job_costs_at_most_six_writes(place: Place) -> None:
    number = place.upload("echo hi")
    place.wait(number)
    until(lambda: not place.get("pod", f"job-{number}-1"), "the pod is gone")
    time.sleep(1)
    verbs = [w["verb"] for w in place.writes(f"job-{number}")]
    assert len(verbs) <= 6, place.writes(f"job-{number}")
    # Create, claim, start and end, and the pod's creation and deletion.
    assert sorted(verbs) == ["create", "create", "delete", "patch", "patch", "patch"]


def test_a_poll_of_a_live_job_costs_no_request_to_kubernetes(place: Place) -> None:
    number = place.upload("sleep 20")
    place.wait(number, "Running")
    time.sleep(1)
    before = len(place.asked("get", "list"))
    for _ in range(100):
        assert place.status(number) == "Running"
    time.sleep(1)
    mine = [a for a in place.asked("get", "list")[before:] if a.get("name") == f"job-{number}"]
    # The agent's own calls read the job live; polls do not.
    assert len(mine) < 10
    httpx2.post(f"{place.front}/terminate/{number}")


def test_a_poll_of_a_job_that_waits_costs_none_at_all(place: Place) -> None:
    place.apply("OrchestratorQuota", "shut", {"onlyUsers": ["78"], "maxRunning": 0})
    number = place.upload("true", user=78)
    until(lambda: place.job(number)["status"].get("reason"), "it is told why it waits")
    time.sleep(1)
    before = len(place.asked("get", "list"))
    for _ in range(100):
        assert place.status(number) == "Queued"
    time.sleep(1)
    asked = place.asked("get", "list")[before:]
    # Lists have no name.
    assert [a for a in asked if a.get("name", f"job-{number}") == f"job-{number}"] == []


def test_the_columns_tell_state_and_reason(place: Place) -> None:
    number = place.upload("exit 3", user=7)
    place.wait(number)
    header, row = place.kubectl("get", "orchestratorjobs", f"job-{number}").splitlines()
    assert header.split() == ["NAME", "SERVICE", "USER", "PHASE", "REASON", "AGE"]
    assert row.split()[:5] == [f"job-{number}", "example", "7", "Failed", "NonZeroExit"]
    wide = place.kubectl("get", "oj", f"job-{number}", "-owide").splitlines()
    assert wide[0].split()[6:] == ["POOL", "NODE", "STARTED", "FINISHED", "EXIT", "MESSAGE"]
    assert "run.sh ended with exit code 3." in wide[1]


def test_a_failed_job_says_why_and_keeps_its_results(place: Place) -> None:
    number = place.upload("echo some result > result; echo no such file >&2; exit 3")
    assert place.wait(number) == "Failed"
    message = place.poll(number).json()["message"]
    assert message == (
        "run.sh ended with exit code 3. The last lines of its log: no such file\n"
        f"What it left is at /download_partial/{number}."
    )
    partial = httpx2.get(f"{place.front}/download_partial/{number}")
    assert unzip(partial.content)["result"] == b"some result\n"


def test_a_job_made_with_kubectl_and_waited_for_with_kubectl(place: Place) -> None:
    place.apply("OrchestratorJob", "by-hand", {
        "service": "example", "userID": "alice", "script": "echo hello > greeting\n",
    })  # fmt: skip
    place.kubectl("wait", "oj/by-hand", "--for=condition=Finished", "--timeout=60s")
    status = place.get("orchestratorjob", "by-hand")["status"]
    assert (status["phase"], status["exitCode"]) == ("Completed", 0)
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions == {"Admitted": "True", "Finished": "True", "Succeeded": "True"}


def test_a_running_job_that_is_terminated_is_killed_and_keeps_its_results(place: Place) -> None:
    number = place.upload("echo kept > kept; sleep 300")
    place.wait(number, "Running")
    until(lambda: place.get("pod", f"job-{number}-1")["status"]["phase"] == "Running", "it runs")
    answer = httpx2.post(f"{place.front}/terminate/{number}")
    assert answer.json() == {"id": number, "status": "Unknown", "message": "job terminated"}
    assert place.status(number) == "Killed"
    until(lambda: place.job(number)["status"]["phase"] == "Killed", "its end is recorded")
    partial = httpx2.get(f"{place.front}/download_partial/{number}")
    assert unzip(partial.content)["kept"] == b"kept\n"
    until(lambda: not place.get("pod", f"job-{number}-1"), "the pod is gone")
    assert httpx2.post(f"{place.front}/terminate/{number}").status_code == 409


def test_a_queued_job_that_is_terminated_never_starts(place: Place) -> None:
    place.apply("OrchestratorQuota", "shut", {"onlyUsers": ["77"], "maxRunning": 0})
    number = place.upload("echo ran", user=77)
    assert place.status(number) == "Queued"
    httpx2.post(f"{place.front}/terminate/{number}")
    until(lambda: place.job(number)["status"]["phase"] == "Killed", "its end is recorded")
    assert place.job(number)["status"].get("attempt", 0) == 0


def test_a_snapshot_shows_what_a_running_job_has_so_far(place: Place) -> None:
    number = place.upload("echo first > first; sleep 300")
    place.wait(number, "Running")

    def snapshot() -> bool:
        answer = httpx2.get(f"{place.front}/download_partial/{number}")
        return unzip(answer.content).get("first") == b"first\n"

    until(snapshot, "the snapshot holds the file")
    httpx2.post(f"{place.front}/terminate/{number}")


def test_the_deadline_of_the_service_ends_a_job(place: Place) -> None:
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    place.apply("OrchestratorService", "brief", {
        "image": image, "nodePools": ["cpu"], "deadlineSeconds": 2, "graceSeconds": 1,
        "resources": {"cpu": "100m", "memory": "128Mi", "ephemeralStorage": "64Mi"},
    })  # fmt: skip
    until(lambda: place.get("osvc", "brief").get("status", {}).get("conditions"), "it is judged")
    number = place.upload("echo began > began; sleep 300", service="brief")
    assert place.wait(number) == "Failed"
    assert place.job(number)["status"]["reason"] == "DeadlineExceeded"


def test_a_job_that_needs_too_much_memory_is_told_so(place: Place) -> None:
    number = place.upload("exec python3 -c 'x = bytearray(1 << 30)'")
    assert place.wait(number) == "Failed"
    assert place.job(number)["status"]["reason"] == "OOMKilled"
