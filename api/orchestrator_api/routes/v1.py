"""The routes under /v1: the same jobs, told in full. Errors are RFC 9457 problem details."""

from fastapi import APIRouter

from orchestrator_api.dependencies import IDENTIFIED, Caller, Given, JobId, Known, find_job
from orchestrator_api.description import OF_A_JOB, refusals
from orchestrator_api.problems import Problem
from orchestrator_api.schemas import JobExplanation, answer, phase_for_rest
from orchestrator_crds import Phase
from orchestrator_crds.explanation import Explanation
from orchestrator_wire.kube import now

router = APIRouter(
    prefix="/v1",
    tags=["v1"],
    responses=refusals(*OF_A_JOB, body=Problem),
    dependencies=IDENTIFIED,
)


@router.get("/jobs/{job_id}/explain", response_model_by_alias=True)
async def explain(job_id: JobId, given: Given, known: Known, caller: Caller) -> JobExplanation:
    """Tell why a job waits: what is in its way, when it may start, what would start it now."""
    job = await find_job(given, known, job_id)
    told, waits = answer(job), phase_for_rest(job) is Phase.QUEUED
    found, only_user = None, bool(known.only_user)
    if waits:
        found = await given.operator.explain(job.metadata.name, caller, only_user=only_user)
    first = found.blockers[0] if found and found.blockers else None
    return JobExplanation(
        id=job_id,
        status=told.status,
        reason=first.code if first else job.status.reason or "",
        message=first.message if first else told.message,
        complete=found is not None or not waits,
        **dict(found or Explanation(as_of=now())),
    )
