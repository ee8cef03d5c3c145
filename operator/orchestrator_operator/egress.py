"""Keeps the NetworkPolicies of services as the services say where their jobs may connect to."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator_crds import OrchestratorService
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.core.network import OURS, policy, stands
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, policies_path

log = logging.getLogger(__name__)
Policies = dict[str, dict[str, Any]]
# Whatever else became of them is put right after so long.
AGAIN_SECONDS = 300.0


class Egress:
    """Writes these policies to one namespace, only while the Lease is held."""

    def __init__(
        self,
        kube: Kube,
        lease: Lease,
        namespace: str,
        services: Callable[[], Mapping[str, OrchestratorService]],
    ) -> None:
        self._kube, self._lease, self._namespace = kube, lease, namespace
        self._services = services

    async def forever(self, seconds: float) -> None:
        """Look every so often whether a service says something else; raises Deposed."""
        written: Policies | None = None
        again_at = 0.0
        while True:
            wanted = self.wanted()
            if wanted != written or time.monotonic() > again_at:
                try:
                    await self.once(wanted)
                    written, again_at = wanted, time.monotonic() + AGAIN_SECONDS
                except errors.ClusterError as error:
                    log.warning("Cannot write where jobs may connect to; trying again: %s", error)
                    await asyncio.sleep(5.0)
            await asyncio.sleep(seconds)

    def wanted(self) -> Policies:
        """Return the policies that the services ask for, by name."""
        found = (policy(service, self._namespace) for service in self._services().values())
        return {p["metadata"]["name"]: p for p in found if p}

    async def once(self, wanted: Policies) -> None:
        """Make the policies in the cluster those *wanted*; raises ClusterError or Deposed."""
        path = policies_path(self._namespace)
        (label,) = (f"{key}={value}" for key, value in OURS.items())
        found, _ = await self._kube.list(path, labelSelector=label)
        left = dict(wanted)
        for old in found:
            name = old["metadata"]["name"]
            new = left.pop(name, None)
            self._lease.check()
            if new is None:
                await self._delete(name)
            elif not stands(new, old):
                await self._kube.request("PUT", policies_path(self._namespace, name), new)
        for new in left.values():
            self._lease.check()
            await self._kube.request("POST", path, new)

    async def _delete(self, name: str) -> None:
        try:
            await self._kube.request("DELETE", policies_path(self._namespace, name))
        except errors.NotFound:
            return
