"""The decider on events, lost answers, conflicts, old leaders, and objects that are nonsense."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from orchestrator_operator import act, reconcile
from orchestrator_operator.cluster.lease import Deposed, Lease
from orchestrator_operator.relist import LISTS_UNTIL_BLIND, Blind
from orchestrator_wire.kube import Kube
from tests.support.builders import job_body, pod_body, quota_body, service_body
from tests.support.fake_kube import FakeKube
from tests.unit.decider.conftest import Operator, start

JOBS = "orchestratorjobs"


def begun(operator: Operator, name: str = "job-1", attempt: int = 1) -> None:
    """Do what gateway and kubelet do when a pod starts."""
    pod = operator.state.get("pods", f"{name}-{attempt}")
    reference = {"name": f"{name}-{attempt}", "uid": pod["metadata"]["uid"], "node": "node-1"}
    operator.set(JOBS, name, phase="Running", pod=reference)
    operator.set("pods", f"{name}-{attempt}", phase="Running")


async def test_a_job_is_claimed_and_gets_its_pod(operator: Operator) -> None:
    operator.submit("job-1")
    await operator.until(lambda: operator.pods() == ["job-1-1"])
    status = operator.job()
    assert (status["phase"], status["attempt"]) == ("Submitted", 1)
    claim = status["claim"]
    assert (claim["epoch"], claim["pool"], claim["resources"]["cpu"]) == (1, "cpu", "1")


async def test_a_happy_job_costs_the_operator_three_writes(operator: Operator) -> None:
    before = len(operator.writes("job-1")) + len(operator.writes("/pods"))
    operator.submit("job-1")
    await operator.until(operator.pods)
    begun(operator)
    operator.set(JOBS, "job-1", phase="Completed")
    operator.set("pods", "job-1-1", phase="Succeeded")
    await operator.until(lambda: operator.writes("DELETE"))
    await operator.settle()
    made = len(operator.writes("job-1")) + len(operator.writes("/pods"))
    # Claim, pod, delete; the paths of the pod and of its deletion both name it once or twice.
    assert operator.writes("DELETE") == ["DELETE /api/v1/namespaces/jobs/pods/job-1-1"]
    assert [w for w in operator.state.writes if "job-1" in w or w.endswith("/pods")][-3:] == [
        "PATCH /apis/orchestrator.dev/v1alpha1/namespaces/jobs/orchestratorjobs/job-1/status",
        "POST /api/v1/namespaces/jobs/pods",
        "DELETE /api/v1/namespaces/jobs/pods/job-1-1",
    ]
    assert made - before >= 3


async def test_a_quota_holds_the_rest_back_until_the_pod_is_over(operator: Operator) -> None:
    for n in (1, 2, 3):
        operator.submit(f"job-{n}", user=str(n))
    await operator.until(lambda: len(operator.pods()) == 2)
    held = next(n for n in (1, 2, 3) if f"job-{n}-1" not in operator.pods())
    first = next(n for n in (1, 2, 3) if n != held)
    begun(operator, f"job-{first}")
    operator.set(JOBS, f"job-{first}", phase="Completed")
    await operator.settle()
    # Completed, but its pod still runs: the quota is still held.
    assert operator.job(f"job-{held}")["phase"] == "Queued"
    operator.set("pods", f"job-{first}-1", phase="Succeeded")
    await operator.until(lambda: operator.job(f"job-{held}")["phase"] == "Submitted")


async def test_a_raised_quota_takes_effect_at_once(operator: Operator) -> None:
    operator.state.put("orchestratorquotas", quota_body(maxRunning=0))
    await operator.settle()
    operator.submit("job-1")
    await operator.settle()
    assert operator.phases() == ["Queued"]
    operator.state.put("orchestratorquotas", quota_body(maxRunning=1))
    await operator.until(lambda: operator.phases() == ["Submitted"])


@pytest.mark.parametrize("part", ["/status", "/pods"])
async def test_a_write_whose_answer_was_lost_is_not_done_twice(
    operator: Operator, part: str
) -> None:
    lost: list[str] = []

    def lose(method: str, path: str) -> web.Response | None:
        if method in {"PATCH", "POST"} and path.endswith(part) and not lost:
            lost.append(path)
            return web.Response(status=504)
        return None

    operator.state.after = lose
    operator.submit("job-1")
    await operator.until(lambda: lost and operator.pods())
    await operator.settle()
    assert operator.job()["attempt"] == 1
    assert operator.pods() == ["job-1-1"]


async def test_a_claim_of_unknown_fate_holds_its_quota(operator: Operator) -> None:
    operator.state.put("orchestratorquotas", quota_body(maxRunning=1))
    await operator.settle()
    shut = True

    def silent(method: str, path: str) -> web.Response | None:
        return web.Response(status=504) if shut and "orchestratorjobs/job-1" in path else None

    operator.state.after = silent
    operator.submit("job-1")
    await operator.until(lambda: operator.job()["phase"] == "Submitted")
    operator.submit("job-2", user="2")
    await asyncio.sleep(0.1)
    assert operator.job("job-2")["phase"] == "Queued"
    shut = False


async def test_a_conflict_is_read_again_and_decided_again(operator: Operator) -> None:
    refused: list[str] = []

    def conflict(method: str, path: str) -> web.Response | None:
        if method == "PATCH" and path.endswith("job-1/status") and not refused:
            refused.append(path)
            stopped = json.loads(json.dumps(operator.state.get(JOBS, "job-1")))
            stopped["spec"]["terminate"] = True
            operator.state.put(JOBS, stopped)
        return None

    operator.state.before = conflict
    operator.submit("job-1")
    await operator.until(lambda: operator.job()["phase"] == "Killed")
    assert operator.pods() == []


async def test_a_cluster_that_cannot_serve_is_tried_again(operator: Operator) -> None:
    failures = iter([503, 500, 429])
    operator.state.before = lambda method, _: (
        web.Response(status=status) if method == "POST" and (status := next(failures, 0)) else None
    )
    operator.submit("job-1")
    await operator.until(operator.pods)


async def test_a_refused_pod_says_why_and_is_tried_again(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once kept its place meanwhile: a few of one user's shut a quota for good."""
    monkeypatch.setattr(act, "REFUSED_SECONDS", -1.0)
    operator.state.put("orchestratorquotas", quota_body(maxRunning=1))
    shut = True

    def refuse(method: str, path: str) -> web.Response | None:
        if shut and method == "POST" and path.endswith("/pods"):
            return web.json_response({"reason": "Forbidden", "message": "no room"}, status=403)
        return None

    operator.state.before = refuse
    operator.submit("job-1")
    await operator.until(lambda: operator.job().get("reason") == "PodRejected")
    assert "no room" in operator.job()["message"]
    assert operator.job()["phase"] == "Queued"
    shut = False
    operator.submit("job-2")
    await operator.until(lambda: operator.pods() == ["job-2-1"])
    operator.set("pods", "job-2-1", phase="Succeeded")
    operator.set(JOBS, "job-2", phase="Completed")
    await operator.settle()
    assert operator.job()["phase"] == "Queued"
    operator.set(JOBS, "job-1", notBefore="2026-01-01T00:00:00Z")
    await operator.until(lambda: any(pod.startswith("job-1-") for pod in operator.pods()))


