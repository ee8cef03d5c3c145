"""What administrators wrote, judged: the Ready condition, what is in force, and how busy it is."""

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from orchestrator_crds import OrchestratorQuota, Resource
from orchestrator_operator.core import facts, judgement, usage
from orchestrator_operator.core.judgement import Verdict
from orchestrator_operator.core.snapshot import Snapshot
from orchestrator_operator.mirror import Mirror

Write = tuple[Resource, Verdict, dict[str, Any]]
# How often it is told how busy one of them is, and how many of them a second.
TOLD_EVERY_SECONDS = 5.0
TOLD_PER_SECOND = 5


class Judge:
    """Judges everything anew whenever one of it changes, and says what is to be written."""

    def __init__(self, mirror: Mirror, clock: Callable[[], float] = time.time) -> None:
        self._mirror, self._clock = mirror, clock
        # Quota and generation -> the claims that were under way when it was first seen.
        self._before: dict[tuple[str, int], Collection[str]] = {}
        # Whether an edit of a quota waits for claims that were decided before it.
        self.waiting = False
        self._told_at: dict[str, float] = {}
        self._looked_at = 0.0
        self._verdicts: dict[str, Verdict] = {}

    def right(self) -> set[str]:
        """Judge all quotas, and return the names of those that are right as they stand."""
        quotas = self._mirror.quotas.items()
        self._verdicts = {name: self._of_quota(quota) for name, quota in quotas}
        return {name for name, verdict in self._verdicts.items() if verdict.ready}

    def due(self, claimed: Collection[str]) -> Iterator[Write]:
        """Yield what is not written yet, by the verdicts of `right`.

        *claimed* are uids of jobs that are being claimed.
        """
        mirror = self._mirror
        self.waiting = False
        for service in mirror.services.values():
            verdict = judgement.of_service(service, mirror.pools)
            if not _stands(service, verdict):
                yield service, verdict, {}
        for pool in mirror.pools.values():
            verdict = judgement.of_pool(pool, facts.nodes_of(pool, mirror.nodes))
            if not _stands(pool, verdict):
                yield pool, verdict, {}
        current = set()
        for quota in mirror.quotas.values():
            verdict = self._verdicts[quota.metadata.name]
            changes = verdict.ready and quota.spec != quota.status.in_force
            if _stands(quota, verdict) and not changes:
                continue
            key = (quota.metadata.name, quota.metadata.generation)
            current.add(key)
            if changes and not self._settled(key, claimed):
                self.waiting = True
                continue
            yield quota, verdict, {"inForce": quota.spec.to_dict()} if verdict.ready else {}
        self._before = {key: uids for key, uids in self._before.items() if key in current}

    def _settled(self, key: tuple[str, int], claimed: Collection[str]) -> bool:
        """Return whether every claim is written that was decided before this edit was seen.

        Only then does the edit come into force; so no claim is ever above a limit in force.
        """
        before = self._before.setdefault(key, frozenset(claimed))
        return not any(uid in claimed for uid in before)

    def _of_quota(self, quota: OrchestratorQuota) -> Verdict:
        problem = self._mirror.unreadable_quotas.get(quota.metadata.name)
        if problem is not None:
            return Verdict(False, "InvalidSpec", f"spec.{problem}")
        return judgement.of_quota(quota, self._mirror.services, self._clock())

    def busy(
        self, snapshot: Snapshot
    ) -> tuple[list[tuple[Resource, dict[str, Any]]], float | None]:
        """Return (what to tell now, seconds until there may be more, or None).

        Each is told at most every few seconds, and only what has changed. To look takes time, so
        it is done once a second, however often jobs are admitted.
        """
        now = self._clock()
        if now - self._looked_at < 1.0:
            return [], 1.0
        self._looked_at = now
        told: list[tuple[Resource, dict[str, Any]]] = []
        soonest: float | None = None
        for item, status in self._statuses(snapshot):
            known = item.status.to_dict()  # type: ignore[attr-defined]
            if all(known.get(key) == value for key, value in status.items()):
                continue
            key = f"{item.plural}/{item.metadata.name}"
            left = self._told_at.get(key, 0.0) + TOLD_EVERY_SECONDS - now
            if left <= 0 and len(told) < TOLD_PER_SECOND:
                self._told_at[key] = now
                told.append((item, status))
            else:
                left = max(left, 1.0)
                soonest = left if soonest is None else min(soonest, left)
        return told, soonest

    def _statuses(self, snapshot: Snapshot) -> Iterator[tuple[Resource, dict[str, Any]]]:
        mirror = self._mirror
        for quota in mirror.quotas.values():
            yield quota, usage.of_quota(quota, snapshot)
        for name, status in usage.of_services(snapshot).items():
            if (service := mirror.services.get(name)) is not None:
                yield service, status
        for pool in mirror.pools.values():
            nodes = facts.nodes_of(pool, mirror.nodes)
            yield pool, usage.of_pool(pool, nodes, snapshot.held)


def _stands(item: Resource, verdict: Verdict) -> bool:
    """Return whether *verdict* is written already."""
    status: Any = getattr(item, "status", None)
    if status.observed_generation != item.metadata.generation:
        return False
    old = next((c for c in status.conditions if c.type == "Ready"), None)
    known = old and (old.status == "True", old.reason, old.message)
    return bool(known == (verdict.ready, verdict.reason, verdict.message))
