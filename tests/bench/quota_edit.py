"""How soon an edited quota admits: `hack/python -m tests.bench.quota_edit [ROUNDS]`.

Needs the cluster of hack/up. From the moment that a watch shows the edit to the moment that it
shows the first claim which the edit allows; beside it, what a write of our own takes there and back.
"""

import asyncio
import statistics
import sys
import time

from local.paths import JOBS_NAMESPACE
from orchestrator_crds import OrchestratorQuota
from orchestrator_wire.kube import Kube, resources_path
from tests.bench import queues
from tests.cluster.place import Place, until

SERVICE = "edited"
ROUNDS = 20
SPEC = {"resources": {"cpu": "100m", "memory": "64Mi"}}


async def edit_seen(kube: Kube, since: str, most: int) -> float:
    """Return when the watch shows that the quota's spec has *most*."""
    path = resources_path(JOBS_NAMESPACE, OrchestratorQuota.plural)
    async for _, body in kube.watch(path, since, fieldSelector=f"metadata.name={SERVICE}"):
        if body.get("spec", {}).get("maxRunning") == most:
            return time.monotonic()
    raise RuntimeError("the watch ended")


async def measure(rounds: int) -> tuple[list[float], list[float]]:
    """Return (seconds from edit to claim, seconds that a write takes), a pair for each round."""
    waits, writes = [], []
    async with queues.connected() as kube:
        jobs = ((f"{SERVICE}-{n}", {"service": SERVICE, "userID": str(n)}) for n in range(200))
        await queues.submit(kube, jobs)
        await asyncio.sleep(2)
        for number in range(1, rounds + 1):
            found = await kube.request("GET", queues.JOBS, limit="1")
            since = str(found["metadata"]["resourceVersion"])
            claimed = asyncio.create_task(queues.first_claim(kube, SERVICE, since))
            seen = asyncio.create_task(edit_seen(kube, since, number))
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            await queues.edit(kube, SERVICE, maxRunning=number)
            writes.append(time.monotonic() - begun)
            async with asyncio.timeout(60):
                waits.append(await claimed - await seen)
            await asyncio.sleep(1)
    return waits, writes


def main() -> None:
    """Measure and print."""
    place = Place()
    queues.prepare(place, [SERVICE], SPEC)
    place.apply("OrchestratorQuota", SERVICE, {"services": [SERVICE], "maxRunning": 0})
    until(lambda: place.get("oq", SERVICE).get("status", {}).get("inForce"), "it is in force")
    try:
        with queues.pods_off(place):
            waits, writes = asyncio.run(measure(int(sys.argv[1]) if sys.argv[1:] else ROUNDS))
    finally:
        queues.clear(place, [SERVICE])
    middle, write = statistics.median(waits), statistics.median(writes)
    print(
        f"edit to claim: median {middle:.3f} s, at most {max(waits):.3f} s; "
        f"{middle / write:.1f} x one write ({write * 1000:.1f} ms)"
    )


if __name__ == "__main__":
    main()
