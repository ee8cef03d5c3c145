"""The old system's job routes: upload, download, download_partial, terminate."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse

from orchestrator_api.dependencies import (
    IDENTIFIED,
    Caller,
    Context,
    Downloading,
    Given,
    JobId,
    Known,
    find_job,
)
from orchestrator_api.description import ASKED, OF_A_JOB, ZIPS, refusals
from orchestrator_api.errors import (
    AlreadyOver,
    BadRequest,
    FilesMissing,
    FilesReplaced,
    Forbidden,
    JobNotFound,
    RangeNotSatisfiable,
    TooLarge,
    TooManyWaiting,
    TooSlow,
)
from orchestrator_api.files import Asked, zip_response
from orchestrator_api.identity.principals import Principal
from orchestrator_api.schemas import JobAnswer, answer, phase_for_rest
from orchestrator_api.upload import boundary, check_length
from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.lifecycle import LIVE
from orchestrator_crds.meta import LONGEST_NAME, LONGEST_URL, OBJECT_NAME, seconds_of
from orchestrator_crds.names import partial_key
from orchestrator_wire import errors
from orchestrator_wire.kube import now

log = logging.getLogger(__name__)
router = APIRouter(tags=["jobs"], dependencies=IDENTIFIED)
# How often a poll for partial results may ask a job for them.
WANTED_EVERY_SECONDS = 30.0
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
                            "minItems": 1,
                            "description": "Files, in any field; one of them is run.sh.",
                        },
                        "user_id": {
                            "type": "integer",
                            "minimum": -(2**31),
                            "maximum": 2**31 - 1,
                            "description": "Whom the job is for.",
                        },
                        "service": {
                            "type": "string",
                            "pattern": OBJECT_NAME,
                            "maxLength": LONGEST_NAME,
                            "description": "Name of an OrchestratorService.",
                        },
                        "callback_url": {
                            "type": "string",
                            "format": "uri",
                            "maxLength": LONGEST_URL,
                            "description": "Where the job's end is posted; its host must be one "
                            "that the administrator allows.",
                        },
                    },
                }
            }
        },
    }
}
_UPLOAD = refusals(*ASKED, BadRequest, Forbidden, TooLarge, TooManyWaiting, TooSlow)
_ZIPS = ZIPS | refusals(*OF_A_JOB, FilesMissing, FilesReplaced, RangeNotSatisfiable)


@router.post("/upload", status_code=201, openapi_extra=_FORM, responses=_UPLOAD)
async def upload(request: Request, given: Given, known: Known, caller: Caller) -> JobAnswer:
    """Submit a job: its files, whom it is for, and the service to run it."""
    mark = boundary(request.headers.get("content-type", ""))
    check_length(request.headers.get("content-length", ""), given.services)
    if known.only_user:
        await given.submissions.turns.job(caller)
    with given.door.rates.uploading(caller):
        job = await given.submissions.submit(known, caller, mark, request.stream())
    given.jobs.live.put_new(job)
    message = "Job successfully uploaded"
    return JobAnswer(id=job.spec.id or 0, status=str(Phase.QUEUED), message=message)


async def _asked(
    request: Request,
    given: Given,
    caller: Caller,
    hold: Downloading,
    byte_range: Annotated[str, Header(alias="Range", description="One byte range.")] = "",
    if_range: Annotated[str, Header(alias="If-Range", description="The ETag that it is of.")] = "",
) -> Asked:
    in_turn = partial(given.submissions.turns.of, caller)
    return Asked(byte_range, if_range, request.method == "HEAD", hold, in_turn)


AskedFor = Annotated[Asked, Depends(_asked)]


@router.head("/download/{job_id}", response_model=None, responses=_ZIPS)
@router.get("/download/{job_id}", response_model=None, responses=_ZIPS)
async def download(job_id: JobId, given: Given, known: Known, asked: AskedFor) -> Response:
    """Poll a job: its status as JSON until it has completed, then its results as a zip."""
    job = await find_job(given, known, job_id)
    results = job.status.results
    if phase_for_rest(job) is not Phase.COMPLETED or results is None:
        return JSONResponse(answer(job).model_dump())
    try:
        found = {"etag": results.etag, "sha256": results.sha256}
        return await zip_response(given.store, results.key, f"{job_id}.zip", asked, **found)
    except errors.NoSuchObject as error:
        return await _vanished(given, known, job, error)


async def _vanished(
    given: Context, known: Principal, job: OrchestratorJob, error: errors.NoSuchObject
) -> Response:
    """Answer for files that are not there: the job may have expired or been deleted meanwhile."""
    job_id = job.spec.id or 0
    given.jobs.forget(job)
    found = await find_job(given, known, job_id)
    if found.status.phase is Phase.CLEANED:
        return JSONResponse(answer(found).model_dump())
    if isinstance(error, errors.Replaced):
        raise FilesReplaced(job_id) from error
    raise FilesMissing(job_id) from error


@router.head("/download_partial/{job_id}", response_model=None, responses=_ZIPS)
@router.get("/download_partial/{job_id}", response_model=None, responses=_ZIPS)
async def download_partial(job_id: JobId, given: Given, known: Known, asked: AskedFor) -> Response:
    """Get the working directory as it is now, from the inputs to the results."""
    job = await find_job(given, known, job_id)
    serve = partial(zip_response, given.store, name=f"{job_id}.zip", asked=asked)
    results, inputs = job.status.results, job.spec.inputs
    try:
        if job.status.phase is Phase.CLEANED:
            return JSONResponse(answer(job).model_dump())
        if results is not None:
            return await serve(key=results.key, etag=results.etag, sha256=results.sha256)
        await _want(given, job)
        if job.status.phase is not Phase.QUEUED:
            # No snapshot yet: the inputs are what there is.
            with suppress(errors.NoSuchObject):
                return await _latest(serve, _partial_key(job))
        if inputs is not None:
            return await serve(key=inputs.key, etag=inputs.etag, sha256=inputs.sha256)
    except errors.NoSuchObject as error:
        return await _vanished(given, known, job, error)
    raise FilesMissing(job_id)


def _partial_key(job: OrchestratorJob) -> str:
    """Return the key of the latest snapshot; raises NoSuchObject when the job can have none."""
    try:
        return partial_key(job.folder, job.status.attempt)
    except ValueError as error:
        raise errors.NoSuchObject(str(error)) from error


async def _want(given: Context, job: OrchestratorJob) -> None:
    """Have a job whose snapshots are taken on request take one, for the next time."""
    status, moment = job.status, now()
    asked = seconds_of(moment) - seconds_of(status.snapshot_wanted_at) < WANTED_EVERY_SECONDS
    if status.phase is Phase.RUNNING and status.snapshots == "OnRequest" and not asked:
        with suppress(errors.ClusterError):
            await given.cluster.want_snapshot(job.metadata.name, moment)


async def _latest(serve: Callable[..., Awaitable[Response]], key: str) -> Response:
    """Serve an object that may be replaced by a newer one just between two looks at it."""
    for _ in range(3):
        with suppress(errors.Replaced):
            return await serve(key=key)
    return await serve(key=key)


@router.post("/terminate/{job_id}", responses=refusals(*OF_A_JOB, AlreadyOver))
async def terminate(job_id: JobId, given: Given, known: Known) -> JobAnswer:
    """Stop a job, wherever it is."""
    job = await find_job(given, known, job_id)
    # To ask again changes nothing, so it costs nothing.
    if job.status.phase in LIVE and not job.spec.terminate:
        try:
            job = await given.cluster.terminate(job.metadata.name)
        except errors.NotFound as error:
            raise JobNotFound(job_id) from error
        given.jobs.learn(job)
    if job.status.phase not in LIVE:
        raise AlreadyOver(f"Job {job_id} is over already: {job.status.phase}")
    return JobAnswer(id=job_id, status="Unknown", message="job terminated")
