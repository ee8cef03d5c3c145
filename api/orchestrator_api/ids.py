"""Job numbers: unique over all replicas, never used twice, a fraction of a write each.

One ConfigMap holds the next free number. A replica takes a block by compare-and-swap; what it
has not used when it ends is lost, which a gap in the numbers is well worth.
"""

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.names import RECORDS_PREFIX, job_id_of_record
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path
from orchestrator_wire.s3 import Store

NAME = "orchestrator-ids"
LARGEST = 2**31 - 1
# A quiet replica wastes little, a busy one asks seldom: blocks double up to this.
LONGEST_BLOCK = 128
TRIES = 50


class Ids:
    """Hands out numbers from 1 upwards.

    *highest* is asked for the highest number in use when there is no counter: at the very first
    start, or when somebody deleted it.
    """

    def __init__(self, kube: Kube, namespace: str, highest: Callable[[], Awaitable[int]]) -> None:
        self._kube, self._highest = kube, highest
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._lock = asyncio.Lock()
        self._next, self._end, self._block = 0, 0, 1

    async def take(self) -> int:
        """Return a number that nobody else has or will get; raises ClusterError or StoreError."""
        async with self._lock:
            if self._next >= self._end:
                self._next, self._end = await self._take_block()
                self._block = min(2 * self._block, LONGEST_BLOCK)
            number = self._next
            self._next += 1
            return number

    async def _take_block(self) -> tuple[int, int]:
        for _ in range(TRIES):
            try:
                counter = await self._kube.request("GET", f"{self._path}/{NAME}")
            except errors.NotFound:
                first = await self._highest() + 1
                counter = {"metadata": {"name": NAME}, "data": {"next": str(first)}}
            first = int(counter["data"]["next"])
            end = first + self._block
            if end > LARGEST:
                raise errors.Permanent("All job numbers, up to 2147483647, are used up.")
            counter["data"]["next"] = str(end)
            try:
                if counter["metadata"].get("resourceVersion"):
                    await self._kube.request("PUT", f"{self._path}/{NAME}", counter)
                else:
                    await self._kube.request("POST", self._path, counter)
            except (errors.Conflict, errors.AlreadyExists):
                continue
            return first, end
        raise errors.Temporary(f"Could not take job numbers from {NAME}: too many at once.")


async def highest_in_use(kube: Kube, store: Store, jobs_namespace: str) -> int:
    """Return the highest number of any job or record, or 0; raises ClusterError or StoreError."""
    highest = 0
    async for bodies, _ in kube.pages(resources_path(jobs_namespace, OrchestratorJob.plural)):
        for body in bodies:
            highest = max(highest, int((body.get("spec") or {}).get("id") or 0))
    async for page in store.pages(RECORDS_PREFIX):
        for key, _ in page:
            highest = max(highest, job_id_of_record(key))
    return highest
