"""The next step for one job, situation by situation."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from orchestrator_crds import OrchestratorJob
from orchestrator_operator.core import steps
from orchestrator_operator.core.pods import Pod
from tests.support.builders import (
    CREATED,
    KEY,
    SHA,
    a_job,
    a_pod,
    a_service,
    ended,
    running,
    stuck,
    submitted,
)

BORN = datetime.fromisoformat(CREATED).timestamp()
STOP = {"terminate": True}
GONE: dict[str, Any] = {"deletionTimestamp": CREATED}


def step(job: OrchestratorJob, *pods: Pod, **view: Any) -> steps.Step | None:
    options: dict[str, Any] = {
        "epoch": 1,
        "adopting": False,
        "service": a_service().spec,
        "now": BORN,
    } | view
    return steps.next_step(steps.View(job=job, pods=pods, **options))


def kind(found: steps.Step | None) -> str:
    if isinstance(found, steps.Finish):
        return f"{found.outcome.phase} {found.outcome.reason}"
    if isinstance(found, steps.DeletePod):
        return f"delete {found.pod}"
    if isinstance(found, steps.Explain):
        return f"Explain {found.reason}"
    return type(found).__name__


def waits(reason: str, container: str = "main") -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [stuck(container, reason)]}


ENFORCE = {"service": a_service(scriptPolicy="Enforce").spec}
BAD_SCRIPT = {
    "inputs": {"key": KEY, "sizeBytes": 1, "sha256": SHA, "findings": ["line 1: miner (xmrig)"]}
}
UNREACHABLE = {
    "phase": "Running",
    "conditions": [
        {"type": "Ready", "status": "False"},
        {"type": "ContainersReady", "status": "True"},
    ],
}
OVER = {"phase": "Failed", "containerStatuses": [ended("main", reason="OOMKilled")]}
CASES: list[tuple[str, OrchestratorJob, Sequence[Pod], dict[str, Any], str]] = [
    ("queued", a_job(), [], {}, "NoneType"),
    ("queued, stopped", a_job(spec=STOP), [], {}, "Killed Terminated"),
    ("queued, no such service", a_job("by-hand"), [], {"service": None}, "Invalid UnknownService"),
    ("queued, uploaded, service gone", a_job(), [], {"service": None}, "NoneType"),
    ("queued, an old pod lives", a_job(attempt=1), [a_pod()], {}, "delete job-1-1"),
    ("queued, an old pod leaves", a_job(attempt=1), [a_pod(**GONE)], {}, "NoneType"),
    ("submitted, no pod", submitted(), [], {}, "CreatePod"),
    ("submitted, pod starts", submitted(), [a_pod(status={"phase": "Pending"})], {}, "NoneType"),
    ("submitted, stopped", submitted(spec=STOP), [a_pod()], {}, "Killed Terminated"),
    ("submitted, pod over", submitted(), [a_pod(status=OVER)], {}, "Failed PodRejected"),
    ("submitted, old claim, new leader", submitted(epoch=0), [], {"adopting": True}, "Adopt"),
    ("submitted, old claim, late", submitted(epoch=0), [], {}, "Requeue"),
    ("submitted, old claim, late, pod", submitted(epoch=0), [a_pod()], {}, "delete job-1-1"),
    (
        "submitted, second attempt, first pod lives",
        submitted(attempt=2), [a_pod(attempt=1)], {}, "delete job-1-1",
    ),
    (
        "submitted, image cannot be pulled, yet",
        submitted(), [a_pod(status=waits("ErrImagePull"))], {}, "NoneType",
    ),
    (
        "submitted, image cannot be pulled",
        submitted(), [a_pod(status=waits("ErrImagePull"))], {"now": BORN + 61},
        "Failed ImagePullFailed",
    ),
    (
        "submitted, a pod that starts slowly",
        submitted(), [a_pod(status=waits("ContainerCreating"))], {"now": BORN + 61},
        "Explain PodStartsSlowly",
    ),
    (
        "submitted, a pod that starts slowly, told",
        submitted(reason="PodStartsSlowly"), [a_pod(status=waits("ContainerCreating"))],
        {"now": BORN + 61}, "NoneType",
    ),
    (
        "submitted, the agent gave up",
        submitted(), [a_pod(status={"phase": "Running", "containerStatuses": [ended("agent")]})],
        {}, "delete job-1-1",
    ),
    (
        "submitted, backstop",
        submitted(), [a_pod(status={"phase": "Failed", "reason": "DeadlineExceeded"})],
        {}, "Failed PodRejected",
    ),
    (
        "running, main ended a moment ago",
        running(), [a_pod(status={"containerStatuses": [ended("main", finishedAt=CREATED)]})],
        {"now": BORN + 29}, "NoneType",
    ),
    (
        "running, main ended long ago and the agent lingers",
        running(), [a_pod(status={"containerStatuses": [ended("main", finishedAt=CREATED)]})],
        {"now": BORN + 31}, "delete job-1-1",
    ),
    ("running", running(), [a_pod()], {}, "NoneType"),
    ("running, stopped", running(spec=STOP), [a_pod()], {}, "delete job-1-1"),
    ("running, stopped, pod leaves", running(spec=STOP), [a_pod(**GONE)], {}, "NoneType"),
    ("running, pod over", running(), [a_pod(status=OVER)], {}, "Failed OOMKilled"),
    ("running, pod not seen", running(), [], {}, "ConfirmGone"),
    ("running, another pod of its name", running(uid="other"), [a_pod()], {}, "ConfirmGone"),
    (
        "running, agent lost",
        running(), [a_pod(status={"phase": "Running", "containerStatuses": [ended("agent")]})],
        {}, "delete job-1-1",
    ),
    (
        "running, main could not start",
        running(),
        [a_pod(status={"containerStatuses": [ended("main", reason="StartError")]})],
        {}, "Failed ContainerStartFailed",
    ),
    ("running, node unreachable", running(), [a_pod(status=UNREACHABLE)], {}, "Explain NodeUnreachable"),
    (
        "running, node unreachable, told",
        running(reason="NodeUnreachable"), [a_pod(status=UNREACHABLE)], {}, "NoneType",
    ),
    ("running, node back", running(reason="NodeUnreachable"), [a_pod()], {}, "Explain "),
    ("queued, bad script, warn", a_job(spec=BAD_SCRIPT), [], {}, "NoneType"),
    ("queued, bad script, enforce", a_job(spec=BAD_SCRIPT), [], ENFORCE, "Invalid ScriptRefused"),
    ("queued, good script, enforce", a_job(), [], ENFORCE, "NoneType"),
    (
        "queued, wants what its service does not list",
        a_job(spec={"resources": {"extended": {"example.com/x": "1"}}}), [], {},
        "Invalid BeyondService",
    ),
    (
        "queued, wants none of what its service does not list",
        a_job(spec={"resources": {"extended": {"example.com/x": "0.0"}}}), [], {},
        "Invalid BeyondService",
    ),
    (
        "queued, wants less of what its service lists",
        a_job(spec={"resources": {"extended": {"example.com/x": "0"}}}), [],
        {"service": a_service(resources={"extended": {"example.com/x": "2"}}).spec}, "NoneType",
    ),
    *(
        (
            f"queued, wants {wanted}", a_job(spec={"resources": wanted}), [],
            {"service": a_service(resources={"extended": {"example.com/x": "2"}}).spec},
            "Invalid BeyondService",
        )
        for wanted in (
            {"cpu": "0"}, {"memory": "0.0Gi"}, {"ephemeralStorage": "0"},
            {"extended": {"example.com/x": "500m"}},
        )
    ),
    ("over", a_job(phase="Completed"), [a_pod()], {}, "NoneType"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "job", "pods", "view", "expected"), CASES, ids=[c[0] for c in CASES]
)
def test_next_step(
    name: str, job: OrchestratorJob, pods: Sequence[Pod], view: dict[str, Any], expected: str
) -> None:
    assert kind(step(job, *pods, **view)) == expected


@pytest.mark.parametrize(
    ("pod", "deleted"),
    [
        (a_pod(status={"phase": "Succeeded"}), True),
        (a_pod(status={"phase": "Pending"}), True),
        # Its agent has just told the end and is about to close.
        (a_pod(status={"phase": "Running"}), False),
        (a_pod(status={"phase": "Running", "containerStatuses": [ended("agent")]}), True),
        (a_pod(status={"phase": "Succeeded"}, **GONE), False),
    ],
)
def test_a_pod_whose_job_is_over_goes_when_it_is_of_no_use(pod: Pod, deleted: bool) -> None:
    assert (steps.pod_without_job(pod) is not None) == deleted


@pytest.mark.parametrize(
    "junk", [None, [], {"containerStatuses": [{"name": "agent"}]}, {"phase": 5}]
)
def test_a_pod_with_junk_in_it_breaks_nothing(junk: Any) -> None:
    pod = a_pod(status=junk)
    assert not pod.useless
    assert kind(step(running(), pod)) in {"NoneType", "Failed AgentLost"}
