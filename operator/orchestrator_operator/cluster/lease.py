"""Leadership: one active operator, by a coordination.k8s.io Lease.

kopf's peering is no leader election, and the Kubernetes client's own does not stop when the API
server freezes, so this is by hand: about what client-go's leaderelection does.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from orchestrator_wire import errors
from orchestrator_wire.kube import Kube

log = logging.getLogger(__name__)
NAME = "orchestrator-operator"


class Deposed(Exception):  # noqa: N818
    """This process does not hold the Lease (any more) and must not write."""


class Lease:
    """The Lease as this process sees it. Its epoch is the Lease's leaseTransitions."""

    def __init__(self, kube: Kube, namespace: str, identity: str, seconds: int) -> None:
        self._kube, self._identity, self._seconds = kube, identity, seconds
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._held_until = 0.0
        self._seen: tuple[Any, Any] = (None, None)
        self._seen_at = 0.0
        self.epoch = -1

    def held(self) -> bool:
        """Return whether this process may write, by its own clock and with a second to spare."""
        return time.monotonic() < self._held_until - 1.0

    def check(self) -> None:
        """Raise Deposed unless `held`."""
        if not self.held():
            raise Deposed("The Lease is not held by this operator; another may be active.")

    async def acquire(self) -> None:
        """Return when this process leads."""
        while True:
            try:
                if await self._try():
                    return
            except errors.ClusterError as error:
                log.warning("Cannot read or write the Lease, trying again: %s", error)
            await asyncio.sleep(self._seconds / 7.5)

    async def keep(self) -> None:
        """Renew until it cannot be renewed in time; then raise Deposed."""
        while True:
            await asyncio.sleep(self._seconds / 3)
            while True:
                try:
                    if await self._try():
                        break
                    raise Deposed("Another operator took the Lease.")
                except errors.ClusterError as error:
                    log.warning("Cannot renew the Lease, trying again: %s", error)
                    self.check()
                await asyncio.sleep(1.0)

    async def release(self) -> None:
        """Give the Lease up, so that the next operator need not wait for it to run out."""
        if not self.held():
            return
        self._held_until = 0.0
        try:
            lease = await self._kube.request("GET", f"{self._path}/{NAME}")
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kube.request("PUT", f"{self._path}/{NAME}", lease)
        except errors.ClusterError as error:
            log.warning("Could not release the Lease; it will run out: %s", error)

    async def _try(self) -> bool:
        """Take or renew the Lease if that is possible now; returns whether it is ours."""
        asked_at = time.monotonic()
        try:
            lease = await self._kube.request("GET", f"{self._path}/{NAME}")
        except errors.NotFound:
            lease = {"metadata": {"name": NAME}, "spec": {}}
        spec = lease["spec"]
        ours = spec.get("holderIdentity") == self._identity
        if not ours and not self._expired(spec):
            return False
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if not ours:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._seconds,
            "renewTime": now,
        }
        try:
            if lease["metadata"].get("resourceVersion"):
                await self._kube.request("PUT", f"{self._path}/{NAME}", lease)
            else:
                await self._kube.request("POST", self._path, lease)
        except (errors.Conflict, errors.AlreadyExists):
            return False
        self.epoch = spec["leaseTransitions"]
        self._held_until = asked_at + self._seconds
        return True

    def _expired(self, spec: dict[str, Any]) -> bool:
        """Return whether the holder let the Lease run out, by this process's own clock.

        Clocks of two nodes may differ; what counts is how long the Lease was seen unchanged.
        """
        if not spec.get("holderIdentity"):
            return True
        seen = (spec.get("holderIdentity"), spec.get("renewTime"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return time.monotonic() > self._seen_at + float(spec.get("leaseDurationSeconds") or 15)
