"""Which waiting jobs are told why they wait: late, seldom, and a few at a time."""

import time
from collections.abc import Callable, Mapping

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.meta import seconds_of
from orchestrator_operator.core.admission import Blocked

# A reason is worth a write only once the job has waited, and never at the cost of the rest.
AFTER_SECONDS = 10.0
PER_SECOND = 5


class Pacing:
    """Hands out what is to be told now, and when to ask again."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._told_at = 0.0

    def due(
        self, blocked: tuple[Blocked, ...], jobs: Mapping[str, OrchestratorJob]
    ) -> tuple[list[Blocked], float | None]:
        """Return (what to tell now, seconds until there is more to tell, or None).

        A job is told again only when the reason's word changes: numbers in a message go stale.
        """
        now = self._clock()
        told: list[Blocked] = []
        soonest: float | None = None
        budget = PER_SECOND if now - self._told_at >= 1.0 else 0
        for item in blocked:
            job = jobs[item.job.name]
            if job.status.reason == item.reason:
                continue
            left = seconds_of(job.metadata.creation_timestamp) + AFTER_SECONDS - now
            if left <= 0 and len(told) < budget:
                told.append(item)
                continue
            left = max(left, 1.0)
            soonest = left if soonest is None else min(soonest, left)
        if told:
            self._told_at = now
        return told, soonest
