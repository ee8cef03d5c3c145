"""How many jobs a user may have waiting: quotas' `maxQueuedPerUser`, checked at the door.

It is counted from the watch, so it costs no request; uploads that come within the same instant may
all be let in.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable

from orchestrator_api.cache import Watched
from orchestrator_api.errors import TooManyWaiting
from orchestrator_crds import OrchestratorJob, OrchestratorQuota, Phase, windows
from orchestrator_wire.kube import Kube


class Queue:
    """The waiting jobs of every user, and what quotas say of them."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        jobs: Watched[OrchestratorJob],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.quotas = Watched(kube, OrchestratorQuota, namespace, OrchestratorQuota.parse)
        self._clock = clock
        self._waiting: defaultdict[str, Counter[str]] = defaultdict(Counter)
        jobs.on_change = self._changed

    def _changed(self, old: OrchestratorJob | None, new: OrchestratorJob | None) -> None:
        for job, step in ((old, -1), (new, 1)):
            if job is not None and job.status.phase is Phase.QUEUED:
                counts = self._waiting[job.spec.user_id]
                counts[job.spec.service] += step
                if not counts[job.spec.service]:
                    del counts[job.spec.service]
                if not counts:
                    del self._waiting[job.spec.user_id]

    def check(self, service: str, user: str) -> None:
        """Return when one more job may wait; raises TooManyWaiting otherwise."""
        for name, quota in sorted(self.quotas.items.items()):
            spec = quota.status.in_force
            if spec is None or not spec.matches(service, user):
                continue
            limits = windows.in_force(spec, self._clock()).limits
            most, own = limits.max_queued_per_user, limits.users.get(user)
            if own is not None and own.max_queued is not None:
                most = own.max_queued
            if most is None:
                continue
            waiting = sum(
                count
                for where, count in self._waiting.get(user, Counter()).items()
                if spec.matches(where, user)
            )
            if waiting >= most:
                raise TooManyWaiting(
                    f"User {user} has {waiting} jobs waiting, and quota {name} lets {most} wait at "
                    "once. Upload again when one of them has started."
                )