async def test_a_refused_pod_is_tried_again_in_its_place_at_first(operator: Operator) -> None:
    refused = itertools.count()

    def refuse(method: str, path: str) -> web.Response | None:
        if method == "POST" and path.endswith("/pods") and next(refused) < 3:
            return web.json_response({"reason": "Forbidden", "message": "no room"}, status=403)
        return None

    operator.state.before = refuse
    operator.submit("job-1")
    await operator.until(lambda: operator.job().get("reason") == "PodRejected")
    assert operator.job()["phase"] == "Submitted"
    await operator.until(lambda: operator.pods() == ["job-1-1"])


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have passes come one after the other, however long they take on a machine that is busy."""
    monkeypatch.setattr(reconcile, "REST_PER_PASS", 0.0)


@pytest.mark.usefixtures("restless")
async def test_a_flood_of_jobs_that_cannot_run_keeps_no_other_waiting(operator: Operator) -> None:
    """Each was a write in line before the claims of all."""
    for n in range(300):
        operator.submit(f"nonsense-{n}", service="nonsense")
    operator.submit("job-1")
    await operator.until(operator.pods)
    assert operator.phases().count("Invalid") < 150
    await operator.until(lambda: operator.phases().count("Invalid") == 300, 30)


@pytest.mark.usefixtures("restless")
async def test_nor_does_one_that_is_stopped_before_its_turn(operator: Operator) -> None:
    operator.state.put("orchestratorquotas", quota_body(maxRunning=0))
    await operator.settle()
    for n in range(1, 301):
        operator.submit(f"job-{n}")
    operator.submit("honest", user="2")
    await operator.settle()
    for n in range(1, 301):
        body = operator.state.get(JOBS, f"job-{n}")
        body["spec"]["terminate"] = True
        operator.state.put(JOBS, body)
    operator.state.put("orchestratorquotas", quota_body(maxRunning=1))
    await operator.until(operator.pods)
    assert operator.pods() == ["honest-1"]
    assert operator.phases().count("Killed") < 150
    await operator.until(lambda: operator.phases().count("Killed") == 300, 30)


async def test_a_pod_of_this_name_that_is_somebody_elses_is_no_success(operator: Operator) -> None:
    stranger = pod_body("job-1")
    stranger["metadata"]["ownerReferences"][0]["uid"] = "uid-of-an-earlier-job-1"
    operator.state.put("pods", stranger)
    operator.submit("job-1")
    await operator.until(lambda: operator.job()["phase"] == "Submitted")
    await asyncio.sleep(0.1)
    assert operator.pods() == ["job-1-1"]
    operator.state.remove("pods", "job-1-1")
    await operator.until(
        lambda: (
            operator.pods()
            and operator.state.get("pods", "job-1-1")["metadata"]["ownerReferences"][0]["uid"]
            == "uid-job-1"
        )
    )


@pytest.mark.parametrize("phase", ["Queued", "Submitted", "Running"])
async def test_a_live_job_can_be_stopped(operator: Operator, phase: str) -> None:
    if phase == "Queued":
        operator.state.put("orchestratorquotas", quota_body(maxRunning=0))
        await operator.settle()
    operator.submit("job-1")
    if phase != "Queued":
        await operator.until(operator.pods)
    if phase == "Running":
        begun(operator)
    body = operator.state.get(JOBS, "job-1")
    body["spec"]["terminate"] = True
    operator.state.put(JOBS, body)
    if phase == "Running":
        # The kubelet is asked to stop it; the agent then tells the end.
        await operator.until(lambda: operator.writes("DELETE"))
        assert operator.job()["phase"] == "Running"
        operator.state.remove("pods", "job-1-1")
    await operator.until(lambda: operator.job()["phase"] == "Killed")


async def test_a_pod_that_vanished_is_the_infrastructures_fault(operator: Operator) -> None:
    operator.submit("job-1")
    await operator.until(operator.pods)
    begun(operator)
    await operator.settle()
    operator.state.remove("pods", "job-1-1")
    await operator.until(lambda: operator.job()["phase"] == "Queued")
    job = operator.job()
    assert (job["reason"], job["infrastructureRetries"]) == ("PodDeleted", 1)
    # And it waits out its pause.
    await operator.settle()
    assert operator.pods() == []
    assert len(operator.writes("/events")) == 1


async def test_a_retry_starts_when_its_pause_is_over(operator: Operator) -> None:
    retries = {"infrastructure": 1, "backoffSeconds": 1}
    operator.state.put("orchestratorservices", service_body(retries=retries))
    operator.submit("job-1")
    await operator.until(operator.pods)
    begun(operator)
    await operator.settle()
    operator.state.remove("pods", "job-1-1")
    await operator.until(lambda: operator.pods() == ["job-1-2"])
    begun(operator, attempt=2)
    await operator.settle()
    operator.state.remove("pods", "job-1-2")
    await operator.until(lambda: operator.job()["phase"] == "Failed")
    assert operator.job()["message"].endswith("It was tried 2 times. Submit it again.")


async def test_the_agents_report_wins_over_the_kubelets(operator: Operator) -> None:
    operator.submit("job-1")
    await operator.until(operator.pods)
    begun(operator)
    await operator.settle()
    # The watch of pods is ahead of the watch of jobs.
    job = operator.state.get(JOBS, "job-1")
    job["status"]["phase"] = "Completed"
    job["metadata"]["resourceVersion"] = str(next(operator.state.versions))
    operator.set("pods", "job-1-1", phase="Succeeded")
    await operator.until(lambda: operator.writes("DELETE"))
    assert operator.job()["phase"] == "Completed"


async def test_a_job_for_a_service_that_does_not_exist_is_invalid(operator: Operator) -> None:
    operator.submit("by-hand", service="nonsense")
    await operator.until(lambda: operator.job("by-hand")["phase"] == "Invalid")
    assert operator.job("by-hand")["reason"] == "UnknownService"


BY_HAND = {"inputs": None, "script": "sudo x\n"}


async def test_a_script_that_its_service_forbids_is_found_when_its_turn_has_come(
    operator: Operator,
) -> None:
    operator.state.put("orchestratorservices", service_body(scriptPolicy="Enforce"))
    quota = operator.state.get("orchestratorquotas", "default")
    quota["spec"]["maxRunning"] = 0
    operator.state.put("orchestratorquotas", quota)
    await operator.settle()
    operator.submit("by-hand", spec=BY_HAND)
    operator.submit("honest", spec={**BY_HAND, "script": "echo\n"})
    await operator.settle()
    assert operator.phases() == ["Queued", "Queued"]
    assert not [read for read in operator.state.reads if "by-hand" in read]
    quota["spec"]["maxRunning"] = 9
    operator.state.put("orchestratorquotas", quota)
    await operator.until(lambda: operator.phases() == ["Invalid", "Submitted"])
    assert operator.job("by-hand")["reason"] == "ScriptRefused"
    assert "line 1: privilege escalation (sudo)" in operator.job("by-hand")["message"]
    await operator.until(lambda: operator.pods() == ["honest-1"])


async def test_a_script_is_not_asked_for_where_it_is_not_looked_at(operator: Operator) -> None:
    operator.submit("by-hand", spec=BY_HAND)
    await operator.until(lambda: operator.pods() == ["by-hand-1"])
    assert not [read for read in operator.state.reads if "by-hand" in read]


async def test_a_service_that_the_watch_has_not_told_of_makes_no_job_invalid(
    operator: Operator,
) -> None:
    watchers, operator.state.watchers = operator.state.watchers, []
    operator.state.put("orchestratorservices", service_body("new"))
    operator.state.watchers = watchers
    operator.submit("by-hand", service="new")
    await asyncio.sleep(0.3)
    assert operator.job("by-hand")["phase"] == "Queued"
    await operator.relist.once()
    operator.decider.look_again()
    await operator.until(lambda: operator.job("by-hand")["phase"] == "Submitted")


async def test_an_uploaded_job_outlives_its_services_absence(operator: Operator) -> None:
    operator.state.remove("orchestratorservices", "example")
    await operator.settle()
    operator.submit("job-1")
    await operator.until(lambda: operator.job().get("reason") == "ServiceNotReady")
    operator.state.put("orchestratorservices", service_body())
    await operator.until(lambda: operator.job()["phase"] == "Submitted")


async def test_a_job_that_cannot_be_read_and_runs_is_looked_at_seldom(operator: Operator) -> None:
    operator.state.put(JOBS, {**job_body("job-1", phase="Running"), "spec": {}})
    await operator.settle()
    reads = len(operator.state.reads)
    await asyncio.sleep(0.5)
    assert len(operator.state.reads) - reads < 5


async def test_a_pod_that_no_node_takes_is_a_reason(operator: Operator) -> None:
    operator.submit("job-1")
    await operator.until(operator.pods)
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: no GPU"}
    operator.set("pods", "job-1-1", phase="Pending", conditions=[condition])
    await operator.until(lambda: operator.job().get("reason") == "Unschedulable")
    assert operator.job()["message"] == "No node can take the job's pod now: 0/1 nodes: no GPU"


@pytest.mark.parametrize(
    "junk",
    [
        {"spec": {}},
        {"spec": None},
        {"spec": {"service": 5, "userID": []}},
        {"spec": {"service": "example", "userID": "1", "inputs": {"key": "x" * 9999}}},
    ],
)
async def test_one_bad_object_costs_only_itself(operator: Operator, junk: dict[str, Any]) -> None:
    operator.state.put(JOBS, {**job_body("job-1"), **junk})
    operator.state.put("pods", {"metadata": {"name": "stray", "labels": 5}})
    operator.state.put("orchestratorquotas", {**quota_body("bad"), "spec": {"maxRunning": "many"}})
    operator.submit("job-2")
    await operator.until(lambda: operator.job("job-2")["phase"] == "Submitted")
    await operator.until(lambda: operator.job("job-1")["phase"] == "Invalid")
    assert operator.job("job-1")["reason"] == "InvalidSpec"
    assert operator.job("job-1")["message"].startswith("The job cannot be read: spec")


async def test_a_waiting_job_is_told_why_but_only_after_a_while(operator: Operator) -> None:
    operator.state.put("orchestratorquotas", quota_body(maxRunning=0))
    await operator.settle()
    operator.submit("job-1", created="2026-01-01T00:00:00Z")
    operator.submit("job-2", created="2999-01-01T00:00:00Z", user="2")
    await operator.until(lambda: operator.job().get("reason") == "ServiceLimit")
    await operator.settle()
    assert not operator.job("job-2").get("reason")


async def test_administrators_are_told_whether_it_is_in_force(operator: Operator) -> None:
    def ready(plural: str, name: str) -> str:
        conditions = operator.state.get(plural, name).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == "Ready"), "")

    await operator.until(lambda: ready("orchestratorquotas", "default") == "True")
    await operator.until(lambda: ready("orchestratorservices", "example") == "True")
    operator.state.put("orchestratorservices", service_body("broken", nodePools=["none"]))
    await operator.until(lambda: ready("orchestratorservices", "broken") == "False")


async def test_the_relist_finds_what_the_watch_never_told(operator: Operator) -> None:
    operator.submit("job-1")
    await operator.until(operator.pods)
    begun(operator)
    await operator.settle()
    watchers, operator.state.watchers = operator.state.watchers, []
    operator.submit("job-2")
    operator.state.remove("pods", "job-1-1")
    await operator.settle()
    assert operator.job("job-2")["phase"] == "Queued"
    await operator.relist.once()
    operator.decider.look_again()
    await operator.until(lambda: operator.job("job-2")["phase"] == "Submitted")
    await operator.until(lambda: operator.job()["phase"] == "Queued")
    operator.state.watchers = watchers


async def test_a_watch_that_delivers_nothing_is_found_out(operator: Operator) -> None:
    watchers, operator.state.watchers = operator.state.watchers, []
    operator.submit("job-1", phase="Running")
    for _ in range(LISTS_UNTIL_BLIND - 1):
        await operator.relist.once()
    with pytest.raises(Blind, match="job-1"):
        await operator.relist.once()
    operator.state.watchers = watchers


async def test_what_a_watch_delivers_while_a_list_is_read_is_not_taken_for_missing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that came after its page had been read made the operator think that its watch is dead."""
    full = quota_body(maxRunning=0)
    operator.state.put("orchestratorquotas", full | {"status": {"inForce": full["spec"]}})
    await operator.settle()
    relist, pages = operator.relist, operator.kube.pages

    async def slowly(path: str, **query: str) -> AsyncIterator[Any]:
        async for page in pages(path, **query):
            yield page
        if path.endswith("/orchestratorjobs"):
            operator.submit("job-1")
            await operator.until(lambda: "job-1" in operator.decider.mirror.backlog)

    monkeypatch.setattr(operator.kube, "pages", slowly)
    await relist.once()
    monkeypatch.undo()
    for _ in range(LISTS_UNTIL_BLIND + 1):
        await relist.once()


