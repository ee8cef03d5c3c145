"""Kubernetes Events about jobs: written for failures only, and never many at once."""

import logging
import time

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.meta import API_VERSION
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, now

log = logging.getLogger(__name__)
LONGEST_MESSAGE = 1000


class Pace:
    """A budget of so many writes a second, for this process; what is not used is not saved up."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left, self._at = per_second, time.monotonic()

    def spend(self) -> bool:
        """Take one from the budget; returns whether there was one."""
        at = time.monotonic()
        self._left = min(self._left + (at - self._at) * self._per_second, self._per_second)
        self._at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Events:
    """Writes Warning events; the job's status says the same, so one that is lost is no loss."""

    def __init__(self, kube: Kube, namespace: str, component: str, per_second: float = 5.0) -> None:
        self._kube, self._component = kube, component
        self._path = f"/api/v1/namespaces/{namespace}/events"
        self._pace = Pace(per_second)

    async def warn(self, job: OrchestratorJob, reason: str, message: str) -> None:
        """Write an event about *job*; never raises ClusterError."""
        if not self._pace.spend():
            return
        moment = now()
        event = {
            # One an attempt: told twice, it is there once.
            "metadata": {
                "name": f"{job.metadata.name}.{job.metadata.uid[:8]}.{job.status.attempt}"
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": "OrchestratorJob",
                "name": job.metadata.name,
                "namespace": job.metadata.namespace,
                "uid": job.metadata.uid,
                "resourceVersion": job.metadata.resource_version,
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:LONGEST_MESSAGE],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        try:
            await self._kube.request("POST", self._path, event)
        except errors.AlreadyExists:
            return
        except errors.ClusterError as error:
            log.warning("No event about %s: %s", job.metadata.name, error)
