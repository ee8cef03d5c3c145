"""Every write of the operator: status patches by compare-and-swap, pods made and deleted."""

from typing import Any

from orchestrator_crds import OrchestratorJob, OrchestratorService, Resource
from orchestrator_crds.meta import Condition, set_condition
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.core.judgement import Verdict
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, now, pods_path, resources_path


class Writer:
    """Writes to one namespace, only while the Lease is held."""

    def __init__(self, kube: Kube, lease: Lease, namespace: str) -> None:
        self._kube, self._lease, self._namespace = kube, lease, namespace

    async def read_job(self, name: str) -> dict[str, Any]:
        """Return a job as it is now; raises NotFound."""
        return await self._kube.request("GET", self._job(name))

    async def check_no_service(self, name: str) -> None:
        """Return when there is no service of this name; raises Temporary when there is."""
        path = resources_path(self._namespace, OrchestratorService.plural, name)
        try:
            await self._kube.request("GET", path)
        except errors.NotFound:
            return
        raise errors.Temporary(f"Service {name} is there, but its watch has not told yet.")

    async def patch_job(self, job: OrchestratorJob, status: dict[str, Any]) -> dict[str, Any]:
        """Merge *status* into the job, if it is still as it was read; raises Conflict."""
        return await self._patch_status(self._job(job.metadata.name), job, status)

    async def merge_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        """Merge *status* into this very job, whatever else changed in it; raises Conflict."""
        self._lease.check()
        body = {"metadata": {"uid": uid}, "status": status}
        await self._kube.request("PATCH", f"{self._job(name)}/status", body)

    async def delete_job(self, job: OrchestratorJob) -> None:
        """Delete this very job, if it is still as it was read; one that is gone is no error."""
        self._lease.check()
        version, uid = job.metadata.resource_version, job.metadata.uid
        body = {"preconditions": {"uid": uid, "resourceVersion": version}}
        try:
            await self._kube.request("DELETE", self._job(job.metadata.name), body)
        except errors.NotFound:
            return

    async def judge(self, item: Resource, verdict: Verdict, more: dict[str, Any]) -> dict[str, Any]:
        """Write the Ready condition of a service, quota or pool, and *more* of its status."""
        condition = Condition(
            type="Ready",
            status="True" if verdict.ready else "False",
            reason=verdict.reason,
            message=verdict.message,
            last_transition_time=now(),
            observed_generation=item.metadata.generation,
        )
        conditions = set_condition(item.status.conditions, condition)  # type: ignore[attr-defined]
        status = {
            "observedGeneration": item.metadata.generation,
            "conditions": [c.to_dict() for c in conditions],
            **more,
        }
        return await self.tell(item, status)

    async def tell(self, item: Resource, status: dict[str, Any]) -> dict[str, Any]:
        """Write a part of the status of a service, quota or pool."""
        path = resources_path(self._namespace, item.plural, item.metadata.name)
        old = item.status.to_dict()  # type: ignore[attr-defined]
        patch = {key: replaced(old.get(key), value) for key, value in status.items()}
        return await self._patch_status(path, item, patch)

    async def _patch_status(
        self, path: str, item: Resource, status: dict[str, Any]
    ) -> dict[str, Any]:
        self._lease.check()
        # The version makes the server refuse the patch when the object changed since.
        body = {"metadata": {"resourceVersion": item.metadata.resource_version}, "status": status}
        return await self._kube.request("PATCH", f"{path}/status", body)

    async def create_pod(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create a pod, or return the one of this name if this very attempt owns it already.

        Raises Conflict when a pod of this name belongs to somebody else: it is on its way out.
        """
        self._lease.check()
        try:
            return await self._kube.request("POST", pods_path(self._namespace), manifest)
        except errors.AlreadyExists as error:
            metadata = manifest["metadata"]
            found = await self._kube.request("GET", pods_path(self._namespace, metadata["name"]))
            owners = (found.get("metadata") or {}).get("ownerReferences") or ()
            if metadata["ownerReferences"][0]["uid"] in {o.get("uid") for o in owners}:
                return found
            raise errors.Conflict(f"{error} (it belongs to another job)") from error

    async def read_pod(self, name: str) -> dict[str, Any] | None:
        """Return a pod as it is now, or None when there is none."""
        try:
            return await self._kube.request("GET", pods_path(self._namespace, name))
        except errors.NotFound:
            return None

    async def delete_pod(self, name: str, uid: str) -> dict[str, Any] | None:
        """Ask for the end of this very pod; returns it as it is now, or None when it is gone."""
        self._lease.check()
        body = {"preconditions": {"uid": uid}}
        try:
            answer = await self._kube.request("DELETE", pods_path(self._namespace, name), body)
        except (errors.NotFound, errors.Conflict):
            return None
        # A pod that nothing runs of any more goes at once; the answer is then no pod.
        return answer if answer.get("kind") == "Pod" else None

    def _job(self, name: str) -> str:
        return resources_path(self._namespace, OrchestratorJob.plural, name)


def replaced(old: Any, new: Any) -> Any:
    """Return the merge patch (RFC 7396) that makes *new* of *old*: what is gone becomes null."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in old if key not in new}
    return {**gone, **{key: replaced(old.get(key), value) for key, value in new.items()}}
