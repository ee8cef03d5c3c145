"""Status patches: every write to a job's status, built here and nowhere else.

Each function takes the job as last read and returns a JSON merge patch for its status, with the
phase move checked against the table and the conditions to match. `None` in a merge patch
removes a field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator_crds.job import (
    LONGEST_TAIL,
    MAX_SKIPPED,
    OrchestratorJob,
    Progress,
    Skipped,
    StoredObject,
)
from orchestrator_crds.lifecycle import HOPELESS, INFRASTRUCTURE, Phase, Reason, advance
from orchestrator_crds.meta import Condition, later, set_condition
from orchestrator_crds.outcome import Outcome, killed
from orchestrator_crds.resources import ComputeResources
from orchestrator_crds.service import Retention, Retries, ServiceSpec

LONGEST_MESSAGE = 8000
FIRST_REFUSED_SECONDS, LONGEST_BACKOFF_SECONDS = 10, 600


@dataclass(frozen=True)
class Leftovers:
    """What an attempt left behind: its results, the end of its log, what could not be packed."""

    results: StoredObject | None = None
    log_tail: str = ""
    skipped: Skipped | None = None
    progress: Progress | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the part of a status that says so; nothing of what there is none of."""
        found: dict[str, Any] = {}
        for name, part in (
            ("results", self.results),
            ("skipped", self.skipped),
            ("progress", self.progress),
        ):
            if part is not None:
                found[name] = part.to_dict()
        if self.log_tail:
            found["logTail"] = self.log_tail[-LONGEST_TAIL:]
        return found


NOTHING = Leftovers()


def skipped(names: Sequence[str], count: int) -> Skipped | None:
    """Return the note of what results leave out, or None when they leave out nothing."""
    if count <= 0:
        return None
    return Skipped(count=count, names=tuple(name[:512] for name in names[:MAX_SKIPPED]))


def claim(
    job: OrchestratorJob, *, epoch: int, pool: str, resources: ComputeResources, now: str
) -> dict[str, Any]:
    """Queued → Submitted: the operator promises to run one more attempt, with *resources*."""
    return {
        **_move(job, Phase.SUBMITTED),
        "reason": "",
        "message": "",
        "attempt": job.status.attempt + 1,
        "claim": {"epoch": epoch, "pool": pool, "resources": resources.to_dict()},
        "pod": None,
        "notBefore": None,
        "submittedAt": now,
        "conditions": _conditions(job, now, ("Admitted", "True", "Claimed", f"On pool {pool}.")),
    }


def adopt(job: OrchestratorJob, *, epoch: int) -> dict[str, Any]:
    """Take over a claim that an earlier leader made; the phase stays."""
    if job.status.claim is None:
        raise ValueError(f"job {job.metadata.name} has no claim to adopt")
    return {"claim": {"epoch": epoch}}


def requeue(job: OrchestratorJob, *, now: str) -> dict[str, Any]:
    """Submitted → Queued: a claim that came to nothing, by no fault of the user."""
    return {
        **_move(job, Phase.QUEUED),
        "claim": None,
        "pod": None,
        "submittedAt": None,
        "conditions": _conditions(job, now, ("Admitted", "False", "Requeued", "")),
    }


def refused(job: OrchestratorJob, why: str, *, now: str) -> dict[str, Any]:
    """Submitted → Queued: the cluster refuses the pod; after a pause it is tried again.

    The pause doubles with every attempt, and nobody counts them: it is the administrator's to mend.
    """
    moment = _pause(FIRST_REFUSED_SECONDS, job.status.attempt - 1, now)
    sentence = f"The pod is refused: {why} It is tried again after {moment}."
    return {
        **requeue(job, now=now),
        "reason": str(Reason.POD_REJECTED),
        "message": sentence[-LONGEST_MESSAGE:],
        "notBefore": moment,
    }


def _pause(first_seconds: int, doublings: int, now: str) -> str:
    """Return when a pause is over that began with *first_seconds* and has doubled since."""
    # More doublings than these are longer than the longest in any case.
    return later(now, min(first_seconds * 2 ** min(doublings, 10), LONGEST_BACKOFF_SECONDS))


def start(job: OrchestratorJob, *, pod: str, uid: str, node: str, now: str) -> dict[str, Any]:
    """Submitted → Running: the first pod of this attempt to ask gets the inputs."""
    return {
        **_move(job, Phase.RUNNING),
        "reason": "",
        "message": "",
        "pod": {"name": pod, "uid": uid, "node": node},
        "startedAt": now,
    }


def settle(
    job: OrchestratorJob,
    outcome: Outcome,
    service: ServiceSpec | None,
    *,
    now: str,
    left: Leftovers = NOTHING,
) -> dict[str, Any]:
    """Any live phase → its end, or back to Queued when its service gives it another attempt.

    A failure of the infrastructure is tried again as long as `retries.infrastructure` lasts, one
    of the user's own only as long as `retries.user` does. A service that is gone gives no more.
    A job that was to stop has stopped, whatever else the outcome was decided on.
    """
    if job.spec.terminate and outcome.phase is not Phase.COMPLETED:
        outcome = replace(
            killed(running=job.status.phase is Phase.RUNNING), exit_code=outcome.exit_code
        )
    retries = service.retries if service else Retries(infrastructure=0)
    if _has_another_try(job, outcome, retries):
        return _retry(job, outcome, retries, now)
    return finish(job, outcome, service, now=now, left=left)


