"""Failures of the infrastructure: tried again, never blamed on the user, never twice at once."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local.paths import JOBS_NAMESPACE, NAMESPACE
from orchestrator_crds.names import audience
from tests.cluster.place import Place, standing_still, until
from tests.cluster.test_job import unzip
from tests.cluster.test_life import SMALL, service

QUICK = {"infrastructure": 2, "backoffSeconds": 1}
# Says which attempt it is by the file that only the first one waits for.
WAITS = "echo kept > kept; until [ -e go ]; do sleep 0.2; done"


def begin(place: Place, name: str, **spec: Any) -> int:
    """Start a job that waits for the file `go`, and return once run.sh runs."""
    number = place.upload(WAITS, service=service(place, name, retries=QUICK, **spec))
    runs(place, number, 1)
    return number


def runs(place: Place, number: int, attempt: int) -> None:
    pod = f"job-{number}-{attempt}"

    def started() -> bool:
        listed = place.kubectl("exec", pod, "--container=main", "--", "ls", "/work", check=False)
        return "kept" in listed.split()

    until(started, f"run.sh runs in {pod}")


def go(place: Place, number: int, attempt: int) -> None:
    pod = f"job-{number}-{attempt}"
    place.touch(pod)


def ends_at_the_second_attempt(place: Place, number: int, reason: str) -> None:
    def again() -> bool:
        status = place.job(number)["status"]
        return bool(status["infrastructureRetries"] == 1)

    until(again, "the job is to be run again")
    events = place.kubectl("get", "events", f"--field-selector=involvedObject.name=job-{number}")
    assert reason in events
    runs(place, number, 2)
    go(place, number, 2)
    assert place.wait(number) == "Completed"
    status = place.job(number)["status"]
    assert (status["attempt"], status["userRetries"]) == (2, 0)


def agent_of(place: Place, number: int) -> int:
    """Return the process of a job's agent, as the host sees it."""
    uid = place.get("pod", f"job-{number}-1")["metadata"]["uid"]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, group = (entry / "cmdline").read_bytes(), (entry / "cgroup").read_text()
        except OSError:
            continue
        if b"orchestrator_agent" in line and uid in group:
            return int(entry.name)
    raise AssertionError("the agent does not run")


def test_an_agent_that_is_killed_is_the_infrastructures_fault(place: Place) -> None:
    number = begin(place, "agent-lost")
    os.kill(agent_of(place, number), signal.SIGKILL)
    ends_at_the_second_attempt(place, number, "AgentLost")


def test_a_pod_that_is_deleted_by_hand_is_run_again(place: Place) -> None:
    number = begin(place, "deleted")
    place.kubectl("delete", "pod", f"job-{number}-1", "--wait=false")
    ends_at_the_second_attempt(place, number, "PodDeleted")


def test_a_pod_that_is_evicted_is_run_again(place: Place) -> None:
    number = begin(place, "evicted")
    pod = f"job-{number}-1"
    eviction = {
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": JOBS_NAMESPACE},
    }  # fmt: skip
    path = f"/api/v1/namespaces/{JOBS_NAMESPACE}/pods/{pod}/eviction"
    place.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    ends_at_the_second_attempt(place, number, "Evicted")


def test_an_image_that_cannot_be_had_is_given_up_after_the_retries(place: Place) -> None:
    name = service(
        place, "no-image", image="localhost/none:1", imagePullPolicy="Never",
        retries={"infrastructure": 1, "backoffSeconds": 1},
    )  # fmt: skip
    number = place.upload("true", service=name)
    assert place.wait(number) == "Failed"
    status = place.job(number)["status"]
    assert (status["reason"], status["attempt"]) == ("ImagePullFailed", 2)
    message = place.poll(number).json()["message"]
    assert message.startswith("Not the job's fault: the image localhost/none:1 could not be had")
    assert message.endswith("It was tried 2 times. Submit it again.")


def test_the_users_own_failure_is_run_again_only_where_that_is_asked_for(place: Place) -> None:
    asked = service(place, "again", retries={"user": 1, "backoffSeconds": 0})
    number = place.upload("exit 3", service=asked)
    assert place.wait(number) == "Failed"
    status = place.job(number)["status"]
    assert (status["attempt"], status["userRetries"]) == (2, 1)


def test_a_store_that_is_away_at_stage_in_is_waited_for(place: Place) -> None:
    place.apply("OrchestratorQuota", "shut", {"onlyUsers": ["801"], "maxRunning": 0})
    number = place.upload("echo x > out", user=801)
    with place.stopped("minio"):
        place.apply("OrchestratorQuota", "shut", {"onlyUsers": ["801"], "maxRunning": 1})
        place.wait(number, "Running")
        time.sleep(3)
    assert place.wait(number) == "Completed"
    assert place.job(number)["status"]["attempt"] == 1


