"""A cluster and an operator without a network, for random histories.

The cluster is a dictionary of bodies. The operator is the real mirror, judge and admission; what
it writes lands when the test says so, and what it watches arrives when the test says so. An
operator that was replaced may still have writes under way.
"""

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from orchestrator_crds import OrchestratorJob, OrchestratorQuota, transitions, windows
from orchestrator_crds.amounts import vector
from orchestrator_operator.admit import Admission
from orchestrator_operator.cluster.writes import replaced
from orchestrator_operator.core import facts, steps
from orchestrator_operator.core.snapshot import Held
from orchestrator_operator.judge import Judge
from orchestrator_operator.mirror import JOBS, Mirror
from tests.support.builders import (
    job_body,
    node_body,
    pool_body,
    quota_body,
    service_body,
)
from tests.support.merge import merged

QUOTAS = OrchestratorQuota.plural
BEGUN = 1.0e9
AT = "2026-01-01T00:00:00Z"
SERVICES = ("example", "docking")


def copy(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(body))
    return found


@dataclass
class Cluster:
    """What the API server holds, and the events that it has still to deliver."""

    bodies: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    events: deque[tuple[str, str, dict[str, Any]]] = field(default_factory=deque)
    version: int = 100
    epoch: int = 0
    now: float = BEGUN
    # What was claimed above a limit then in force.
    breaches: list[str] = field(default_factory=list)
    claims: Counter[tuple[str, int]] = field(default_factory=Counter)

    def put(self, plural: str, body: dict[str, Any], kind: str = "MODIFIED") -> dict[str, Any]:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.bodies[plural, body["metadata"]["name"]] = body
        self.events.append((plural, kind, copy(body)))
        return copy(body)

    def remove(self, plural: str, name: str) -> None:
        body = self.bodies.pop((plural, name))
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((plural, "DELETED", copy(body)))

    def all(self, plural: str) -> list[dict[str, Any]]:
        return [body for (kind, _), body in sorted(self.bodies.items()) if kind == plural]

    def patch(self, plural: str, old: Any, status: dict[str, Any]) -> dict[str, Any] | None:
        """Merge *status* into an object if it is still as *old* was read; None if it is not."""
        known = self.bodies.get((plural, old.metadata.name))
        if known is None or known["metadata"]["resourceVersion"] != old.metadata.resource_version:
            return None
        body = merged(known, {"status": status})
        epoch = (status.get("claim") or {}).get("epoch")
        if plural == JOBS and status.get("phase") == "Submitted" and epoch == self.epoch:
            self._check(OrchestratorJob.parse(body))
        return self.put(plural, body)

    def use(self) -> list[OrchestratorJob]:
        """Return the jobs that hold quota: live claims of now, and pods that are not over."""
        pods = {
            pod["metadata"]["labels"]["orchestrator.dev/job"]
            for pod in self.all("pods")
            if pod["status"]["phase"] == "Running"
        }
        jobs = [OrchestratorJob.parse(body) for body in self.all(JOBS)]
        return [
            job
            for job in jobs
            if (job.status.claim and job.status.claim.epoch == self.epoch)
            or job.metadata.name in pods
        ]

    def _check(self, new: OrchestratorJob) -> None:
        """Note it when *new*, which is being claimed, goes above a limit in force."""
        self.claims[new.metadata.name, new.status.attempt] += 1
        quotas = [OrchestratorQuota.parse(body) for body in self.all(QUOTAS)]
        specs = [(q.metadata.name, q.status.in_force) for q in quotas if q.status.in_force]
        mine = [(n, s) for n, s in specs if s.matches(new.spec.service, new.spec.user_id)]
        others = [job for job in self.use() if job.metadata.name != new.metadata.name]
        for name, spec in mine:
            limits = windows.in_force(spec, self.now).limits
            own = limits.users.get(new.spec.user_id)
            counted = [j for j in others if spec.matches(j.spec.service, j.spec.user_id)]
            counted.append(new)
            theirs = [j for j in counted if j.spec.user_id == new.spec.user_id]
            most = limits.max_running_per_user
            if own and own.max_running is not None:
                most = own.max_running
            for what, got, limit in (
                ("maxRunning", len(counted), limits.max_running),
                ("per user", len(theirs), most),
            ):
                if limit is not None and got > limit:
                    self.breaches.append(f"{new.metadata.name}: {what} of {name}: {got} > {limit}")
            for resource, limit in vector(limits.max_resources).items():
                got = sum(_takes(job, resource) for job in counted)
                if got > limit:
                    self.breaches.append(f"{new.metadata.name}: {resource}: {got} > {limit}")


def _takes(job: OrchestratorJob, resource: str) -> int:
    claim = job.status.claim
    size = claim.resources if claim and claim.resources else None
    return vector(size.amounts()).get(resource, 0) if size else 0


