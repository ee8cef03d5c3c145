"""The operator's picture of the cluster: live jobs, our pods, and what administrators wrote.

It is fed by watch events, by the answers to our own writes, and by the re-list, which is the
truth: an event may be late, doubled or missing. Of two versions of an object the newer stays.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from orchestrator_crds import (
    OrchestratorJob,
    OrchestratorNodePool,
    OrchestratorQuota,
    OrchestratorService,
    Resource,
    ServiceSpec,
)
from orchestrator_crds.lean import parse_job
from orchestrator_crds.lifecycle import LIVE, Phase
from orchestrator_crds.meta import seconds_of
from orchestrator_operator.core import facts
from orchestrator_operator.core.nodes import ClusterNode
from orchestrator_operator.core.pods import Pod
from orchestrator_operator.core.snapshot import Backlog, Held

log = logging.getLogger(__name__)
PODS, NODES = "pods", "nodes"
JOBS = OrchestratorJob.plural
ADMINISTERED: dict[str, type[Resource]] = {
    kind.plural: kind for kind in (OrchestratorService, OrchestratorQuota, OrchestratorNodePool)
}
# How many names of deleted objects are remembered, so that an old answer does not revive one.
TOMBSTONES = 20_000


def version(body: dict[str, Any]) -> int:
    """Return an object's resourceVersion as a number; they grow (KEP-5504)."""
    text = str((body.get("metadata") or {}).get("resourceVersion", ""))
    return int(text) if text.isascii() and text.isdigit() else 0


@dataclass
class Shelf:
    """All objects of one kind that are known, raw and parsed, by name."""

    parsed: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    buried: dict[str, int] = field(default_factory=dict)


