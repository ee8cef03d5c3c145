"""How soon an operator that starts with a long queue admits: `hack/python -m tests.bench.backlog`.

Needs the cluster of hack/up. Twice, with a short queue and a long one, so that what grows with the
queue shows: time from the operator's start to its first claim, and the most memory that it had.
"""

import asyncio
import os
import signal
import sys
import time

from tests.bench import queues
from tests.bench.queues import Use
from tests.cluster.place import Place, until

SERVICE = "backlog"
SIZES = (5_000, 50_000)
USERS = 500
SPEC = {"resources": {"cpu": "100m", "memory": "64Mi"}}


async def measure(place: Place, jobs: int, known: int) -> tuple[float, Use]:
    """Return (seconds to the first claim, what the operator had used by then)."""
    async with queues.connected() as kube:
        await queues.submit(
            kube,
            (
                (f"{SERVICE}-{n}", {"service": SERVICE, "userID": f"user-{n % USERS}"})
                for n in range(known, jobs)
            ),
        )
        old = place.pid("operator")
        os.kill(old, signal.SIGSTOP)
        await queues.edit(kube, SERVICE, maxRunning=1 + place_taken(place))
        found = await kube.request("GET", queues.JOBS, limit="1")
        since = str(found["metadata"]["resourceVersion"])
        os.kill(old, signal.SIGKILL)
        # The kubelet starts it anew in the same pod, which holds the Lease still.
        while (pid := place.pid("operator")) == old:
            await asyncio.sleep(0.02)
        started = time.monotonic()
        async with asyncio.timeout(300):
            claimed = await queues.first_claim(kube, SERVICE, since)
        await asyncio.sleep(10)  # what else it does at its start
        return claimed - started, Use.of(pid)


def place_taken(place: Place) -> int:
    """Return how many jobs of the service are claimed already."""
    return int(place.get("oq", SERVICE).get("status", {}).get("running") or 0)


def main() -> None:
    """Measure and print."""
    sizes = tuple(int(word) for word in sys.argv[1:]) or SIZES
    place, known, found = Place(), 0, []
    queues.prepare(place, [SERVICE], SPEC)
    place.apply("OrchestratorQuota", SERVICE, {"services": [SERVICE], "maxRunning": 0})
    until(lambda: place.get("oq", SERVICE).get("status", {}).get("inForce"), "it is in force")
    try:
        with queues.pods_off(place):
            for jobs in sizes:
                seconds, use = asyncio.run(measure(place, jobs, known))
                known = jobs
                found.append(use.peak)
                print(
                    f"{jobs:6} jobs wait: first claim {seconds:5.1f} s after the operator's start, "
                    f"at most {use.peak / 2**20:.0f} MiB, {use.seconds:.1f} s of processor",
                    flush=True,
                )
        if len(sizes) > 1:
            each = (found[-1] - found[0]) / (sizes[-1] - sizes[0])
            print(f"each waiting job costs {each / 1024:.1f} KiB")
    finally:
        queues.clear(place, [SERVICE])


if __name__ == "__main__":
    main()
