"""The record of an ended job: what stays in the object store when its resource is gone."""

import json
from typing import Any

from orchestrator_crds.job import OrchestratorJob
from orchestrator_crds.lifecycle import Phase
from orchestrator_crds.meta import later, seconds_of
from orchestrator_crds.service import Retention

_METADATA = ("name", "namespace", "uid", "creationTimestamp")


def record(body: dict[str, Any], retention: Retention) -> bytes:
    """Return the record, as JSON, of the ended job with this *body*.

    It reads like the job itself, with `keepUntil` beside spec and status.
    """
    metadata, status = body.get("metadata") or {}, body.get("status") or {}
    ended = str(status.get("finishedAt") or metadata.get("creationTimestamp"))
    kept = {
        "metadata": {key: metadata[key] for key in _METADATA if key in metadata},
        "spec": body.get("spec"),
        "status": status,
        "keepUntil": later(ended, retention.record_seconds),
    }
    return json.dumps(kept, separators=(",", ":")).encode()


def cleaned(body: dict[str, Any], now: str) -> dict[str, Any]:
    """Return *body* as that of a job whose files were deleted because their time was over."""
    status = dict(body.get("status") or {})
    if status.get("phase") != Phase.CLEANED:
        before = f"{status.get('phase')}: {status.get('message', '')}".strip(": ")
        status["message"] = (
            f"The job's files were deleted on {now[:10]}, as their time was over; submit it again "
            f"to have them anew. It had ended as {before}"
        )[:8192]
        status["phase"] = str(Phase.CLEANED)
    return {**body, "status": status}


def outlived(data: bytes, now: float) -> bool:
    """Return whether the time of a record is over at *now*, in seconds since 1970."""
    try:
        keep_until = seconds_of(json.loads(data).get("keepUntil"))
    except (ValueError, AttributeError):
        return False  # not ours to judge
    return 0 < keep_until < now


def is_expired(job: OrchestratorJob, now: float) -> bool:
    """Return whether the time of an ended job's files is over at *now*, in seconds since 1970."""
    expires_at = seconds_of(job.status.expires_at)
    return 0 < expires_at <= now
