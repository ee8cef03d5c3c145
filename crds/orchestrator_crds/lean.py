"""A job in as little memory as can be, for those who hold them by the ten thousands."""

from typing import Any

from orchestrator_crds.job import JobStatus, OrchestratorJob
from orchestrator_crds.meta import Model

# Most of a long queue is in this state, and it is a third of what a job takes.
_FRESH = {"observedGeneration": -1, "phase": "Queued"}
_FRESH_STATUS = JobStatus.model_validate(_FRESH)
# The names of the fields that were set: pydantic makes a set of them for every object, a fifth of
# what a job takes, and there are few different ones.
_FIELD_SETS: dict[frozenset[str], set[str]] = {}
# What whoever makes a job can fill with much, and nobody asks for who holds many jobs.
_BULKY = {
    "metadata": ("annotations", "labels", "managedFields", "ownerReferences", "finalizers"),
    "spec": ("script",),
    "inputs": ("files",),
}


def slim(body: dict[str, Any]) -> dict[str, Any]:
    """Return a job's *body* as one can hold it by the ten thousands: without its script, the list
    of its files, labels and annotations."""
    slimmed = {**body, "metadata": _without("metadata", body.get("metadata"))}
    if isinstance(spec := body.get("spec"), dict):
        slimmed["spec"] = _without("spec", spec)
        if "inputs" in spec:
            slimmed["spec"]["inputs"] = _without("inputs", spec["inputs"])
    return slimmed


def _without(part: str, found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    return {key: value for key, value in found.items() if key not in _BULKY[part]}


def parse_job(body: dict[str, Any]) -> OrchestratorJob:
    """Return a slim job that shares with others what is alike; raises ValidationError."""
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