class Mirror:
    """What is known now, and what has changed since the decider last looked."""

    def __init__(self) -> None:
        self._shelves = {plural: Shelf() for plural in (JOBS, PODS, NODES, *ADMINISTERED)}
        # Jobs whose next step is to be looked at, and pods whose job is not live.
        self.dirty_jobs: set[str] = set()
        self.dirty_pods: set[str] = set()
        self.administered_changed = self.nodes_changed = False
        # Jobs and quotas that cannot be read: name -> what is wrong with it.
        self.unreadable: dict[str, str] = {}
        self.unreadable_quotas: dict[str, str] = {}
        # Jobs that can be admitted, and those that are to be run again later: name -> when.
        self.backlog = Backlog()
        self.paused: dict[str, float] = {}
        self._claimed: set[str] = set()
        self._pods_of: dict[str, set[str]] = {}

    @property
    def jobs(self) -> dict[str, OrchestratorJob]:
        """Return the live jobs by name."""
        return self._shelves[JOBS].parsed

    @property
    def pods(self) -> dict[str, Pod]:
        """Return our pods by name."""
        return self._shelves[PODS].parsed

    @property
    def services(self) -> dict[str, OrchestratorService]:
        """Return the services by name."""
        return self._shelves[OrchestratorService.plural].parsed

    def service(self, name: str) -> ServiceSpec | None:
        """Return what a service is, or None when there is none of this name."""
        found = self.services.get(name)
        return found.spec if found else None

    @property
    def quotas(self) -> dict[str, OrchestratorQuota]:
        """Return the quotas by name."""
        return self._shelves[OrchestratorQuota.plural].parsed

    @property
    def pools(self) -> dict[str, OrchestratorNodePool]:
        """Return the node pools by name."""
        return self._shelves[OrchestratorNodePool.plural].parsed

    @property
    def nodes(self) -> Mapping[str, ClusterNode]:
        """Return the cluster's nodes by name."""
        return self._shelves[NODES].parsed

    def pods_of(self, job: OrchestratorJob) -> list[Pod]:
        """Return the pods that this very job owns."""
        names = sorted(self._pods_of.get(job.metadata.name, ()))
        found = (self.pods.get(name) for name in names)
        return [pod for pod in found if pod is not None and pod.job_uid == job.metadata.uid]

    def held(self) -> dict[str, Held]:
        """Return use: job uid -> what it holds, for live claims and for pods that are not over."""
        held = {
            pod.job_uid or pod.name: facts.held_by_pod(pod)
            for pod in self.pods.values()
            if not pod.over
        }
        for name in self._claimed:
            job = self.jobs[name]
            attempt = job.status.attempt
            pod = next((p for p in self.pods_of(job) if p.attempt == attempt), None)
            service = self.service(job.spec.service)
            held[job.metadata.uid] = facts.held_by_claim(job, service, pod)
        return held

    def resume(self, now: float) -> float | None:
        """Let jobs whose pause is over wait again; returns when the next pause ends, if any."""
        for name in [name for name, moment in self.paused.items() if moment <= now]:
            del self.paused[name]
            job = self.jobs[name]
            self.backlog.put(facts.waiting(job, self.service(job.spec.service)))
        return min(self.paused.values(), default=None)

    def _line_up(self, name: str) -> None:
        """Put a job where it belongs: in the backlog, among the paused, the claimed, or none."""
        job = self.jobs.get(name)
        self.paused.pop(name, None)
        (self._claimed.add if job and job.status.claim else self._claimed.discard)(name)
        # Never two attempts at once: a pod of an earlier one must be over first.
        if (
            job is None
            or job.status.phase is not Phase.QUEUED
            or job.spec.terminate
            or any(not pod.over for pod in self.pods_of(job))
        ):
            self.backlog.drop(name)
        elif (moment := seconds_of(job.status.not_before)) > 0:
            self.backlog.drop(name)
            self.paused[name] = moment
        else:
            self.backlog.put(facts.waiting(job, self.service(job.spec.service)))

    def see(self, plural: str, body: dict[str, Any]) -> None:
        """Take in an object as it is now."""
        shelf, name = self._shelves[plural], str((body.get("metadata") or {}).get("name", ""))
        new = version(body)
        if new < max(shelf.versions.get(name, 0), shelf.buried.get(name, 0) + 1):
            return
        if new and new == shelf.versions.get(name):
            return
        try:
            parsed = self._parse(plural, body)
        except ValidationError as error:
            # One bad object costs only itself; the last good version of it stays in force.
            log.warning("Cannot read %s %s: %.1000s", plural, name, error)
            if plural == JOBS:
                self.unreadable[name] = _sentence(error)
                self.dirty_jobs.add(name)
                return
            parsed = self._last_good(plural, name, body, error)
            if parsed is None:
                return
        except Exception:
            # A mistake of ours must not be the end of anybody's job.
            log.exception("Cannot read %s %s", plural, name)
            return
        if plural == JOBS:
            self.unreadable.pop(name, None)
            if parsed.status.phase not in LIVE:
                self.lose(plural, body)
                return
        old = shelf.parsed.get(name)
        shelf.parsed[name], shelf.versions[name] = parsed, new
        self._touch(plural, name, parsed, old)

    def lose(self, plural: str, body: dict[str, Any]) -> None:
        """Take in that an object is gone, or, for a job, that it is live no more."""
        shelf, name = self._shelves[plural], str((body.get("metadata") or {}).get("name", ""))
        gone_at = version(body)
        if gone_at < shelf.versions.get(name, 0):
            return
        self._bury(shelf, name, gone_at)
        lost = shelf.parsed.pop(name, None)
        shelf.versions.pop(name, None)
        if plural == JOBS:
            self.unreadable.pop(name, None)
        if plural == OrchestratorQuota.plural:
            self.unreadable_quotas.pop(name, None)
        if lost is not None:
            if plural == PODS:
                self._forget_pod(lost.job, name)
            self._touch(plural, name, lost, None)

    def retain(self, plural: str, names: Collection[str], list_version: str) -> None:
        """Take in what a whole list held: anything else that is not newer than it is gone."""
        shelf = self._shelves[plural]
        limit = int(list_version or 0)
        for name in [n for n, v in shelf.versions.items() if n not in names and v <= limit]:
            self.lose(plural, {"metadata": {"name": name, "resourceVersion": list_version}})
        # A job that waits has no next step of its own, unless it or its service changes.
        self.dirty_jobs |= {name for name in self.jobs if name not in self.backlog}
        self.dirty_pods |= set(self.pods)

    def _last_good(
        self, plural: str, name: str, body: dict[str, Any], error: ValidationError
    ) -> OrchestratorQuota | None:
        """Return a quota that cannot be read as what is in force of it; None for another kind."""
        if plural != OrchestratorQuota.plural:
            return None
        status = body.get("status")
        known = status.get("inForce") if isinstance(status, dict) else None
        try:
            parsed = OrchestratorQuota.parse({**body, "spec": known or {}})
        except ValidationError:
            return None
        self.unreadable_quotas[name] = _sentence(error)
        return parsed

    def _forget_pod(self, job: str, pod: str) -> None:
        names = self._pods_of.get(job, set())
        names.discard(pod)
        if not names:
            self._pods_of.pop(job, None)

    def _parse(self, plural: str, body: dict[str, Any]) -> Any:
        if plural == PODS:
            return Pod.parse(body)
        if plural == NODES:
            return ClusterNode.parse(body)
        if plural == JOBS:
            return parse_job(body)
        parsed = ADMINISTERED[plural].parse(body)
        if plural == OrchestratorQuota.plural:
            self.unreadable_quotas.pop(parsed.metadata.name, None)
        return parsed

    def _touch(self, plural: str, name: str, item: Any, old: Any) -> None:
        if plural == JOBS:
            self.dirty_jobs.add(name)
            self.dirty_pods |= self._pods_of.get(name, set())
            self._line_up(name)
        elif plural == PODS:
            if name in self.pods:
                self._pods_of.setdefault(item.job, set()).add(name)
            self.dirty_jobs.add(item.job)
            self.dirty_pods.add(name)
            self._line_up(item.job)
        elif plural == NODES:
            if old is None or not item.is_like(old):
                self.nodes_changed = True
        else:
            self._touch_administered(name, item, old)

    def _touch_administered(self, name: str, item: Any, old: Any) -> None:
        """Take note that *item* is here, or is gone if there is no *old* of it."""
        same = old is not None and item.spec == old.spec
        if not same or item.status != old.status:
            self.administered_changed = True
        if not same and isinstance(item, OrchestratorService):
            self._service_changed(name)

    def _service_changed(self, service: str) -> None:
        for job in self.jobs.values():
            if job.spec.service == service:
                self.dirty_jobs.add(job.metadata.name)
                self._line_up(job.metadata.name)

    @staticmethod
    def _bury(shelf: Shelf, name: str, at: int) -> None:
        shelf.buried.pop(name, None)
        shelf.buried[name] = at
        if len(shelf.buried) > TOMBSTONES:
            del shelf.buried[next(iter(shelf.buried))]


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"[:1000]
