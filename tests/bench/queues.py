"""What the benches with many jobs share: jobs in bulk, nobody to run them, and the operator's use."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.paths import JOBS_NAMESPACE, KUBECONFIG
from orchestrator_crds import OrchestratorJob, OrchestratorQuota
from orchestrator_crds.meta import API_VERSION
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path
from tests.cluster.place import Place, cpu_seconds, standing_still

JOBS = resources_path(JOBS_NAMESPACE, OrchestratorJob.plural)
POOL = "nowhere"
AT_ONCE = 32


@asynccontextmanager
async def connected() -> AsyncIterator[Kube]:
    """Give a connection to the cluster of hack/up, as its administrator."""
    kube = await Kube.connect(str(KUBECONFIG))
    try:
        yield kube
    finally:
        await kube.close()
        await asyncio.sleep(0.25)  # TLS takes its time to say goodbye


def prepare(place: Place, services: Iterable[str], spec: dict[str, Any]) -> None:
    """Make services whose pods find no node, and keep the usual quota out of it."""
    pool = {"nodeSelector": {"orchestrator.dev/none": "true"}, "elastic": True}
    place.apply("OrchestratorNodePool", POOL, pool)
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    for name in services:
        place.apply("OrchestratorService", name, {"image": image, "nodePools": [POOL], **spec})
    set_default(place, ["example", "docking"])


def set_default(place: Place, services: list[str] | None) -> None:
    """Have the usual quota count only *services*, or with None all of them."""
    patch = json.dumps({"spec": {"services": services}})
    place.kubectl("patch", "orchestratorquota", "default", "--type=merge", f"--patch={patch}")


def clear(place: Place, services: Iterable[str]) -> None:
    """Take all of it away."""
    set_default(place, None)
    for name in services:
        selector = f"--field-selector=spec.service={name}"
        place.kubectl("delete", "orchestratorjobs", selector, "--wait=false")
        place.kubectl(
            "delete", "pods", f"--selector=orchestrator.dev/service={name}", "--force",
            "--grace-period=0",
        )  # fmt: skip
    place.forget()


async def submit(kube: Kube, specs: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Make jobs by name, many at once."""
    left = iter(specs)

    async def worker() -> None:
        for name, spec in left:
            body = {
                "apiVersion": API_VERSION, "kind": "OrchestratorJob",
                "metadata": {"name": name}, "spec": {"script": "true", **spec},
            }  # fmt: skip
            while True:
                try:
                    await kube.request("POST", JOBS, body)
                except errors.AlreadyExists:
                    break
                except errors.Temporary:
                    await asyncio.sleep(0.5)
                else:
                    break

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def edit(kube: Kube, quota: str, **spec: Any) -> None:
    """Edit a quota."""
    path = resources_path(JOBS_NAMESPACE, OrchestratorQuota.plural, quota)
    await kube.request("PATCH", path, {"spec": spec})


@dataclass(frozen=True)
class Use:
    """What a process has used: processor time in seconds, and memory in bytes, now and at most."""

    seconds: float
    rss: int
    peak: int

    @classmethod
    def of(cls, pid: int) -> "Use":
        """Return what the process has used so far."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        rss, peak = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return cls(cpu_seconds(pid), rss, peak)


def pods_off(place: Place) -> AbstractContextManager[None]:
    """Have nothing become of pods that are made while the block runs.

    The scheduler stands still, and so does who writes the packet filter anew at every change of a
    pod, though it runs nowhere: it takes as much of the processor as all that is measured.
    """
    return standing_still(place.pid("kube-scheduler"), place.pid("kube-router"))


async def first_claim(kube: Kube, service: str, since: str) -> float:
    """Return when, by the monotonic clock, the first job of *service* is seen to be claimed."""
    query = {"fieldSelector": f"spec.service={service}"}
    while True:
        async for kind, body in kube.watch(JOBS, since, **query):
            since = body["metadata"]["resourceVersion"]
            if kind == "MODIFIED" and body.get("status", {}).get("phase") == "Submitted":
                return time.monotonic()
