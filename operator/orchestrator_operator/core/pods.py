"""What the operator reads in a pod; every field of the cluster's JSON may be missing."""

from dataclasses import dataclass
from typing import Any

from orchestrator_crds import labels
from orchestrator_crds.meta import Metadata, seconds_of


@dataclass(frozen=True)
class Pod:
    """A pod of ours, as last seen."""

    metadata: Metadata
    body: dict[str, Any]

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "Pod":
        """Read a pod; raises ValidationError when its metadata is no metadata."""
        return cls(Metadata.model_validate(body.get("metadata")), body)

    @property
    def name(self) -> str:
        """Return the pod's name."""
        return self.metadata.name

    @property
    def created(self) -> float:
        """Return when it was created, in seconds since 1970; 0 when it does not say."""
        return seconds_of(self.metadata.creation_timestamp)

    @property
    def job(self) -> str:
        """Return the name of the job it runs."""
        return self.metadata.labels.get(labels.JOB, "")

    @property
    def service(self) -> str:
        """Return the service that it counts against."""
        return self.metadata.labels.get(labels.SERVICE, "")

    @property
    def user(self) -> str:
        """Return the user that it counts against."""
        return self.metadata.annotations.get(labels.USER, "")

    @property
    def pool(self) -> str:
        """Return the node pool that it counts against."""
        return self.metadata.labels.get(labels.POOL, "")

    @property
    def node(self) -> str:
        """Return its node, or an empty text while it has none."""
        spec = self.body.get("spec")
        return str(spec.get("nodeName") or "") if isinstance(spec, dict) else ""

    @property
    def requests(self) -> dict[str, str]:
        """Return what its job takes up, by resource: what quotas count."""
        spec = self.body.get("spec")
        containers = spec.get("containers") if isinstance(spec, dict) else None
        for container in containers or ():
            if container.get("name") == "main":
                found: dict[str, str] = (container.get("resources") or {}).get("requests") or {}
                return found
        return {}

    @property
    def job_uid(self) -> str:
        """Return the uid of the job that owns it, or an empty text when none does."""
        owners = self.metadata.owner_references
        return next((o.uid for o in owners if o.kind == "OrchestratorJob"), "")

    @property
    def attempt(self) -> int:
        """Return which attempt it is, or 0 when its label says nothing usable."""
        text = self.metadata.labels.get(labels.ATTEMPT, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    @property
    def _status(self) -> dict[str, Any]:
        status = self.body.get("status")
        return status if isinstance(status, dict) else {}

    @property
    def phase(self) -> str:
        """Return the kubelet's word for where the pod is."""
        return str(self._status.get("phase", ""))

    @property
    def over(self) -> bool:
        """Return whether no container of it runs or will run."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def leaving(self) -> bool:
        """Return whether its deletion was asked for."""
        return self.metadata.deletion_timestamp is not None

    @property
    def begun(self) -> float:
        """Return when its node took it on, in seconds since 1970, or else when it was created."""
        return seconds_of(str(self._status.get("startTime", ""))) or self.created

    @property
    def unschedulable(self) -> str:
        """Return why no node takes it, in the scheduler's words, or an empty text."""
        for condition in self._status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return str(condition.get("message") or condition.get("reason") or "no node")
        return ""

    @property
    def unreachable(self) -> bool:
        """Return whether its node has stopped answering.

        The kubelet calls a pod ready as soon as its containers are; that the one holds and the
        other does not is the mark of the node controller, which knows no other way to say it.
        """
        conditions = self._status.get("conditions") or ()
        found = {c.get("type"): c.get("status") for c in conditions}
        return found.get("Ready") == "False" and found.get("ContainersReady") == "True"

    def ended_at(self, container: str) -> float:
        """Return when *container* ended, in seconds since 1970; 0 when it has not."""
        for entry in self._status.get("containerStatuses") or ():
            if entry.get("name") == container:
                state = (entry.get("state") or {}).get("terminated") or {}
                return seconds_of(str(state.get("finishedAt", "")))
        return 0.0

    def ended(self, container: str) -> bool:
        """Return whether the kubelet says that *container* has ended."""
        for entry in self._status.get("containerStatuses") or ():
            if entry.get("name") == container:
                return bool((entry.get("state") or {}).get("terminated"))
        return False

    @property
    def useless(self) -> bool:
        """Return whether the pod can do nothing more: without its agent it saves nothing."""
        return self.over or self.ended("agent")