async def test_a_deletion_that_arrives_late_revives_nothing(operator: Operator) -> None:
    operator.submit("job-1")
    await operator.until(operator.pods)
    old = json.loads(json.dumps(operator.state.get("pods", "job-1-1")))
    operator.state.remove("pods", "job-1-1")
    await operator.until(lambda: operator.pods() == ["job-1-1"])
    await operator.settle()
    operator.decider.seen("pods", "MODIFIED", old)
    await operator.settle()
    known = operator.decider.mirror.pods["job-1-1"]
    assert known.metadata.resource_version != old["metadata"]["resourceVersion"]


async def test_a_new_leader_adopts_the_claims_it_finds(
    operator: Operator, cluster: tuple[FakeKube, Kube]
) -> None:
    operator.submit("job-1")
    await operator.until(operator.pods)
    await operator.settle()
    await operator.stop()
    await operator.lease.release()
    second = await start(*cluster, identity="second")
    await second.until(lambda: second.job()["claim"]["epoch"] == 2)
    assert second.job()["attempt"] == 1
    assert second.pods() == ["job-1-1"]
    # A claim of the old epoch that shows up later is undone.
    second.submit("job-2", phase="Submitted", attempt=1, claim={"epoch": 1, "pool": "cpu"})
    # Between the two claims there is a moment with none.
    await second.until(lambda: (second.job("job-2").get("claim") or {}).get("epoch") == 2)
    assert second.job("job-2")["attempt"] == 2
    await second.stop()


async def test_a_deposed_leader_writes_nothing(
    operator: Operator, cluster: tuple[FakeKube, Kube]
) -> None:
    state, kube = cluster
    operator.lease._held_until = 0.0
    before = len(state.writes)
    operator.submit("job-1")
    with pytest.raises(Deposed):
        await operator.until(operator.pods)
    assert len(state.writes) == before
    assert isinstance(operator.lease, Lease)
    assert kube is operator.kube


async def test_the_same_pod_restarted_keeps_its_epoch(cluster: tuple[FakeKube, Kube]) -> None:
    _, kube = cluster
    first = Lease(kube, "system", "pod-a", seconds=15)
    await first.acquire()
    again = Lease(kube, "system", "pod-a", seconds=15)
    await again.acquire()
    other = Lease(kube, "system", "pod-b", seconds=15)
    assert not await other._try()
    await again.release()
    await other.acquire()
    assert (first.epoch, again.epoch, other.epoch) == (1, 1, 2)
