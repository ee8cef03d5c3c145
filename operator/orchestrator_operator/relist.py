"""The re-list: the truth, asked for every half minute, and the check that the watches live.

A watch can fall silent, and a 410 sends no DELETED; what the list says goes. A change that the
list sees again and again and the watch never delivers means a dead watch: the process restarts.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from orchestrator_crds import labels
from orchestrator_crds.lifecycle import LIVE_SELECTOR
from orchestrator_operator.mirror import ADMINISTERED, JOBS, NODES, PODS, Mirror, version
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, pods_path, resources_path

log = logging.getLogger(__name__)


# A watch that begins with a long backlog takes its time; a dead one is noticed in two minutes.
LISTS_UNTIL_BLIND = 4
REST_PER_LIST = 10.0


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
        self._paths[NODES] = ("/api/v1/nodes", {})
        self._paths[JOBS] = (resources_path(namespace, JOBS), {"fieldSelector": LIVE_SELECTOR})
        self._paths[PODS] = (pods_path(namespace), {"labelSelector": labels.JOB})
        # Versions that watches delivered; and versions that lists had but no watch delivered, with
        # how many lists in a row had them.
        self._delivered: dict[tuple[str, str], int] = {}
        self._missing: dict[tuple[str, str, int], int] = {}

    def delivered(self, plural: str, body: dict[str, Any]) -> None:
        """Take note of what a watch delivered."""
        self._delivered[plural, str((body.get("metadata") or {}).get("name"))] = version(body)

    async def once(self) -> None:
        """List everything; raises ClusterError, or Blind when a watch is dead."""
        missing: dict[tuple[str, str, int], int] = {}
        before = dict(self._delivered)
        present: set[tuple[str, str]] = set()
        for plural, (path, query) in self._paths.items():
            names, list_version = set(), ""
            # Page by page: all of a long list at once would take more memory than the mirror.
            async for bodies, list_version in self._kube.pages(path, **query):  # noqa: B007
                for body in bodies:
                    self._mirror.see(plural, body)
                    name = str(body["metadata"]["name"])
                    names.add(name)
                    if self._delivered.get((plural, name), 0) < version(body):
                        key = (plural, name, version(body))
                        missing[key] = self._missing.get(key, 0) + 1
            self._mirror.retain(plural, names, list_version)
            present |= {(plural, name) for name in names}
        # What came by a watch after its page of the list was read is no less delivered.
        self._delivered = {
            k: v for k, v in self._delivered.items() if k in present or before.get(k) != v
        }
        self._missing = missing
        if dead := [key for key, times in missing.items() if times >= LISTS_UNTIL_BLIND]:
            raise Blind(f"Listed again and again, but never delivered by a watch: {dead[:3]}")

    async def forever(self, seconds: float, then: Callable[[], None]) -> None:
        """List again and again; raises when listing is no use any more."""
        pause = seconds
        while True:
            await asyncio.sleep(pause)
            begun = time.monotonic()
            try:
                await self.once()
            except (errors.Temporary, errors.NotFound) as error:
                # NotFound, too: of a list that takes long, the version may become too old.
                log.warning("Could not list; trying again: %s", error)
                continue
            # A long list is no reason to do nothing but list.
            pause = max(seconds, REST_PER_LIST * (time.monotonic() - begun))
            then()
