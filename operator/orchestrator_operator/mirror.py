"""The operator's picture of the cluster: live jobs, our pods, and what administrators wrote.

It is fed by watch events, by the answers to our own writes, and by the re-list, which is the
truth: an event may be late, doubled or missing. Of two versions of an object the newer stays.
"""

import logging
from collections.abc import Iterable
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
from orchestrator_crds.lifecycle import LIVE
from orchestrator_crds.record import slim
from orchestrator_operator.core.pods import Pod
from orchestrator_operator.core.snapshot import Held

log = logging.getLogger(__name__)
PODS = "pods"
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
        self._shelves = {plural: Shelf() for plural in (JOBS, PODS, *ADMINISTERED)}
        # Jobs whose next step is to be looked at, and pods whose job is not live.
        self.dirty_jobs: set[str] = set()
        self.dirty_pods: set[str] = set()
        self.administered_changed = False
        # Jobs that cannot be read: name -> what is wrong with it.
        self.unreadable: dict[str, str] = {}
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

    def pods_of(self, job: OrchestratorJob) -> list[Pod]:
        """Return the pods that this very job owns."""
        names = sorted(self._pods_of.get(job.metadata.name, ()))
        found = (self.pods.get(name) for name in names)
        return [pod for pod in found if pod is not None and pod.job_uid == job.metadata.uid]

    def held(self) -> dict[str, Held]:
        """Return use: job uid -> what it holds, for live claims and for pods that are not over."""
        held = {
            pod.job_uid or pod.name: Held(pod.service, pod.user)
            for pod in self.pods.values()
            if not pod.over
        }
        for job in self.jobs.values():
            if job.status.claim is not None:
                held[job.metadata.uid] = Held(job.spec.service, job.spec.user_id)
        return held

    def see(self, plural: str, body: dict[str, Any]) -> None:
        """Take in an object as it is now."""
        shelf, name = self._shelves[plural], str((body.get("metadata") or {}).get("name", ""))
        new = version(body)
        if new < max(shelf.versions.get(name, 0), shelf.buried.get(name, 0) + 1):
            return
        try:
            parsed = self._parse(plural, body)
        except ValidationError as error:
            # One bad object costs only itself; the last good version of it stays in force.
            log.warning("Cannot read %s %s: %s", plural, name, error)
            if plural == JOBS:
                self.unreadable[name] = _sentence(error)
                self.dirty_jobs.add(name)
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
        shelf.parsed[name], shelf.versions[name] = parsed, new
        self._touch(plural, name, parsed)

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
        if lost is not None:
            self._touch(plural, name, lost)
            if plural == PODS:
                self._forget_pod(lost.job, name)

    def replace(self, plural: str, bodies: Iterable[dict[str, Any]], list_version: str) -> None:
        """Take in a whole list: what it does not hold, and is not newer than it, is gone."""
        names = set()
        for body in bodies:
            names.add(str((body.get("metadata") or {}).get("name", "")))
            self.see(plural, body)
        shelf = self._shelves[plural]
        limit = int(list_version or 0)
        for name in [n for n, v in shelf.versions.items() if n not in names and v <= limit]:
            self.lose(plural, {"metadata": {"name": name, "resourceVersion": list_version}})
        self.dirty_jobs |= set(self.jobs)
        self.dirty_pods |= set(self.pods)

    def _forget_pod(self, job: str, pod: str) -> None:
        names = self._pods_of.get(job, set())
        names.discard(pod)
        if not names:
            self._pods_of.pop(job, None)

    @staticmethod
    def _parse(plural: str, body: dict[str, Any]) -> Any:
        if plural == PODS:
            return Pod.parse(body)
        if plural == JOBS:
            return OrchestratorJob.parse(slim(body))
        return ADMINISTERED[plural].parse(body)

    def _touch(self, plural: str, name: str, item: Any) -> None:
        if plural == JOBS:
            self.dirty_jobs.add(name)
            self.dirty_pods |= self._pods_of.get(name, set())
        elif plural == PODS:
            self._pods_of.setdefault(item.job, set()).add(name)
            self.dirty_jobs.add(item.job)
            self.dirty_pods.add(name)
        else:
            self.administered_changed = True
            self.dirty_jobs |= set(self.jobs)

    @staticmethod
    def _bury(shelf: Shelf, name: str, at: int) -> None:
        shelf.buried.pop(name, None)
        shelf.buried[name] = at
        if len(shelf.buried) > TOMBSTONES:
            del shelf.buried[next(iter(shelf.buried))]


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
