"""The pod of one attempt, as a manifest. An allow-list: nothing of the user's is merged in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator_crds import (
    OrchestratorJob,
    OrchestratorNodePool,
    OrchestratorService,
    ServiceSpec,
    labels,
)
from orchestrator_crds.amounts import amount, vector
from orchestrator_crds.meta import API_VERSION
from orchestrator_crds.names import SERVICE_ACCOUNT, audience, pod_name
from orchestrator_operator.core.facts import resources_of
from orchestrator_operator.core.nodes import ClusterNode

# One uid for agent and main, or a result file of mode 0600 could not be collected.
UID = 65532
# The pod's own deadline is a backstop; the wrapper's timer and grace come well before it, also when
# the agent waits for as long as it may before the start.
START_SLACK_SECONDS = 1500
TOKEN_SECONDS = 3600
# How many bytes of results may become one byte of results.zip.
UNPACKED_RATIO = 8
# What the agent takes up on a node.
AGENT = {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi"}
# What a pod takes up beside its job, in thousandths.
OVERHEAD = {**vector(AGENT), "pods": 1000}
# What gVisor must be told of the volumes that both containers have, or each would have FIFOs of its
# own. With every runtime class, since its name does not say what it is; others do not listen.
SHARED_VOLUMES = {
    f"dev.gvisor.spec.mount.{volume}.{key}": value
    for volume in ("work", "job", "tmp")
    for key, value in {"share": "pod", "type": "bind", "options": "rw"}.items()
}
# Where a service's reference data is.
DATA = "/data"


@dataclass(frozen=True)
class Surroundings:
    """What is the same for every pod: the agent's image, the gateway, the wrapper's text."""

    agent_image: str
    agent_pull_policy: str
    gateway_url: str
    wrapper: str


def build(
    job: OrchestratorJob,
    service: OrchestratorService,
    pool: OrchestratorNodePool,
    surroundings: Surroundings,
    nodes: Iterable[ClusterNode] = (),
) -> dict[str, Any]:
    """Return the manifest of the pod for *job*'s current attempt; *nodes* are the pool's."""
    spec = _for_this_job(service.spec, job)
    grace = spec.grace_seconds + spec.upload_seconds
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(job, spec, pool),
        "spec": {
            "activeDeadlineSeconds": spec.deadline_seconds + grace + START_SLACK_SECONDS,
            "automountServiceAccountToken": False,
            "containers": [_agent(spec, surroundings), _main(spec, surroundings.wrapper)],
            # No name service: it is a way out, and the gateway is named by address.
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
            "enableServiceLinks": False,
            "nodeSelector": dict(pool.spec.node_selector),
            "restartPolicy": "Never",
            "serviceAccountName": SERVICE_ACCOUNT,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": UID,
                "runAsGroup": UID,
                "fsGroup": UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": grace,
            "tolerations": [t.to_dict() for t in pool.spec.tolerations],
            "volumes": _volumes(spec, job.metadata.uid),
            **({} if _host_users(spec, nodes) else {"hostUsers": False}),
            **({"runtimeClassName": spec.runtime_class_name} if spec.runtime_class_name else {}),
        },
    }


def _host_users(spec: ServiceSpec, nodes: Iterable[ClusterNode]) -> bool:
    if spec.host_users is not None:
        return spec.host_users
    # A volume's file system may know no mapped users, and another runtime is not asked here.
    if spec.data or spec.runtime_class_name:
        return True
    known = [node.user_namespaces for node in nodes]
    return not known or not all(known)


def _for_this_job(spec: ServiceSpec, job: OrchestratorJob) -> ServiceSpec:
    """Return what the service does with this job: its own size and deadline, where it has any."""
    deadline = min(spec.deadline_seconds, job.spec.active_deadline_seconds or spec.deadline_seconds)
    resources = resources_of(job, spec)
    return spec.model_copy(update={"resources": resources, "deadline_seconds": deadline})


def _metadata(
    job: OrchestratorJob, spec: ServiceSpec, pool: OrchestratorNodePool
) -> dict[str, Any]:
    attempt = job.status.attempt
    return {
        "name": pod_name(job.metadata.name, attempt),
        "namespace": job.metadata.namespace,
        "labels": {
            labels.JOB: job.metadata.name,
            labels.ATTEMPT: str(attempt),
            labels.SERVICE: job.spec.service,
            labels.POOL: pool.metadata.name,
        },
        "annotations": {
            labels.USER: job.spec.user_id,
            **(SHARED_VOLUMES if spec.runtime_class_name else {}),
        },
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "OrchestratorJob",
                "name": job.metadata.name,
                "uid": job.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def _hardened() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def _agent(spec: ServiceSpec, surroundings: Surroundings) -> dict[str, Any]:
    return {
        "name": "agent",
        "image": surroundings.agent_image,
        "imagePullPolicy": surroundings.agent_pull_policy,
        "env": [
            {"name": "GATEWAY", "value": surroundings.gateway_url},
            {"name": "UPLOAD_SECONDS", "value": str(spec.upload_seconds)},
            {"name": "NETWORK_ISOLATION", "value": spec.network_isolation},
            # Before packing, so that a sparse file does not become a zip that bursts when unpacked.
            {"name": "RESULT_BYTES", "value": str(UNPACKED_RATIO * spec.results.max_bytes)},
            {"name": "DISK_BYTES", "value": str(_disk(spec))},
            {"name": "SNAPSHOT_BYTES", "value": str(spec.results.max_paced_snapshot_bytes)},
        ],
        "resources": {
            "requests": dict(AGENT),
            # Room for the inputs' zip, which is unpacked and removed before run.sh starts.
            "limits": {
                "cpu": "1",
                # The index of a zip of very many files is kept until its end.
                "memory": "256Mi",
                "ephemeral-storage": str(spec.inputs.max_bytes + (64 << 20)),
            },
        },
        "securityContext": _hardened(),
        "volumeMounts": [
            {"name": "work", "mountPath": "/work"},
            # The job's /tmp, which counts as its disk.
            {"name": "tmp", "mountPath": "/scratch"},
            {"name": "job", "mountPath": "/job"},
            {"name": "token", "mountPath": "/token", "readOnly": True},
        ],
    }


def _main(spec: ServiceSpec, wrapper: str) -> dict[str, Any]:
    amounts = spec.resources.amounts()
    deadline, grace = str(spec.deadline_seconds), str(spec.grace_seconds)
    return {
        "name": "main",
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": _verbatim("sh", "-c", wrapper, "wrapper", deadline, grace, *spec.entrypoint),
        "env": [
            {"name": "HOME", "value": "/work"},
            {"name": "ORCHESTRATOR_PROGRESS", "value": "/job/progress"},
            *({"name": e.name, "value": _verbatim(e.value)[0]} for e in spec.env),
        ],
        "resources": {
            "requests": amounts,
            "limits": {**amounts, "ephemeral-storage": str(_disk(spec) * 5 // 4)},
        },
        "securityContext": _hardened(),
        "volumeMounts": [
            {"name": "work", "mountPath": "/work"},
            {"name": "job", "mountPath": "/job", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (the job's own)
            *(
                {"name": f"data-{n}", "mountPath": f"{DATA}/{claim}", "readOnly": True}
                for n, claim in enumerate(spec.data)
            ),
        ],
        "workingDir": "/work",
    }


def _verbatim(*words: str) -> list[str]:
    """Return *words* so that the kubelet, which expands $(NAME) and $$, gives them back as is."""
    return [word.replace("$", "$$") for word in words]


def _volumes(spec: ServiceSpec, job_uid: str) -> list[dict[str, Any]]:
    # The agent stops a job that uses more than its share; the kubelet would evict it, and lose
    # what it has, only above that.
    disk = str(_disk(spec) * 5 // 4)
    token = {"audience": audience(job_uid), "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    return [
        {"name": "work", "emptyDir": {"sizeLimit": disk}},
        {"name": "job", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {"sizeLimit": disk}},
        {
            "name": "token",
            "projected": {"defaultMode": 0o440, "sources": [{"serviceAccountToken": token}]},
        },
        *(
            {
                "name": f"data-{n}",
                "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
            }
            for n, claim in enumerate(spec.data)
        ),
    ]


def _disk(spec: ServiceSpec) -> int:
    return int(amount(spec.resources.ephemeral_storage))
