"""All of the API's writes to Kubernetes, and the live reads that they rest on."""

from typing import Any

from orchestrator_crds import OrchestratorJob, OrchestratorService
from orchestrator_crds.lean import parse_job
from orchestrator_crds.meta import API_VERSION
from orchestrator_wire.kube import Kube, resources_path

LEASE = "orchestrator-operator"


class Cluster:
    """Jobs and the operator's Lease, read live and written by compare-and-swap."""

    def __init__(self, kube: Kube, namespace: str, jobs_namespace: str) -> None:
        self._kube, self._jobs_namespace = kube, jobs_namespace
        self._lease = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}"

    async def create(self, name: str, spec: dict[str, Any]) -> OrchestratorJob:
        """Create a job; raises AlreadyExists or another ClusterError."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "OrchestratorJob",
            "metadata": {"name": name},
            "spec": spec,
        }
        return parse_job(await self._kube.request("POST", self._path(), body))

    async def read(self, name: str) -> OrchestratorJob:
        """Return a job as it is now; raises NotFound."""
        return OrchestratorJob.parse(await self._kube.request("GET", self._path(name)))

    async def terminate(self, name: str) -> OrchestratorJob:
        """Ask for a job's end; asking twice is asking once."""
        body = {"spec": {"terminate": True}}
        return parse_job(await self._kube.request("PATCH", self._path(name), body))

    async def patch_status(self, job: OrchestratorJob, status: dict[str, Any]) -> OrchestratorJob:
        """Merge *status* into the job if it is still as it was read; raises Conflict."""
        body = {"metadata": {"resourceVersion": job.metadata.resource_version}, "status": status}
        path = self._path(job.metadata.name, "status")
        return OrchestratorJob.parse(await self._kube.request("PATCH", path, body))

    async def want_snapshot(self, name: str, moment: str) -> None:
        """Note that partial results of a job were asked for at *moment*."""
        body = {"status": {"snapshotWantedAt": moment}}
        await self._kube.request("PATCH", self._path(name, "status"), body)

    async def epoch(self) -> int:
        """Return the term of the operator that leads now."""
        lease = await self._kube.request("GET", self._lease)
        return int(lease["spec"].get("leaseTransitions") or 0)

    async def check(self) -> None:
        """Return when Kubernetes answers; raises ClusterError otherwise."""
        # Not a job: one could be large, and whoever may make one may give it the first name.
        path = resources_path(self._jobs_namespace, OrchestratorService.plural)
        await self._kube.request("GET", path, limit="1")

    def _path(self, name: str = "", subresource: str = "") -> str:
        return resources_path(self._jobs_namespace, OrchestratorJob.plural, name, subresource)
