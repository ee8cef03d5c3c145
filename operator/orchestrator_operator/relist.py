"""The re-list: the truth, asked for every half minute, and the check that the watches live.

A watch can fall silent, and a 410 sends no DELETED; what the list says goes. A change that the
list saw twice and the watch never delivered means a dead watch: the process then restarts.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from orchestrator_crds import labels
from orchestrator_operator.handlers import LIVE_JOBS
from orchestrator_operator.mirror import ADMINISTERED, JOBS, PODS, Mirror, version
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, pods_path, resources_path

log = logging.getLogger(__name__)


class Blind(Exception):  # noqa: N818
    """A watch does not deliver what is there; only a restart helps."""


class Relist:
    """Lists everything that is watched and puts it into the mirror."""

    def __init__(self, kube: Kube, mirror: Mirror, namespace: str) -> None:
        self._kube, self._mirror = kube, mirror
        # Jobs first: a pod listed after them belongs to a job that the list knows or that is over.
        self._paths: dict[str, tuple[str, dict[str, str]]] = {
            plural: (resources_path(namespace, plural), {}) for plural in ADMINISTERED
        }
        self._paths[JOBS] = (resources_path(namespace, JOBS), {"fieldSelector": LIVE_JOBS})
        self._paths[PODS] = (pods_path(namespace), {"labelSelector": labels.JOB})
        # Versions that watches delivered, and that the last list had but no watch did.
        self._delivered: dict[tuple[str, str], int] = {}
        self._missing: set[tuple[str, str, int]] = set()

    def delivered(self, plural: str, body: dict[str, Any]) -> None:
        """Take note of what a watch delivered."""
        self._delivered[plural, str((body.get("metadata") or {}).get("name"))] = version(body)

    async def once(self) -> None:
        """List everything; raises ClusterError, or Blind when a watch is dead."""
        missing: set[tuple[str, str, int]] = set()
        present: set[tuple[str, str]] = set()
        for plural, (path, query) in self._paths.items():
            bodies, list_version = await self._kube.list(path, **query)
            self._mirror.replace(plural, bodies, list_version)
            for body in bodies:
                name = str(body["metadata"]["name"])
                present.add((plural, name))
                if self._delivered.get((plural, name), 0) < version(body):
                    missing.add((plural, name, version(body)))
        self._delivered = {k: v for k, v in self._delivered.items() if k in present}
        if twice := missing & self._missing:
            raise Blind(f"Listed twice, but never delivered by a watch: {sorted(twice)[:3]}")
        self._missing = missing

    async def forever(self, seconds: float, then: Callable[[], None]) -> None:
        """List again and again; raises when listing is no use any more."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.once()
            except errors.Temporary as error:
                log.warning("Could not list; trying again: %s", error)
                continue
            then()
