"""The load of Kueue's own baseline, on this engine: `hack/python -m tests.bench.kueue_shape [PER_QUEUE]`.

Kueue's performance test (kubernetes-sigs/kueue, test/performance/scheduler, baseline) has 5 groups
of 6 queues, and in each 500 jobs: of ten, seven run 0.2 s and take 1 unit, two run 0.5 s and take
5, one runs 1 s and takes 20; a queue has 20 units. Here each queue is a service with a quota of its
own, without lending. Needs the cluster of hack/up. Pods are made and never scheduled; this bench
plays gateway and kubelet. The figure is the makespan over the ideal one: work of a queue, in
seconds of units, over its units. Kueue's own run, with lending: 351 s, 5.3 times its ideal, 396
thousandths of a processor, 445 MB.

On a small machine the API server takes longer for a job's writes than the job takes to run. So the
same writes are made once with nobody to decide, as many at once as the API server likes: that is
what this machine could do at best.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from local.paths import JOBS_NAMESPACE
from orchestrator_crds import (
    OrchestratorJob,
    OrchestratorNodePool,
    OrchestratorService,
    labels,
    transitions,
)
from orchestrator_crds.lifecycle import Phase, Reason
from orchestrator_crds.outcome import Outcome
from orchestrator_crds.resources import ComputeResources
from orchestrator_operator.core import podspec
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, now, pods_path, resources_path
from tests.bench import queues
from tests.bench.queues import Use
from tests.cluster.place import Place, until

QUEUES = [f"queue-{number}" for number in range(30)]
PER_QUEUE = 500
UNITS = 20
# (of ten jobs so many, seconds that one runs, units that it takes)
SHAPES = ((7, 0.2, 1), (2, 0.5, 5), (1, 1.0, 20))
SPEC = {
    "resources": {"cpu": "1", "memory": "64Mi"},
    "maxResources": {"cpu": str(UNITS), "memory": "64Mi"},
}
ALONE = 600
NOWHERE = podspec.Surroundings("agent", "Never", "http://127.0.0.1:1", "true")
DONE = Outcome(Phase.COMPLETED, Reason.SUCCEEDED, "Done.", 0)


def shapes(per_queue: int) -> list[tuple[float, int]]:
    """Return (seconds, units) of each job of a queue, mixed as they come."""
    ten = [(seconds, units) for count, seconds, units in SHAPES for _ in range(count)]
    return [ten[number * 3 % 10] for number in range(per_queue)]


def ideal(per_queue: int) -> float:
    """Return how long a queue's jobs take at least, in seconds."""
    return sum(seconds * units for seconds, units in shapes(per_queue)) / UNITS


