"""Resources for tests, in one line: `a_job("job-1", user="alice")`."""

from typing import Any

from orchestrator_crds import (
    OrchestratorJob,
    OrchestratorNodePool,
    OrchestratorQuota,
    OrchestratorService,
)
from orchestrator_crds import labels as keys
from orchestrator_crds.meta import API_VERSION
from orchestrator_operator.core.pods import Pod

CREATED = "2026-01-01T00:00:00Z"
SHA = "0" * 64
KEY = "jobs/0123456789abcdef0123456789abcdef/inputs.zip"


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "jobs",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": CREATED,
        **more,
    }


def job_body(
    name: str = "job-1",
    *,
    service: str = "example",
    user: str = "1",
    spec: Any = None,
    created: str = CREATED,
    version: str = "1",
    **status: Any,
) -> dict[str, Any]:
    number = {"id": int(name.removeprefix("job-"))} if name.startswith("job-") else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "OrchestratorJob",
        "metadata": meta(name, creationTimestamp=created, resourceVersion=version),
        "spec": {
            **number,
            "service": service,
            "userID": user,
            "inputs": {"key": KEY, "sizeBytes": 1, "sha256": SHA},
            **(spec or {}),
        },
        "status": {"phase": "Queued", "observedGeneration": -1, **status},
    }


def a_job(name: str = "job-1", **more: Any) -> OrchestratorJob:
    return OrchestratorJob.parse(job_body(name, **more))


def submitted(
    name: str = "job-1", *, epoch: int = 1, attempt: int = 1, **more: Any
) -> OrchestratorJob:
    claim = {"epoch": epoch, "pool": "cpu"}
    return a_job(name, phase="Submitted", attempt=attempt, claim=claim, **more)


def running(
    name: str = "job-1", *, attempt: int = 1, uid: str = "", **more: Any
) -> OrchestratorJob:
    pod = f"{name}-{attempt}"
    return a_job(
        name,
        phase="Running",
        attempt=attempt,
        claim={"epoch": 1, "pool": "cpu"},
        pod={"name": pod, "uid": uid or f"uid-{pod}", "node": "node-1"},
        **more,
    )


def pod_body(
    job: str = "job-1", attempt: int = 1, *, status: Any = None, **more: Any
) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": meta(
            f"{job}-{attempt}",
            labels={
                keys.JOB: job,
                keys.ATTEMPT: str(attempt),
                keys.SERVICE: "example",
                keys.POOL: "cpu",
            },
            annotations={keys.USER: "1"},
            ownerReferences=[{"kind": "OrchestratorJob", "name": job, "uid": f"uid-{job}"}],
            **more,
        ),
        "status": status if status is not None else {"phase": "Running"},
    }


def a_pod(job: str = "job-1", attempt: int = 1, **more: Any) -> Pod:
    return Pod.parse(pod_body(job, attempt, **more))


def service_body(name: str = "example", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": meta(name),
        "spec": {"image": "example:1", "nodePools": ["cpu"], **spec},
    }


def a_service(name: str = "example", **spec: Any) -> OrchestratorService:
    return OrchestratorService.parse(service_body(name, **spec))


def quota_body(name: str = "default", *, status: Any = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": meta(name), "spec": spec, "status": status or {}}


def a_quota(name: str = "default", **spec: Any) -> OrchestratorQuota:
    return OrchestratorQuota.parse(quota_body(name, **spec))


def pool_body(name: str = "cpu", **spec: Any) -> dict[str, Any]:
    return {"metadata": meta(name), "spec": {"nodeSelector": {"pool": "cpu"}, **spec}}


def a_pool(name: str = "cpu", **spec: Any) -> OrchestratorNodePool:
    return OrchestratorNodePool.parse(pool_body(name, **spec))


def node_body(
    name: str = "node-1",
    *,
    labels: Any = None,
    cordoned: bool = False,
    ready: bool = True,
    taints: Any = (),
    **allocatable: str,
) -> dict[str, Any]:
    room = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"}
    return {
        "kind": "Node",
        "metadata": meta(name, labels=labels or {"pool": "cpu"}),
        "spec": {"unschedulable": cordoned, "taints": list(taints)},
        "status": {
            "allocatable": {**room, **allocatable},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def ended(container: str, **state: Any) -> dict[str, Any]:
    """Return a containerStatus entry of a container that has ended."""
    return {"name": container, "state": {"terminated": {"exitCode": 0, **state}}}


def stuck(container: str, reason: str, message: str = "") -> dict[str, Any]:
    """Return a containerStatus entry of a container that waits."""
    waiting = {"reason": reason, "message": message}
    return {"name": container, "image": "example:1", "state": {"waiting": waiting}}
