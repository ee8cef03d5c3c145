"""Nodes without machines: KWOK plays their kubelets, and the test the agents of their pods."""

import asyncio
import json
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from local.paths import JOBS_NAMESPACE, NAMESPACE
from local.toolchain import KWOK
from orchestrator_crds import labels
from orchestrator_crds.names import audience
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, now, pods_path
from tests.cluster.place import Place

LABEL = "orchestrator.dev/simulated"
END = "orchestrator.dev/simulated-end"
# Within the cluster's own pod network, far from what real nodes get of it.
POD_NETWORK = "198.18.96.0/19"
ROOM = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "999Gi", "pods": "500"}
POOL: dict[str, Any] = {
    "nodeSelector": {LABEL: "true"}, "tolerations": [{"key": LABEL, "operator": "Exists"}],
}  # fmt: skip


@contextmanager
def simulated_nodes(place: Place, count: int, log: Path) -> Iterator[None]:
    """Have *count* simulated nodes while the block runs."""
    names = [f"simulated-{number}" for number in range(count)]
    place.kubectl("delete", "node", "--ignore-not-found", *names)
    for name in names:
        body = {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {LABEL: "true", "kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": LABEL, "effect": "NoSchedule"}]},
        }  # fmt: skip
        place.kubectl("create", "--filename=-", stdin=json.dumps(body))
        ready = {"type": "Ready", "status": "True", "reason": "Simulated", "message": "",
                 "lastHeartbeatTime": now(), "lastTransitionTime": now()}  # fmt: skip
        status = {"capacity": ROOM, "allocatable": ROOM, "conditions": [ready]}
        patch = json.dumps({"status": status})
        place.kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"-p={patch}")
    argv = [
        str(KWOK),
        f"--kubeconfig={place.kubeconfig}",
        f"--config={Path(__file__).with_name('kwok.yaml')}",
        f"--manage-nodes-with-label-selector={LABEL}=true",
        f"--cidr={POD_NETWORK}",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            time.sleep(1)
            assert process.poll() is None, f"KWOK ended: {log.read_text()[-2000:]}"
            yield
        finally:
            process.terminate()
            process.wait(10)
            place.kubectl("delete", "node", "--ignore-not-found", *names)


class Run(NamedTuple):
    """One time that main of a job was let run: from the gateway's yes to its end."""

    job: str
    pod: str
    since: float
    until: float
    # What the gateway answered when it was told the end; 0 when it was not told.
    told: int


@dataclass
class Agents:
    """Plays the agent and main of every pod of a service that comes to run."""

    kube: Kube
    gateway: str
    service: str
    seed: int
    # Of so many attempts one says nothing at its end.
    silent_one_in: int = 40
    runs: list[Run] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def play(self) -> None:
        """Play, until cancelled."""
        path = pods_path(JOBS_NAMESPACE)
        query = {"labelSelector": f"{labels.SERVICE}={self.service}"}
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async for body in self._pods(path, query):
                    uid = body["metadata"]["uid"]
                    running = body.get("status", {}).get("phase") == "Running"
                    if running and uid not in self._known:
                        self._known.add(uid)
                        task = asyncio.create_task(self._one(session, body))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
            finally:
                for task in self._tasks:
                    task.cancel()

    async def _pods(self, path: str, query: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        while True:
            try:
                found, since = await self.kube.list(path, **query)
                for body in found:
                    yield body
                async for kind, body in self.kube.watch(path, since, **query):
                    if kind in {"ADDED", "MODIFIED"}:
                        yield body
            except errors.ClusterError:
                await asyncio.sleep(0.2)

    async def _one(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        pod, uid = body["metadata"]["name"], body["metadata"]["uid"]
        job = body["metadata"]["labels"][labels.JOB]
        dice = random.Random(f"{self.seed}/{pod}")
        try:
            owner = body["metadata"]["ownerReferences"][0]["uid"]
            token = await self._token(pod, uid, owner)
        except errors.NotFound:
            return  # deleted before it came to anything
        loop = asyncio.get_running_loop()
        if await self._call(session, "/start", token, {}) == 200:
            since = loop.time()
            await asyncio.sleep(dice.uniform(0.3, 1.2))
            until, told = loop.time(), 0
            if dice.randrange(self.silent_one_in):
                end = {"why": "exit", "exitCode": 0}
                told = await self._call(session, "/end", token, end)
            self.runs.append(Run(job, pod, since, until, told))
        patch = {"metadata": {"uid": uid, "annotations": {END: "true"}}}
        while True:
            try:
                await self.kube.request("PATCH", pods_path(JOBS_NAMESPACE, pod), patch)
            except (errors.NotFound, errors.Conflict):
                return
            except errors.Temporary:
                await asyncio.sleep(0.5)
            else:
                return

    async def _token(self, pod: str, uid: str, owner: str) -> str:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        spec = {"audiences": [audience(owner)], "boundObjectRef": reference}
        path = f"/api/v1/namespaces/{JOBS_NAMESPACE}/serviceaccounts/orchestrator-job/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.kube.request("POST", path, body)
        return str(answer["status"]["token"])

    async def _call(
        self, session: aiohttp.ClientSession, path: str, token: str, body: dict[str, Any]
    ) -> int:
        """Ask the gateway as the agent does: again for as long as it cannot serve."""
        headers = {"Authorization": f"Bearer {token}"}
        while True:
            try:
                async with session.post(
                    f"{self.gateway}{path}", json=body, headers=headers
                ) as answer:
                    await answer.read()
                    if answer.status not in {429, 503}:
                        return answer.status
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(1.0)


def gateway_of(place: Place) -> str:
    """Return where the gateway is, as the machine of the local cluster reaches it."""
    address = place.get("service", "orchestrator-gateway", NAMESPACE)["spec"]["clusterIP"]
    return f"http://{address}:8081"
