"""A crowd: many users, simulated nodes, quotas edited and operators killed meanwhile.

A monitor takes down every state of jobs, pods and the quota, and judges afterwards, in the order
of the API server's own versions: no claim above a limit that was in force, no job run twice, no
job complete that nobody said was, equal shares of equal users while all of them wait.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from local.paths import FRONT, JOBS_NAMESPACE, NAMESPACE, RELEASE
from orchestrator_crds import OrchestratorJob, OrchestratorQuota, labels
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, pods_path, resources_path
from tests.cluster.place import Place, until
from tests.soak.simulated import POOL, Agents, Run, gateway_of, simulated_nodes

SERVICE = "crowd"
SPEC: dict[str, Any] = {
    "nodePools": [SERVICE], "deadlineSeconds": 600,
    "resources": {"cpu": "100m", "memory": "64Mi", "ephemeralStorage": "64Mi"},
    "retries": {"infrastructure": 5, "backoffSeconds": 1},
}  # fmt: skip
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Size:
    """How large a crowd, and how much trouble it has."""

    jobs: int
    users: int
    kills: int
    nodes: int = 4
    # Most jobs at once, and of one user.
    most: int = 40
    most_per_user: int = 8


class Seen(NamedTuple):
    """A state of an object; versions order all of them."""

    version: int
    at: float
    kind: str
    what: str
    body: dict[str, Any]


@dataclass
class Monitor:
    """Takes down every state, and judges them."""

    kube: Kube
    states: list[Seen] = field(default_factory=list)
    # Set when states may have been missed: then nothing can be said.
    blind: str = ""
    live: dict[str, str] = field(default_factory=dict)

    async def watch(self, kind: str, path: str, **query: str) -> None:
        """Take down states of one kind, until cancelled."""
        found, since = await self.kube.list(path, **query)
        for body in found:
            self._take(kind, "ADDED", body)
        while True:
            try:
                async for what, body in self.kube.watch(path, since, **query):
                    since = body["metadata"]["resourceVersion"]
                    if what != "BOOKMARK":
                        self._take(kind, what, body)
            except errors.NotFound as error:
                self.blind = str(error)
                raise
            except errors.Temporary:
                await asyncio.sleep(0.1)

    def _take(self, kind: str, what: str, body: dict[str, Any]) -> None:
        version = int(body["metadata"]["resourceVersion"])
        self.states.append(Seen(version, time.monotonic(), kind, what, body))
        if kind == "job":
            self.live[body["metadata"]["name"]] = body.get("status", {}).get("phase", "Queued")

    def count(self, *phases: str) -> int:
        """Return how many jobs are in one of *phases* now."""
        return sum(phase in phases for phase in self.live.values())


@dataclass
class Judgement:
    """What the states say, all of them in order."""

    states: list[Seen]
    told: set[tuple[str, int]]
    problems: list[str] = field(default_factory=list)
    claims: int = 0
    # user -> seconds that its jobs ran, while every user had some waiting.
    ran: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._limits: dict[str, Any] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._pods: dict[str, dict[str, Any]] = {}
        self._claimed: set[tuple[str, int]] = set()
        order = sorted(self.states, key=lambda seen: seen.version)
        for seen, following in pairwise([*order, order[-1]]):
            getattr(self, f"_see_{seen.kind}")(seen)
            self._count_shares(following.at - seen.at)

    def _see_quota(self, seen: Seen) -> None:
        self._limits = seen.body.get("status", {}).get("inForce", {})

    def _see_pod(self, seen: Seen) -> None:
        name = seen.body["metadata"]["name"]
        over = seen.body.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        if seen.what == "DELETED" or over:
            self._pods.pop(name, None)
        else:
            self._pods[name] = seen.body

    def _see_job(self, seen: Seen) -> None:
        name, status = seen.body["metadata"]["name"], seen.body.get("status", {})
        if seen.what == "DELETED":
            self._jobs.pop(name, None)
            return
        before = self._jobs.get(name, {}).get("status", {}).get("phase")
        self._jobs[name] = seen.body
        phase, attempt = status.get("phase", "Queued"), status.get("attempt", 0)
        if phase == "Completed" and before != phase and (name, attempt) not in self.told:
            self.problems.append(f"{name} is Completed, and nobody said so of attempt {attempt}")
        claim = status.get("claim")
        if phase != "Submitted" or claim is None:
            return
        # Not by its epoch: a new leader takes over claims as they stand, whatever the limits are by
        # then. Whoever claims anew makes another attempt.
        key = (name, attempt)
        if key not in self._claimed:
            self._claimed.add(key)
            self.claims += 1
            self._check(name)

    def _holders(self) -> dict[str, str]:
        """Return the jobs that hold a place: name -> user."""
        found = {
            name: body["spec"]["userID"]
            for name, body in self._jobs.items()
            if body.get("status", {}).get("phase") in {"Submitted", "Running"}
        }
        for body in self._pods.values():
            metadata = body["metadata"]
            found[metadata["labels"][labels.JOB]] = metadata["annotations"][labels.USER]
        return found

    def _check(self, name: str) -> None:
        users = Counter(self._holders().values())
        user = self._jobs[name]["spec"]["userID"]
        most, own = (self._limits.get(key, 0) for key in ("maxRunning", "maxRunningPerUser"))
        if users.total() > most:
            self.problems.append(f"the claim of {name} is number {users.total()} of {most}")
        if users[user] > own:
            self.problems.append(f"the claim of {name} is number {users[user]} of {own} of {user}")

    def _count_shares(self, seconds: float) -> None:
        waiting: set[str] = set()
        running: Counter[str] = Counter()
        for body in self._jobs.values():
            phase, user = body.get("status", {}).get("phase", "Queued"), body["spec"]["userID"]
            if phase == "Queued":
                waiting.add(user)
            elif phase in {"Submitted", "Running"}:
                running[user] += 1
        users = {body["spec"]["userID"] for body in self._jobs.values()}
        if waiting == users:
            for user, count in running.items():
                self.ran[user] += count * max(seconds, 0.0)  # type: ignore[assignment]

    @property
    def jain(self) -> float:
        """Return Jain's index of the shares: 1 when all are equal (DEC TR-301, 1984)."""
        shares = list(self.ran.values())
        squares = sum(share * share for share in shares)
        return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def ran_twice(runs: list[Run], jobs: dict[str, str]) -> list[str]:
    """Return what is wrong with how often, and when, main of each job ran."""
    by_job: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_job[run.job].append(run)
    found = []
    for job, own in by_job.items():
        own.sort(key=lambda run: run.since)
        found += [
            f"{second.pod} ran while {first.pod} did"
            for first, second in pairwise(own)
            if second.since < first.until
        ]
        if sum(run.told == 200 for run in own) > 1:
            found.append(f"{job} was run to its end {len(own)} times")
        found += [
            f"{first.pod} told its end, and {second.pod} was run after it"
            for first, second in pairwise(own)
            if first.told == 200
        ]
    found += [
        f"{job} never ended: it is {phase}" for job, phase in jobs.items() if phase != "Completed"
    ]
    return found


