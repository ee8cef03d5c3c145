"""The deciding part of the operator over a Kubernetes at the wire; the test plays kopf's watches."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator_operator.act import Actor
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.cluster.writes import Writer
from orchestrator_operator.core.podspec import Surroundings
from orchestrator_operator.mirror import ADMINISTERED, JOBS, NODES, PODS, Mirror
from orchestrator_operator.reconcile import Decider
from orchestrator_operator.relist import Relist
from orchestrator_wire.events import Events
from orchestrator_wire.kube import Kube, pods_path, resources_path
from tests.support.builders import job_body, node_body, pool_body, quota_body, service_body
from tests.support.fake_kube import FakeKube

AROUND = Surroundings("agent:1", "Never", "http://10.0.0.1:8081", "wrapper")


@dataclass
class Operator:
    """One operator that leads, and the cluster that it works on."""

    state: FakeKube
    kube: Kube
    lease: Lease
    decider: Decider
    relist: Relist
    tasks: "list[asyncio.Task[None]]"

    def job(self, name: str = "job-1") -> dict[str, Any]:
        status: dict[str, Any] = self.state.get("orchestratorjobs", name)["status"]
        return status

    def phases(self) -> list[str]:
        return [
            body["status"]["phase"]
            for (kind, _), body in sorted(self.state.objects.items())
            if kind == "orchestratorjobs"
        ]

    def pods(self) -> list[str]:
        return sorted(name for kind, name in self.state.objects if kind == PODS)

    def writes(self, part: str) -> list[str]:
        return [w for w in self.state.writes if part in w]

    def submit(self, name: str, **more: Any) -> None:
        self.state.put("orchestratorjobs", job_body(name, **more))

    def set(self, plural: str, name: str, **status: Any) -> None:
        body = self.state.get(plural, name)
        body["status"] = {**body.get("status", {}), **status}
        self.state.put(plural, body)

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.phases(), self.pods(), self.state.writes[-9:])
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Return when nothing more is being written."""
        await asyncio.sleep(0.05)
        await self.decider.drain()
        await asyncio.sleep(0.05)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.decider.drain()


async def start(state: FakeKube, kube: Kube, identity: str = "me") -> Operator:
    """Start an operator: lead, list, watch, decide."""
    lease = Lease(kube, "system", identity, seconds=15)
    await lease.acquire()
    mirror = Mirror()
    events = Events(kube, "jobs", "orchestrator-operator")
    decider = Decider(Actor(mirror, Writer(kube, lease, "jobs"), lease, AROUND, events), lease)
    relist = Relist(kube, mirror, "jobs")

    async def follow(plural: str, path: str) -> None:
        async for kind, body in kube.watch(path, "0"):
            relist.delivered(plural, body)
            decider.seen(plural, kind, body)

    paths = {plural: resources_path("jobs", plural) for plural in (JOBS, *ADMINISTERED)}
    paths[PODS], paths[NODES] = pods_path("jobs"), "/api/v1/nodes"
    before = len(state.watchers)
    tasks = [asyncio.create_task(follow(plural, path)) for plural, path in paths.items()]
    while len(state.watchers) < before + len(paths):
        await asyncio.sleep(0.005)
    for (plural, _), body in state.objects.items():
        relist.delivered(plural, body)  # kopf lists before it watches
    await relist.once()
    decider.synced = True
    tasks.append(asyncio.create_task(decider.run()))
    decider.look_again()
    return Operator(state, kube, lease, decider, relist, tasks)


@pytest.fixture
async def operator(cluster: tuple[FakeKube, Kube]) -> AsyncIterator[Operator]:
    state, kube = cluster
    state.put("nodes", node_body())
    state.put("orchestratornodepools", pool_body())
    state.put("orchestratorservices", service_body())
    state.put("orchestratorquotas", quota_body(maxRunning=2, maxRunningPerUser=2))
    made = await start(state, kube)
    await made.settle()
    yield made
    await made.stop()