def all_jobs(per_queue: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every job: its name and spec."""
    for number, (_, units) in enumerate(shapes(per_queue)):
        for queue in QUEUES:
            yield (
                f"{queue}-{number}",
                {"service": queue, "userID": "kueue", "resources": {"cpu": str(units)}},
            )


class Player:
    """Plays the gateway and the kubelet: a pod that is made runs its time, and is over."""

    def __init__(self, kube: Kube, per_queue: int) -> None:
        self._kube, self._shapes = kube, shapes(per_queue)
        self._tasks: set[asyncio.Task[None]] = set()
        self.left = per_queue * len(QUEUES)
        self.over = asyncio.Event()

    async def play(self) -> None:
        """Play, until cancelled."""
        known: set[str] = set()
        _, since = await self._kube.list(pods_path(JOBS_NAMESPACE), labelSelector=labels.JOB)
        while True:
            events = self._kube.watch(pods_path(JOBS_NAMESPACE), since, labelSelector=labels.JOB)
            async for kind, body in events:
                since = body["metadata"]["resourceVersion"]
                name = body["metadata"].get("name", "")
                if kind == "ADDED" and name.startswith("queue-") and name not in known:
                    known.add(name)
                    task = asyncio.create_task(self._one(body["metadata"]))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _one(self, pod: dict[str, Any]) -> None:
        name = pod["labels"][labels.JOB]
        seconds, _ = self._shapes[int(name.rpartition("-")[2])]
        await run(self._kube, name, pod, seconds)
        self.left -= 1
        if not self.left:
            self.over.set()


async def run(kube: Kube, job: str, pod: dict[str, Any], seconds: float) -> None:
    """Do what gateway and kubelet do while the job of this pod (its metadata) runs."""
    await patch(
        kube,
        job,
        lambda job: transitions.start(job, pod=pod["name"], uid=pod["uid"], node="n", now=now()),
    )
    await asyncio.sleep(seconds)
    await patch(kube, job, lambda job: transitions.settle(job, DONE, None, now=now()))
    path = f"{pods_path(JOBS_NAMESPACE, pod['name'])}/status"
    # A pod that has no node may be gone as soon as its job is over.
    with suppress(errors.NotFound):
        await kube.request("PATCH", path, {"status": {"phase": "Succeeded"}})


async def patch(
    kube: Kube, name: str, change: Callable[[OrchestratorJob], dict[str, Any]]
) -> OrchestratorJob:
    """Read a job and write its status, until it goes through; returns it as written."""
    path = resources_path(JOBS_NAMESPACE, OrchestratorJob.plural, name)
    while True:
        try:
            job = OrchestratorJob.parse(await kube.request("GET", path))
            version = {"resourceVersion": job.metadata.resource_version}
            body = {"metadata": version, "status": change(job)}
            return OrchestratorJob.parse(await kube.request("PATCH", f"{path}/status", body))
        except errors.Conflict:
            continue
        except errors.Temporary:
            await asyncio.sleep(0.2)


async def alone(place: Place) -> float:
    """Return how many seconds a job takes at best when nobody decides: its writes, no more."""
    service = OrchestratorService.parse(place.get("orchestratorservice", QUEUES[0]))
    pool = OrchestratorNodePool.parse(place.get("orchestratornodepool", queues.POOL))
    size = ComputeResources.model_validate(SPEC["resources"])

    async def one(kube: Kube, name: str) -> None:
        job = await patch(
            kube,
            name,
            lambda job: transitions.claim(
                job, epoch=1, pool=queues.POOL, resources=size, now=now()
            ),
        )
        manifest = podspec.build(job, service, pool, NOWHERE)
        pod = await kube.request("POST", pods_path(JOBS_NAMESPACE), manifest)
        await run(kube, name, pod["metadata"], 0.0)
        with suppress(errors.NotFound):
            await kube.request("DELETE", pods_path(JOBS_NAMESPACE, pod["metadata"]["name"]))

    async with queues.connected() as kube:
        names = [f"{QUEUES[0]}-alone-{number}" for number in range(ALONE)]
        await queues.submit(kube, ((name, {"service": QUEUES[0], "userID": "k"}) for name in names))
        left = iter(names)

        async def worker() -> None:
            for name in left:
                await one(kube, name)

        begun = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(queues.AT_ONCE)))
        return (time.monotonic() - begun) / ALONE


async def measure(place: Place, per_queue: int) -> tuple[float, Use, Use]:
    """Return (makespan in seconds, what the operator had used before, and after)."""
    async with queues.connected() as kube:
        await queues.submit(kube, all_jobs(per_queue))
        player = Player(kube, per_queue)
        playing = asyncio.create_task(player.play())
        await asyncio.sleep(5)
        before = Use.of(place.pid("operator"))
        begun = time.monotonic()
        await asyncio.gather(
            *(queues.edit(kube, name, maxResources={"cpu": str(UNITS)}) for name in QUEUES)
        )
        over = asyncio.create_task(player.over.wait())
        await asyncio.wait({over, playing}, return_when=asyncio.FIRST_COMPLETED)
        makespan = time.monotonic() - begun
        if not over.done():
            await playing
        playing.cancel()
        return makespan, before, Use.of(place.pid("operator"))


def main() -> None:
    """Measure and print."""
    per_queue = int(sys.argv[1]) if sys.argv[1:] else PER_QUEUE
    place = Place()
    queues.prepare(place, QUEUES, SPEC)
    for name in QUEUES:
        limits = {"services": [name], "maxResources": {"cpu": "0"}}
        place.apply("OrchestratorQuota", name, limits)
    until(
        lambda: all(
            place.get("oq", q).get("status", {}).get("inForce") for q in (QUEUES[0], QUEUES[-1])
        ),
        "the quotas are in force",
    )
    try:
        with place.stopped("operator"), queues.pods_off(place):
            each = asyncio.run(alone(place))
        with queues.pods_off(place):
            makespan, before, after = asyncio.run(measure(place, per_queue))
    finally:
        queues.clear(place, QUEUES)
    cpu = (after.seconds - before.seconds) / makespan
    least = ideal(per_queue)
    best = max(least, each * per_queue * len(QUEUES))
    print(
        f"{per_queue * len(QUEUES)} jobs: {makespan:.0f} s, {makespan / least:.1f} x the ideal "
        f"{least:.0f} s; operator: {cpu * 1000:.0f} thousandths of a processor, "
        f"{after.peak / 1e6:.0f} MB\n"
        f"This machine's API server takes {best:.0f} s for the writes alone: {makespan / best:.1f} x"
    )


if __name__ == "__main__":
    main()