class Operator:
    """The deciding part of one operator, in steps."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.mirror = cluster, Mirror()
        cluster.epoch += 1
        self.epoch = cluster.epoch
        self.admission = Admission(self.mirror)
        self.judge = Judge(self.mirror, lambda: cluster.now)
        self.claimed: dict[str, Held] = {}
        # Writes under way: what they are of, the object as read, the patch.
        self.writes: list[tuple[str, Any, dict[str, Any]]] = []
        self.relist()

    def relist(self) -> None:
        plurals = ("orchestratorservices", "orchestratornodepools", QUOTAS, "nodes", JOBS, "pods")
        self.cluster.version += 1
        for plural in plurals:
            bodies = [copy(body) for body in self.cluster.all(plural)]
            for body in bodies:
                self.mirror.see(plural, body)
            names = {body["metadata"]["name"] for body in bodies}
            self.mirror.retain(plural, names, str(self.cluster.version))

    def deliver(self, *, twice: bool = False) -> None:
        if self.cluster.events:
            plural, kind, body = self.cluster.events.popleft()
            for _ in range(1 + twice):
                (self.mirror.lose if kind == "DELETED" else self.mirror.see)(plural, copy(body))

    def busy(self) -> set[str]:
        return {old.metadata.name for _, old, _ in self.writes}

    def step(self, places: int = 64) -> None:
        """Decide once, as the decider does."""
        mirror, busy = self.mirror, self.busy()
        self.admission.right = self.judge.right()
        self.admission.refresh()
        for item, verdict, more in self.judge.due(self.claimed):
            if item.plural == QUOTAS and item.metadata.name not in busy:
                ready = {
                    "type": "Ready",
                    "status": str(verdict.ready),
                    "reason": verdict.reason,
                    "message": verdict.message,
                    "lastTransitionTime": AT,
                }
                status = {
                    "observedGeneration": item.metadata.generation,
                    "conditions": [ready],
                    **more,
                }
                old = item.status.to_dict()  # type: ignore[attr-defined]
                patch = {key: replaced(old.get(key), value) for key, value in status.items()}
                self.writes.append((item.plural, item, patch))
        for job in list(mirror.jobs.values()):
            self._look(job)
        now, busy = self.cluster.now, self.busy()
        mirror.resume(now)
        snapshot = self.admission.snapshot(self.claimed, busy, now)
        for admitted in self.admission.decide(snapshot, places - len(self.claimed)).admitted:
            job = mirror.jobs[admitted.name]
            service = mirror.services[job.spec.service].spec
            size = facts.resources_of(job, service)
            group = admitted.group
            held = Held(group.service, group.user, group.demand, admitted.pool)
            self.claimed[job.metadata.uid] = held
            patch = transitions.claim(
                job,
                epoch=self.epoch,
                pool=admitted.pool,
                resources=size,
                now=AT,
            )
            self.writes.append((JOBS, job, patch))

    def _look(self, job: OrchestratorJob) -> None:
        """Take over claims of an operator before, and undo those that it makes afterwards."""
        claim = job.status.claim
        if job.metadata.name in self.busy() or claim is None or claim.epoch == self.epoch:
            return
        view = steps.View(job, self.mirror.pods_of(job), self.epoch, False, None, self.cluster.now)
        if isinstance(steps.next_step(view), steps.Requeue):
            self.writes.append((JOBS, job, transitions.requeue(job, now=AT)))

    def land(self, number: int, *, answered: bool = True) -> None:
        """Carry out a write; its answer may be lost, and then a read tells, later."""
        plural, old, patch = self.writes.pop(number % len(self.writes))
        body = self.cluster.patch(plural, old, patch)
        if not answered:
            self.writes.append((plural, old, {"unanswered": True}))
            return
        if body is None:
            known = self.cluster.bodies.get((plural, old.metadata.name))
            body = copy(known) if known else None
        if body is not None:
            self.mirror.see(plural, body)
        self.claimed.pop(old.metadata.uid, None)


def begin() -> Cluster:
    cluster = Cluster()
    cluster.put("nodes", node_body())
    cluster.put("orchestratornodepools", pool_body())
    for name in SERVICES:
        cluster.put("orchestratorservices", service_body(name))
    return cluster


def new_job(number: int, service: str, user: str) -> dict[str, Any]:
    body = job_body(f"job-{number}", service=service, user=user, spec={"inputs": None})
    body["metadata"]["creationTimestamp"] = (
        f"2001-09-09T01:{number // 60 % 60:02}:{number % 60:02}Z"
    )
    body["spec"] |= {"script": "exit"}
    del body["spec"]["inputs"]
    return body


def quota(name: str, old: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    body = quota_body(name, **spec)
    if old is not None:
        body["metadata"]["generation"] = old["metadata"]["generation"] + 1
        body["status"] = old["status"]
    return body
