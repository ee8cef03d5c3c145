"""Status patches: every write to a job's status, built here and nowhere else.

Each function takes the job as last read and returns a JSON merge patch for its status, with the
phase move checked against the table and the conditions to match. `None` in a merge patch
removes a field.
"""

from typing import Any

from orchestrator_crds.job import OrchestratorJob, StoredObject
from orchestrator_crds.lifecycle import Phase, Reason, advance
from orchestrator_crds.meta import Condition, set_condition
from orchestrator_crds.outcome import Outcome

LONGEST_MESSAGE = 8000


def claim(job: OrchestratorJob, *, epoch: int, pool: str, now: str) -> dict[str, Any]:
    """Queued → Submitted: the operator promises to run one more attempt."""
    return {
        **_move(job, Phase.SUBMITTED),
        "reason": "",
        "message": "",
        "attempt": job.status.attempt + 1,
        "claim": {"epoch": epoch, "pool": pool},
        "pod": None,
        "submittedAt": now,
        "conditions": _conditions(job, now, ("Admitted", "True", "Claimed", f"On pool {pool}.")),
    }


def adopt(job: OrchestratorJob, *, epoch: int) -> dict[str, Any]:
    """Take over a claim that an earlier leader made; the phase stays."""
    if job.status.claim is None:
        raise ValueError(f"job {job.metadata.name} has no claim to adopt")
    return {"claim": {"epoch": epoch, "pool": job.status.claim.pool}}


def requeue(job: OrchestratorJob, *, now: str) -> dict[str, Any]:
    """Submitted → Queued: a claim that came to nothing, by no fault of the user."""
    return {
        **_move(job, Phase.QUEUED),
        "claim": None,
        "pod": None,
        "submittedAt": None,
        "conditions": _conditions(job, now, ("Admitted", "False", "Requeued", "")),
    }


def start(job: OrchestratorJob, *, pod: str, uid: str, node: str, now: str) -> dict[str, Any]:
    """Submitted → Running: the first pod of this attempt to ask gets the inputs."""
    return {
        **_move(job, Phase.RUNNING),
        "reason": "",
        "message": "",
        "pod": {"name": pod, "uid": uid, "node": node},
        "startedAt": now,
    }


def finish(
    job: OrchestratorJob, outcome: Outcome, *, now: str, results: StoredObject | None = None
) -> dict[str, Any]:
    """Any live phase → its end, with all four conditions that scripts and tools wait for."""
    succeeded = outcome.phase is Phase.COMPLETED
    # A job that somebody stopped neither succeeded nor failed.
    verdict = "True" if succeeded else "Unknown" if outcome.phase is Phase.KILLED else "False"
    message = outcome.message[:LONGEST_MESSAGE]
    short = message[:1000]
    facts = [
        ("Finished", "True", outcome.reason, short),
        ("Succeeded", verdict, outcome.reason, short),
    ]
    if verdict == "False":
        facts.append(("Stalled", "True", outcome.reason, short))
    patch = {
        **_move(job, outcome.phase),
        "reason": str(outcome.reason),
        "message": message,
        "finishedAt": now,
        "conditions": _conditions(job, now, *facts),
    }
    if outcome.exit_code is not None:
        patch["exitCode"] = outcome.exit_code
    if results is not None:
        patch["results"] = results.to_dict()
    return patch


def waiting(job: OrchestratorJob, reason: Reason, message: str) -> dict[str, Any]:
    """Say why a job waits; the phase stays."""
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