@dataclass
class Crowd:
    """One run of it."""

    place: Place
    kube: Kube
    size: Size
    seed: int
    log: Path
    notes: list[str] = field(default_factory=list)
    # Whether the leader that was paused had claims yet to write.
    paused_in_time: bool = False

    async def run(self) -> tuple[Judgement, list[str]]:
        """Do all of it; returns the judgement and everything that was wrong."""
        size, place = self.size, self.place
        monitor = Monitor(self.kube)
        agents = Agents(self.kube, gateway_of(place), SERVICE, self.seed)
        jobs = resources_path(JOBS_NAMESPACE, OrchestratorJob.plural)
        quotas = resources_path(JOBS_NAMESPACE, OrchestratorQuota.plural)
        tasks = [
            asyncio.create_task(work)
            for work in (
                monitor.watch("job", jobs, fieldSelector=f"spec.service={SERVICE}"),
                monitor.watch(
                    "pod", pods_path(JOBS_NAMESPACE), labelSelector=f"{labels.SERVICE}={SERVICE}"
                ),
                monitor.watch("quota", quotas, fieldSelector=f"metadata.name={SERVICE}"),
                agents.play(),
            )
        ]
        try:
            await self._submit()
            await self._until(lambda: len(monitor.live) == size.jobs, "all jobs are there")
            await self._trouble(monitor)
            await self._until(
                lambda: monitor.count("Completed", "Failed", "Invalid", "Killed") == size.jobs,
                "all jobs are over",
                PATIENCE_SECONDS + size.jobs / 5,
            )
            await asyncio.sleep(2.0)  # late writers get their chance
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        told = {(r.job, int(r.pod.rpartition("-")[2])) for r in agents.runs if r.told == 200}
        judgement = Judgement(monitor.states, told)
        problems = [*judgement.problems, *ran_twice(agents.runs, monitor.live)]
        if monitor.blind:
            problems.append(f"the monitor missed states: {monitor.blind}")
        silent = sum(run.told == 0 for run in agents.runs)
        self.notes.append(f"{len(agents.runs)} runs, {silent} of them said nothing at their end")
        return judgement, problems

    async def _submit(self) -> None:
        left = iter(range(self.size.jobs))
        async with aiohttp.ClientSession() as session:

            async def worker() -> None:
                for number in left:
                    form = aiohttp.FormData(
                        {"user_id": str(700_000 + number % self.size.users), "service": SERVICE}
                    )
                    form.add_field("file", b"true\n", filename="run.sh")
                    async with session.post(f"{FRONT}/upload", data=form) as answer:
                        assert answer.status == 201, await answer.text()

            await asyncio.gather(*(worker() for _ in range(8)))

    async def limit(self, most: int, own: int) -> None:
        """Edit the quota, and return once that is in force."""
        spec = {"services": [SERVICE], "maxRunning": most, "maxRunningPerUser": own}
        path = resources_path(JOBS_NAMESPACE, OrchestratorQuota.plural, SERVICE)
        await self._patch(path, {"spec": spec})

        async def stands() -> bool:
            try:
                known = (await self.kube.request("GET", path)).get("status", {}).get("inForce", {})
            except errors.Temporary:
                return False
            return all(known.get(key) == value for key, value in spec.items())

        await self._until(stands, f"{most} and {own} are in force")

    async def _patch(self, path: str, patch: dict[str, Any]) -> None:
        await self.kube.request("PATCH", path, patch)

    async def _trouble(self, monitor: Monitor) -> None:
        """Kill leaders, pause one amid its writes, and edit the quota all the while."""
        dice = random.Random(self.seed)
        await self._pause_amid_writes(monitor)
        for _ in range(self.size.kills):
            await self.limit(*self._some_limits(dice))
            await asyncio.sleep(dice.uniform(1.0, 4.0))
            await self._kill_leader()
        await self.limit(self.size.most, self.size.most_per_user)

    def _some_limits(self, dice: random.Random) -> tuple[int, int]:
        size = self.size
        return dice.randint(size.most // 4, size.most), dice.randint(2, size.most_per_user)

    async def _pause_amid_writes(self, monitor: Monitor) -> None:
        """Stop a leader that has decided on claims and not written them all; wake it up too late.

        Meanwhile another one leads, and the limits are lower than what the first had decided by.
        """
        await self._two_operators()
        holder = await self._leader()
        pid = process_of(holder)
        path = resources_path(JOBS_NAMESPACE, OrchestratorQuota.plural, SERVICE)
        # No limit at all: it decides on many at once and always has more to write.
        free = self.size.jobs
        await self._patch(path, {"spec": {"maxRunning": free, "maxRunningPerUser": free}})
        while not monitor.count("Submitted", "Running"):
            await asyncio.sleep(0)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(1.0)
            written = monitor.count("Submitted", "Running") + monitor.count("Completed")
            self.notes.append(f"paused after {written} of {free} claims were written")
            self.paused_in_time = written < free

            async def another() -> bool:
                return await self._leader() not in {holder, ""}

            await self._until(another, "another operator leads")
            await self.limit(3, 1)
            await self._until(
                lambda: monitor.count("Submitted", "Running") <= 3, "the rest has ended"
            )
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(3.0)

    async def _kill_leader(self) -> None:
        holder = await self._leader()
        os.kill(process_of(holder), signal.SIGKILL)
        # A new pod at once, since a container that ended often is restarted ever later.
        for pod in await self._operators():
            if pod["metadata"]["uid"] == holder:
                path = pods_path(NAMESPACE, pod["metadata"]["name"])
                await self.kube.request("DELETE", path, {"gracePeriodSeconds": 0})

        async def another() -> bool:
            return await self._leader() not in {holder, ""}

        await self._until(another, "another operator leads")
        await self._two_operators()

    async def _operators(self) -> list[dict[str, Any]]:
        selector = f"app.kubernetes.io/component=operator,app.kubernetes.io/instance={RELEASE}"
        found, _ = await self.kube.list(pods_path(NAMESPACE), labelSelector=selector)
        return found

    async def _two_operators(self) -> None:
        async def both() -> bool:
            ready = 0
            for pod in await self._operators():
                conditions = pod.get("status", {}).get("conditions", [])
                ready += any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            return ready >= 2

        await self._until(both, "two operators are ready")

    async def _leader(self) -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/orchestrator-operator"
        return str((await self.kube.request("GET", path))["spec"].get("holderIdentity") or "")

    async def _until(self, condition: Any, what: str, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            assert time.monotonic() < deadline, f"still waiting until {what}"
            await asyncio.sleep(0.1)


def process_of(uid: str) -> int:
    """Return the process of the operator in the pod with this uid, as the host sees it."""
    marks = (uid, uid.replace("-", "_"))
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, group = (entry / "cmdline").read_bytes(), (entry / "cgroup").read_text()
        except OSError:
            continue
        if b"orchestrator_operator" in line and any(mark in group for mark in marks):
            return int(entry.name)
    raise AssertionError(f"no process of the operator {uid} runs")


def crowd(place: Place, size: Size, seed: int, log: Path) -> tuple[Crowd, Judgement, list[str]]:
    """Run a crowd on the cluster that is up, and leave nothing of it behind."""
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    place.apply("OrchestratorNodePool", SERVICE, POOL)
    place.apply("OrchestratorService", SERVICE, {"image": image, **SPEC})
    nothing = {"services": [SERVICE], "maxRunning": 0, "maxRunningPerUser": 0}
    place.apply("OrchestratorQuota", SERVICE, nothing)
    default = place.get("orchestratorquota", "default")["spec"].get("services")
    _patch_default(place, ["example", "docking"])
    operator = f"deployment/{RELEASE}-operator"
    place.kubectl("scale", operator, f"--namespace={NAMESPACE}", "--replicas=2")
    try:
        with simulated_nodes(place, size.nodes, log):
            until(
                lambda: place.get("onp", SERVICE).get("status", {}).get("nodes") == size.nodes,
                "the pool has its nodes",
            )
            time.sleep(1)  # the API learns of the service by its watch
            made, judgement, problems = asyncio.run(_run(place, size, seed, log))
            place.clear(f"spec.service={SERVICE}")
            selector = f"--selector={labels.SERVICE}={SERVICE}"
            until(lambda: not place.kubectl("get", "pods", selector, "-oname"), "all pods are gone")
            return made, judgement, problems
    finally:
        place.kubectl("scale", operator, f"--namespace={NAMESPACE}", "--replicas=1")
        _patch_default(place, default)


def _patch_default(place: Place, services: list[str] | None) -> None:
    patch = json.dumps({"spec": {"services": services}})
    place.kubectl("patch", "orchestratorquota", "default", "--type=merge", f"--patch={patch}")


async def _run(
    place: Place, size: Size, seed: int, log: Path
) -> tuple[Crowd, Judgement, list[str]]:
    kube = await Kube.connect(str(place.kubeconfig))
    try:
        made = Crowd(place, kube, size, seed, log)
        return made, *await made.run()
    finally:
        await kube.close()
        await asyncio.sleep(0.25)  # TLS takes its time to say goodbye
