"""A job in as little memory as can be: most of what the operator holds is a long queue of them."""

from typing import Any

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.job import JobStatus
from orchestrator_crds.meta import Model
from orchestrator_crds.record import slim

# Most of a long queue is in this state, and it is a third of what a job takes.
_FRESH = {"observedGeneration": -1, "phase": "Queued"}
_FRESH_STATUS = JobStatus.model_validate(_FRESH)
# The names of the fields that were set: pydantic makes a set of them for every object, a fifth of
# what a job takes, and there are few different ones.
_FIELD_SETS: dict[frozenset[str], set[str]] = {}


def parse_job(body: dict[str, Any]) -> OrchestratorJob:
    """Return a job that shares with others what is alike; raises ValidationError."""
    body = slim(body)
    if body.get("status") == _FRESH:
        body = {**body, "status": _FRESH_STATUS}
    job = OrchestratorJob.parse(body)
    for part in (job, job.metadata, job.spec):
        _share_field_set(part)
    return job


def _share_field_set(model: Model) -> None:
    names = model.model_fields_set
    shared = _FIELD_SETS.setdefault(frozenset(names), names)
    object.__setattr__(model, "__pydantic_fields_set__", shared)
