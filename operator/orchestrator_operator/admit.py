"""One admission pass: a snapshot of the mirror → the core's plan."""

from collections.abc import Collection, Mapping

from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.meta import seconds_of
from orchestrator_operator.core.admission import Plan, plan
from orchestrator_operator.core.snapshot import Held, Snapshot, Waiting
from orchestrator_operator.mirror import Mirror


def admission_pass(
    mirror: Mirror, claimed: Mapping[str, Held], busy: Collection[str], now: float
) -> tuple[Plan, float | None]:
    """Return the plan for *now*, and when the next pause before a retry ends, if any is on.

    *claimed* are the claims under way (job uid -> what they hold), which no watch has echoed yet;
    *busy* are the jobs that something is being written for. Times are seconds since 1970.
    """
    held = mirror.held() | dict(claimed)
    free = [
        job
        for job in mirror.jobs.values()
        if job.metadata.name not in busy and _may_be_claimed(job, mirror)
    ]
    paused = [at for job in free if (at := seconds_of(job.status.not_before)) > now]
    waiting = tuple(
        Waiting(
            name=job.metadata.name,
            service=job.spec.service,
            user=job.spec.user_id,
            since=job.metadata.creation_timestamp,
        )
        for job in free
        if seconds_of(job.status.not_before) <= now
    )
    snapshot = Snapshot(
        waiting=waiting,
        held=tuple(held.values()),
        quotas={name: quota.spec for name, quota in mirror.quotas.items()},
        services=mirror.services,
        pools=frozenset(mirror.pools),
    )
    return plan(snapshot), min(paused, default=None)


def _may_be_claimed(job: OrchestratorJob, mirror: Mirror) -> bool:
    if job.status.phase is not Phase.QUEUED or job.spec.terminate:
        return False
    # Never two attempts at once: a pod of an earlier one must be over first.
    return all(pod.over for pod in mirror.pods_of(job))