def _has_another_try(job: OrchestratorJob, outcome: Outcome, retries: Retries) -> bool:
    if outcome.phase is not Phase.FAILED or outcome.reason in HOPELESS:
        return False
    if outcome.reason in INFRASTRUCTURE:
        return job.status.infrastructure_retries < retries.infrastructure
    return job.status.user_retries < retries.user


def _retry(job: OrchestratorJob, outcome: Outcome, retries: Retries, now: str) -> dict[str, Any]:
    """Submitted | Running → Queued, after a pause that doubles with every retry."""
    infrastructure, user = job.status.infrastructure_retries, job.status.user_retries
    moment = _pause(retries.backoff_seconds, infrastructure + user, now)
    own = outcome.reason not in INFRASTRUCTURE
    count, most = (user, retries.user) if own else (infrastructure, retries.infrastructure)
    sentence = f"{outcome.message} It is run again after {moment} (retry {count + 1} of {most})."
    return {
        **_move(job, Phase.QUEUED),
        "reason": str(outcome.reason),
        "message": sentence[-LONGEST_MESSAGE:],
        "notBefore": moment,
        "userRetries" if own else "infrastructureRetries": count + 1,
        "claim": None,
        "pod": None,
        "submittedAt": None,
        "startedAt": None,
        "results": None,
        "skipped": None,
        "logTail": None,
        "exitCode": None,
        "progress": None,
        "snapshots": "Paced",
        "snapshotWantedAt": None,
        "conditions": _conditions(
            job, now, ("Admitted", "False", str(outcome.reason), "It is to be run again.")
        ),
    }


def finish(
    job: OrchestratorJob,
    outcome: Outcome,
    service: ServiceSpec | None,
    *,
    now: str,
    left: Leftovers = NOTHING,
) -> dict[str, Any]:
    """Any live phase → its end, with all four conditions that scripts and tools wait for."""
    succeeded = outcome.phase is Phase.COMPLETED
    # A job that somebody stopped neither succeeded nor failed.
    verdict = "True" if succeeded else "Unknown" if outcome.phase is Phase.KILLED else "False"
    message = _last_word(job, outcome)[:LONGEST_MESSAGE]
    short = message[:1000]
    facts = [
        ("Finished", "True", outcome.reason, short),
        ("Succeeded", verdict, outcome.reason, short),
    ]
    if verdict == "False":
        facts.append(("Stalled", "True", outcome.reason, short))
    retention = service.retention if service else Retention()
    kept = retention.results_seconds if succeeded else retention.failed_seconds
    patch = {
        **_move(job, outcome.phase),
        "reason": str(outcome.reason),
        "message": message,
        "finishedAt": now,
        "expiresAt": later(now, kept),
        "notBefore": None,
        "conditions": _conditions(job, now, *facts),
        **left.to_dict(),
    }
    if outcome.exit_code is not None:
        patch["exitCode"] = outcome.exit_code
    if url := job.spec.callback_url or (service and service.callback_url):
        patch["callback"] = {"url": url, "state": "Pending", "attempts": 0, "updatedAt": now}
    return patch


def _last_word(job: OrchestratorJob, outcome: Outcome) -> str:
    if outcome.phase is not Phase.FAILED or outcome.reason not in INFRASTRUCTURE:
        return outcome.message
    tries = job.status.infrastructure_retries + 1
    tried = f" It was tried {tries} times." if tries > 1 else ""
    return f"{outcome.message}{tried} Submit it again."


def lost(job: OrchestratorJob, *, now: str) -> dict[str, Any]:
    """Any end → Cleaned: the files are not in the store any more, and nobody meant that."""
    message = "The job's files are not in the file store any more. Submit the job again."
    return {
        **_move(job, Phase.CLEANED),
        "reason": str(Reason.RESULTS_LOST),
        "message": message,
        "conditions": _conditions(job, now, ("Stalled", "True", Reason.RESULTS_LOST, message)),
    }


def progressed(progress: Progress) -> dict[str, Any]:
    """Say how far run.sh is; the phase stays."""
    return {"progress": progress.to_dict()}


def waiting(job: OrchestratorJob, reason: str, message: str) -> dict[str, Any]:
    """Say why a job waits, or by two empty texts that it does not any more; the phase stays."""
    return {
        "reason": str(reason),
        "message": message[:LONGEST_MESSAGE],
        "observedGeneration": job.metadata.generation,
    }


def _move(job: OrchestratorJob, new: Phase) -> dict[str, Any]:
    advance(job.status.phase, new)
    return {"phase": str(new), "observedGeneration": job.metadata.generation}


def _conditions(
    job: OrchestratorJob, now: str, *facts: tuple[str, str, str, str]
) -> list[dict[str, Any]]:
    conditions = job.status.conditions
    for kind, status, reason, message in facts:
        conditions = set_condition(
            conditions,
            Condition.model_validate(
                {
                    "type": kind,
                    "status": status,
                    "reason": str(reason),
                    "message": message,
                    "lastTransitionTime": now,
                    "observedGeneration": job.metadata.generation,
                }
            ),
        )
    return [c.to_dict() for c in conditions]
