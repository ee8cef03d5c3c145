"""Job numbers: unique over all replicas, never used twice, a fraction of a write each.

One ConfigMap holds the next free number. A replica takes a block by compare-and-swap; what it
has not used when it ends is lost, which a gap in the numbers is well worth.
"""

import asyncio

from orchestrator_wire import errors
from orchestrator_wire.kube import Kube

NAME = "orchestrator-ids"
LARGEST = 2**31 - 1
# A quiet replica wastes little, a busy one asks seldom: blocks double up to this.
LONGEST_BLOCK = 128
TRIES = 50


class Ids:
    """Hands out numbers from 1 upwards."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._lock = asyncio.Lock()
        self._next, self._end, self._block = 0, 0, 1

    async def take(self) -> int:
        """Return a number that nobody else has or will get; raises ClusterError."""
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
                counter = {"metadata": {"name": NAME}, "data": {"next": "1"}}
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
