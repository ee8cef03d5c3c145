"""Seeded races: a job's own end, its deadline and its termination within the same tenths of a second.

Whoever wins, a job has one end: one terminal phase that never changes, one reason that fits it, and
what REST answered to the termination holds. An independent monitor reads the jobs' watch.
"""

import asyncio
import io
import itertools
import random
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from local.paths import FRONT, JOBS_NAMESPACE, KUBECONFIG
from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.lifecycle import MOVES, TERMINAL
from orchestrator_wire import errors
from orchestrator_wire.kube import Kube, resources_path

SERVICE = "races"
DEADLINE_SECONDS = 2
# How far apart the three may be, in seconds, either way.
SPREAD_SECONDS = 0.3
# By how much each race moves the termination of the next ones towards the point where it wins as
# often as it loses: how long a pod takes to start is the machine's mood.
STEP_SECONDS = 0.1
PATIENCE_SECONDS = 90.0
REASONS = {
    Phase.COMPLETED: {"Succeeded"},
    Phase.FAILED: {"DeadlineExceeded"},
    Phase.KILLED: {"Terminated"},
}
SPEC: dict[str, Any] = {
    "nodePools": ["cpu"], "deadlineSeconds": DEADLINE_SECONDS, "graceSeconds": 1,
    "resources": {"cpu": "50m", "memory": "64Mi", "ephemeralStorage": "64Mi"},
}  # fmt: skip


@dataclass
class Monitor:
    """Every state that every job of the service was seen in."""

    states: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    # The whole of what each was seen in last.
    last: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def watch(self, kube: Kube) -> None:
        """Take down states, for ever; a watch that ends is begun where it was."""
        path = resources_path(JOBS_NAMESPACE, OrchestratorJob.plural)
        query = {"fieldSelector": f"spec.service={SERVICE}"}
        _, since = await kube.list(path, **query)
        while True:
            try:
                async for _, body in kube.watch(path, since, **query):
                    since = body["metadata"]["resourceVersion"]
                    if "status" in body:
                        self._take(body)
            except errors.Temporary:
                await asyncio.sleep(0.2)

    def _take(self, body: dict[str, Any]) -> None:
        status, states = body["status"], self.states[body["metadata"]["name"]]
        self.last[body["metadata"]["name"]] = status
        state = (status["phase"], status.get("reason", ""))
        if not states or states[-1] != state:
            states.append(state)

    def problems(self, name: str) -> list[str]:
        """Return what is wrong with the life of a job that is over."""
        states = self.states[name]
        phases = [Phase(phase) for phase, _ in states]
        found = [
            f"{name}: {old} became {new}"
            for old, new in itertools.pairwise(phases)
            if old != new and new not in MOVES[old]
        ]
        ends = {state for state in states if state[0] in TERMINAL}
        if len(ends) != 1:
            found.append(f"{name}: has {len(ends)} ends: {states}")
        for phase, reason in ends:
            if reason not in REASONS.get(Phase(phase), set()):
                found.append(f"{name}: is {phase} for the reason {reason}")
        return found


@dataclass
class Races:
    """Runs races, several at a time."""

    session: aiohttp.ClientSession
    monitor: Monitor
    seed: int
    ends: Counter[str] = field(default_factory=Counter)
    delay: float = 0.5
    problems: list[str] = field(default_factory=list)

    async def run(self, count: int, at_once: int) -> None:
        """Run *count* races and collect what is wrong with them."""
        left = iter(range(count))

        async def worker() -> None:
            for number in left:
                await self.one(number)

        await asyncio.gather(*(worker() for _ in range(at_once)))

    async def one(self, number: int) -> None:
        """Run one race; equal seeds and numbers give equal ones."""
        dice = random.Random(f"{self.seed}/{number}")
        ends_at = DEADLINE_SECONDS + dice.uniform(-SPREAD_SECONDS, SPREAD_SECONDS)
        stops_at = DEADLINE_SECONDS + dice.uniform(-SPREAD_SECONDS, SPREAD_SECONDS)
        script = f"echo {number} > out; echo wrote; sleep {ends_at:.3f}"
        job = await self._upload(script, user=900_000 + number % 50)
        name = f"job-{job}"
        await self._until(name, "Running")
        await asyncio.sleep(stops_at + self.delay)
        async with self.session.post(f"{FRONT}/terminate/{job}") as answer:
            stopped = answer.status
        seen = await self._poll(job) if stopped == 200 else ""
        await self._until(name, *TERMINAL)
        # Late writers get their chance.
        await asyncio.sleep(1.0)
        self._judge(name, stopped, seen)
        await self._check_results(name, job)

    def _judge(self, name: str, stopped: int, seen: str) -> None:
        phase = self.monitor.states[name][-1][0]
        self.ends[phase] += 1
        self.delay += STEP_SECONDS if phase == Phase.KILLED else -STEP_SECONDS
        self.delay = max(self.delay, 0.0)
        self.problems += self.monitor.problems(name)
        if stopped not in {200, 409}:
            self.problems.append(f"{name}: its termination was answered {stopped}")
        elif (stopped == 200) != (phase == Phase.KILLED):
            self.problems.append(f"{name}: is {phase}, its termination was answered {stopped}")
        if stopped == 200 and seen != Phase.KILLED:
            self.problems.append(f"{name}: told as {seen} after its termination was answered 200")

    async def _check_results(self, name: str, job: int) -> None:
        status = self.monitor.last[name]
        async with self.session.get(f"{FRONT}/download_partial/{job}") as answer:
            body = await answer.read()
        names = zipfile.ZipFile(io.BytesIO(body)).namelist() if answer.status == 200 else []
        # A pod that starts slowly is told to stop before run.sh comes to its first line.
        due = {"run.sh", "out"} if "wrote" in status.get("logTail", "") else {"run.sh"}
        if "results" not in status or not due.issubset(names):
            self.problems.append(
                f"{name}: its results are gone: {answer.status} with {names}, {status}"
            )

    async def _upload(self, script: str, user: int) -> int:
        form = aiohttp.FormData({"user_id": str(user), "service": SERVICE})
        form.add_field("file", script.encode(), filename="run.sh")
        async with self.session.post(f"{FRONT}/upload", data=form) as answer:
            body = await answer.json()
            if answer.status != 201:
                raise RuntimeError(f"the upload was answered {answer.status}: {body}")
            return int(body["id"])

    async def _poll(self, job: int) -> str:
        async with self.session.get(f"{FRONT}/download/{job}") as answer:
            if answer.content_type == "application/zip":
                return str(Phase.COMPLETED)
            return str((await answer.json())["status"])

    async def _until(self, name: str, *phases: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(phase in phases for phase, _ in self.monitor.states[name]):
                await asyncio.sleep(0.02)


async def races(count: int, seed: int, at_once: int = 8) -> Races:
    """Run *count* races on the cluster that is up; the service must be there."""
    kube = await Kube.connect(str(KUBECONFIG))
    monitor = Monitor()
    watching = asyncio.create_task(monitor.watch(kube))
    try:
        async with aiohttp.ClientSession() as session:
            made = Races(session, monitor, seed)
            await made.run(count, at_once)
            return made
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await kube.close()
        await asyncio.sleep(0.25)  # TLS takes its time to say goodbye
