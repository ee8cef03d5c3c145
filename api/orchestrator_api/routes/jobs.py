"""The old system's job routes: upload, download, download_partial, terminate."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse

from orchestrator_api.bundle import of_script
from orchestrator_api.dependencies import Context, Given
from orchestrator_api.errors import AlreadyOver, JobNotFound, ResultsMissing
from orchestrator_api.files import ZIP, zip_response
from orchestrator_api.schemas import JobAnswer, answer, phase_for_rest
from orchestrator_api.upload import boundary, check_length
from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.lifecycle import LIVE
from orchestrator_crds.names import PARTIAL, object_key
from orchestrator_wire import errors

log = logging.getLogger(__name__)
router = APIRouter(tags=["jobs"])
JobId = Annotated[int, Path(ge=1, le=2**31 - 1, description="The number that the upload gave.")]
AskedRange = Annotated[str, Header(alias="Range", description="One byte range.")]
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "user_id", "service"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "Files, in any field; one of them is run.sh.",
                        },
                        "user_id": {"type": "integer", "format": "int32"},
                        "service": {"type": "string"},
                    },
                }
            }
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {ZIP: {}, "application/json": {}}, "description": "The zip, or a status."}
}


@router.post("/upload", status_code=201, openapi_extra=_FORM)
async def upload(request: Request, given: Given) -> JobAnswer:
    """Submit a job: its files, whom it is for, and the service to run it."""
    mark = boundary(request.headers.get("content-type", ""))
    check_length(request.headers.get("content-length", ""), given.services)
    job = await given.submissions.submit(mark, request.stream())
    message = "Job successfully uploaded"
    return JobAnswer(id=job.spec.id or 0, status=str(Phase.QUEUED), message=message)


async def _find(given: Context, job_id: int) -> OrchestratorJob:
    job = await given.jobs.find(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


@router.head("/download/{job_id}", response_model=None, include_in_schema=False)
@router.get("/download/{job_id}", response_model=None, responses=_ANSWERS)
async def download(
    job_id: JobId, request: Request, given: Given, asked_range: AskedRange = ""
) -> Response:
    """Poll a job: its status as JSON until it has completed, then its results as a zip."""
    job = await _find(given, job_id)
    results = job.status.results
    if phase_for_rest(job) is not Phase.COMPLETED or results is None:
        return JSONResponse(answer(job).model_dump())
    async with _still_there(given, job, job_id):
        return await zip_response(
            given.store,
            results.key,
            f"{job_id}.zip",
            etag=results.etag,
            asked_range=asked_range,
            head=request.method == "HEAD",
        )


@asynccontextmanager
async def _still_there(given: Context, job: OrchestratorJob, job_id: int) -> AsyncIterator[None]:
    """Tell a job that was deleted, files and all, from one whose files alone are missing."""
    try:
        yield
    except errors.NoSuchObject as error:
        given.jobs.forget(job)
        await _find(given, job_id)
        raise ResultsMissing(job_id) from error


@router.head("/download_partial/{job_id}", response_model=None, include_in_schema=False)
@router.get("/download_partial/{job_id}", response_model=None, responses=_ANSWERS)
async def download_partial(
    job_id: JobId, request: Request, given: Given, asked_range: AskedRange = ""
) -> Response:
    """Get the working directory as it is now, from the inputs to the results."""
    job = await _find(given, job_id)
    serve = partial(
        zip_response,
        given.store,
        name=f"{job_id}.zip",
        asked_range=asked_range,
        head=request.method == "HEAD",
    )
    results, inputs = job.status.results, job.spec.inputs
    if results is not None:
        async with _still_there(given, job, job_id):
            return await serve(key=results.key, etag=results.etag)
    if job.status.phase is not Phase.QUEUED:
        try:
            return await serve(key=object_key(job.folder, PARTIAL))
        except errors.NoSuchObject:
            log.debug("No snapshot of job %d yet: the inputs are what there is.", job_id)
    if inputs is not None:
        async with _still_there(given, job, job_id):
            return await serve(key=inputs.key)
    return Response(of_script(job.spec.script or ""), media_type=ZIP)


@router.post("/terminate/{job_id}")
async def terminate(job_id: JobId, given: Given) -> JobAnswer:
    """Stop a job, wherever it is."""
    job = await _find(given, job_id)
    if job.status.phase in LIVE:
        try:
            job = await given.cluster.terminate(job.metadata.name)
        except errors.NotFound as error:
            raise JobNotFound(job_id) from error
        given.jobs.learn(job)
    if job.status.phase not in LIVE:
        raise AlreadyOver(f"Job {job_id} is over already: {job.status.phase}")
    return JobAnswer(id=job_id, status="Unknown", message="job terminated")