def test_a_gateway_that_is_away_at_the_end_is_waited_for(place: Place) -> None:
    number = begin(place, "no-gateway")
    with place.stopped("api"):
        go(place, number, 1)
        time.sleep(3)
        assert place.job(number)["status"]["phase"] == "Running"
    assert place.wait(number) == "Completed"
    assert place.job(number)["status"]["attempt"] == 1
    assert unzip(place.poll(number).content)["kept"] == b"kept\n"


@pytest.mark.timeout(400)
def test_a_node_that_does_not_answer_holds_the_job(place: Place) -> None:
    number = begin(place, "unreachable", deadlineSeconds=300)
    # The supervisor would start another.
    with standing_still(place.pid("local.node"), place.pid("kubelet")):
        until(
            lambda: place.job(number)["status"]["reason"] == "NodeUnreachable",
            "the reason is told", 110,
        )  # fmt: skip
        # With its only node gone from the Service, the front door is shut, too.
        assert "node does not answer" in place.job(number)["status"]["message"]
        assert place.job(number)["status"]["attempt"] == 1
        assert not place.get("pod", f"job-{number}-2")
    until(lambda: not place.job(number)["status"]["reason"], "the node is back", 110)
    go(place, number, 1)
    assert place.wait(number) == "Completed"
    assert place.job(number)["status"]["attempt"] == 1


class Ghost:
    """A node without a kubelet: the test says what its pods do, to the real API and gateway."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name
        place.kubectl("delete", "node", name, "--ignore-not-found")
        body = {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"ghost": "true", "kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": "ghost", "effect": "NoSchedule"}]},
        }  # fmt: skip
        place.kubectl("create", "--filename=-", stdin=json.dumps(body))
        amounts = {"cpu": "8", "memory": "8Gi", "ephemeral-storage": "99Gi", "pods": "99"}
        ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "",
                 "lastHeartbeatTime": now(), "lastTransitionTime": now()}  # fmt: skip
        self._patch(
            "node", name, {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        )

    def _patch(self, kind: str, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.place.kubectl(
            "patch", kind, name, "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    def begin(self, pod: str) -> str:
        """Have a pod run, and return its agent's token."""
        place = self.place
        until(
            lambda: place.get("pod", pod).get("spec", {}).get("nodeName") == self.name,
            "it is bound",
        )
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": now()}
            for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        ]
        running = {"state": {"running": {"startedAt": now()}}, "ready": True, "started": True,
                   "restartCount": 0, "image": "x", "imageID": "x"}  # fmt: skip
        containers = [{"name": part, **running} for part in ("agent", "main")]
        self._patch("pod", pod, {
            "phase": "Running", "startTime": now(), "conditions": conditions,
            "containerStatuses": containers,
        })  # fmt: skip
        found = place.get("pod", pod)["metadata"]
        uid, owner = found["uid"], found["ownerReferences"][0]["uid"]
        return place.kubectl(
            "create", "token", "orchestrator-job", f"--audience={audience(owner)}",
            "--bound-object-kind=Pod", f"--bound-object-name={pod}", f"--bound-object-uid={uid}",
        ).strip()  # fmt: skip


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@pytest.mark.timeout(300)
def test_a_node_that_is_lost_gives_the_job_to_another_and_is_never_heard_again(
    place: Place,
) -> None:
    place.apply("OrchestratorNodePool", "ghosts", {
        "nodeSelector": {"ghost": "true"},
        "tolerations": [{"key": "ghost", "operator": "Exists"}],
    })  # fmt: skip
    service(place, "haunted", nodePools=["ghosts"], retries=QUICK, resources=SMALL)
    first = Ghost(place, "ghost-1")
    number = place.upload("true", service="haunted")
    end = {"why": "exit", "exitCode": 0}
    with place.forwarded("service/orchestrator-gateway", 8081, NAMESPACE) as gateway:

        def call(path: str, token: str, **body: Any) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return httpx2.post(f"{gateway}{path}", headers=headers, json=body).status_code

        old = first.begin(f"job-{number}-1")
        assert call("/start", old) == 200
        assert place.status(number) == "Running"
        place.kubectl("delete", "node", "ghost-1")
        until(lambda: place.job(number)["status"]["infrastructureRetries"] == 1, "it is lost", 200)
        second = Ghost(place, "ghost-2")
        # The lost node comes back from the dead, too late.
        assert call("/end", old, **end) in {401, 409}
        new = second.begin(f"job-{number}-2")
        assert call("/start", old) in {401, 409}
        assert call("/start", new) == 200
        assert call("/end", old, **end) in {401, 409}
        assert place.status(number) == "Running"
        assert call("/end", new, **end) == 200
    assert place.job(number)["status"]["phase"] == "Completed"
    events = place.kubectl("get", "events", f"--field-selector=involvedObject.name=job-{number}")
    assert "NodeLost" in events
    place.kubectl("delete", "node", "ghost-2")
    place.kubectl("delete", "pod", f"job-{number}-2", "--force", "--grace-period=0", check=False)
