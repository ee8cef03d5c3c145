"""The gateway: the one place that a job's pod may reach, on a port of its own.

Pods never see the object store and hold no key; they prove who they are with the token that the
kubelet gave to their agent.
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect

from orchestrator_api.attempts import Attempts, NotYours
from orchestrator_api.bundle import of_script
from orchestrator_api.canary import Canary
from orchestrator_api.errors import TooLarge, TooManyRequests, TooSlow
from orchestrator_api.files import ZIP, closing
from orchestrator_api.identity.keyset import BadToken
from orchestrator_api.identity.rates import Most, Rates
from orchestrator_api.pacing import paced
from orchestrator_api.places import Places
from orchestrator_api.tokens import Caller, Tokens
from orchestrator_crds.names import partial_key, results_key
from orchestrator_crds.outcome import Report
from orchestrator_wire import errors as wire
from orchestrator_wire.events import Pace
from orchestrator_wire.uploads import Upload

log = logging.getLogger(__name__)
router = APIRouter()
LONGEST_REPORT = 64 * 1024
PROGRESS_PER_SECOND = 5.0
# What one pod may ask for, and tell of its progress; an honest agent does a tenth of it.
REQUESTS = Most(requests_per_second=5, burst=60)
PROGRESS = Most(requests_per_second=0.5, burst=5)
# Each of these has a part of 5 MiB in memory; one user's jobs get half of them.
RESULTS_AT_ONCE, SNAPSHOTS_AT_ONCE = 6, 4


class EndOfAttempt(Report):
    """The agent's last word: how it ended, and the receipt for the results."""

    results: dict[str, Any] | None = None


class Said(BaseModel):
    """What run.sh says about its progress."""

    text: str = Field(max_length=4096)


async def _caller(request: Request, authorization: Annotated[str, Header()] = "") -> Caller:
    tokens: Tokens = request.app.state.tokens
    caller = await tokens.verify(authorization)
    request.app.state.requests.count(caller.uid)
    return caller


async def _attempts(request: Request) -> Attempts:
    found: Attempts = request.app.state.attempts
    return found


async def _hold(request: Request) -> AsyncIterator[Callable[[str], None]]:
    with ExitStack() as held:
        yield lambda what: held.enter_context(_alone(request.app.state.under_way, what))


Who = Annotated[Caller, Depends(_caller)]
# Called with the name of a transfer, it keeps a second of that name away until the answer is sent.
Hold = Annotated[Callable[[str], None], Depends(_hold)]
Allowed = Annotated[Attempts, Depends(_attempts)]


@router.post("/start")
async def start(caller: Who, attempts: Allowed) -> dict[str, Any]:
    """Be the pod that runs this attempt; tells what the inputs are."""
    job = await attempts.start(caller)
    log.info("%s starts on %s.", caller.pod, caller.node)
    if job.spec.inputs is not None:
        return {"sizeBytes": job.spec.inputs.size_bytes, "sha256": job.spec.inputs.sha256}
    bundle = of_script(job.spec.script or "")
    return {"sizeBytes": len(bundle), "sha256": hashlib.sha256(bundle).hexdigest()}


@router.get("/inputs")
async def inputs(caller: Who, attempts: Allowed, hold: Hold) -> Response:
    """Get the input bundle."""
    job = await attempts.current(caller)
    hold(f"{caller.uid} inputs")
    if job.spec.inputs is None:
        return Response(of_script(job.spec.script or ""), media_type=ZIP)
    head, pieces = await attempts.store.read(job.spec.inputs.key, etag=job.spec.inputs.etag)
    headers = {"Content-Length": head.headers["Content-Length"]}
    return StreamingResponse(closing(pieces), headers=headers, media_type=ZIP)


@router.post("/progress", status_code=204)
async def progress(caller: Who, attempts: Allowed, request: Request) -> None:
    """Tell how far run.sh is."""
    pace: Pace = request.app.state.pace
    request.app.state.progress.count(caller.uid)
    said = Said.model_validate_json(await _small(request))
    job = await attempts.current(caller)
    # A write for each of many jobs would be felt by all; the agent asks again.
    if not pace.spend():
        raise TooManyRequests("Too much progress at once; tell again later.")
    await attempts.progress(job, said.text)


@router.post("/snapshots-on-request", status_code=204)
async def snapshots_on_request(caller: Who, attempts: Allowed) -> None:
    """Tell that the working directory is too large to be saved unasked."""
    await attempts.on_request(caller)


@router.get("/snapshot-wanted")
async def snapshot_wanted(caller: Who, attempts: Allowed) -> dict[str, str]:
    """Ask when somebody last asked for partial results."""
    return {"at": attempts.wanted(caller)}


@router.put("/snapshot")
async def snapshot(caller: Who, attempts: Allowed, request: Request) -> dict[str, Any]:
    """Store the working directory as it is now."""
    return await _store(caller, attempts, request, partial_key, request.app.state.snapshot_places)


@router.put("/results")
async def results(caller: Who, attempts: Allowed, request: Request) -> dict[str, Any]:
    """Store the working directory as run.sh left it; the answer is the receipt for `/end`."""
    return await _store(caller, attempts, request, results_key, request.app.state.result_places)


async def _store(
    caller: Caller,
    attempts: Attempts,
    request: Request,
    key_of: Callable[[str, int], str],
    places: Places,
) -> dict[str, Any]:
    job = await attempts.current(caller)
    key = key_of(job.folder, job.status.attempt)
    service = attempts.services.find(job.spec.service)
    limit = service.spec.results.max_bytes if service else None
    # An agent may be slow, but one that is gone must not be waited for.
    body = paced(request.stream(), drips=True)
    with _alone(request.app.state.under_way, key):
        async with attempts.store.upload(key, places.of(job.spec.user_id)) as upload:
            await _receive(upload, body, limit)
            # Nothing is written any more once the attempt has ended meanwhile.
            await attempts.current(caller)
            stored = await upload.finish()
    return {"sizeBytes": stored.size_bytes, "sha256": stored.sha256, "etag": stored.etag}


@contextmanager
def _alone(under_way: set[str], what: str) -> Iterator[None]:
    """Keep a pod from taking more than one of the places that are there for all."""
    if what in under_way:
        raise TooManyRequests("This is under way already; try again once that is over.")
    under_way.add(what)
    try:
        yield
    finally:
        under_way.remove(what)


async def _receive(upload: Upload, body: AsyncIterator[bytes], limit: int | None) -> None:
    async for data in body:
        await upload.write(data)
        if limit is not None and upload.size_bytes > limit:
            raise TooLarge(f"The zip is larger than {limit} bytes, the service's limit.")


@router.post("/end")
async def end(caller: Who, attempts: Allowed, request: Request) -> dict[str, Any]:
    """Tell how the attempt ended."""
    # Read here and not by the framework, which would read any length of it before the token.
    report = EndOfAttempt.model_validate_json(await _small(request))
    job = await attempts.end(caller, report, report.results)
    log.info("%s ended: %s %s.", caller.pod, job.status.phase, job.status.reason)
    return {"phase": str(job.status.phase)}


async def _small(request: Request) -> bytes:
    body = bytearray()
    async for data in paced(request.stream()):
        body += data
        if len(body) > LONGEST_REPORT:
            raise TooLarge(f"A report has at most {LONGEST_REPORT} bytes.")
    return bytes(body)


@router.get("/canary")
async def canary(request: Request) -> dict[str, Any]:
    """Tell where this replica's canary is and whether it listens."""
    bird: Canary = request.app.state.canary
    host = (request.scope.get("server") or ("",))[0]
    return {"host": host, "port": bird.port, "listening": await bird.listening()}


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer: the process lives."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Answer 200 once the caches are filled."""
    ready = request.app.state.ready()
    return JSONResponse({"ready": ready}, status_code=200 if ready else 503)


def _failure(status: int) -> Any:
    async def handler(_: Request, error: Exception) -> JSONResponse:
        # Whoever has no token gets no more of its words read.
        headers = {"Connection": "close"} if status == 401 else {}
        return JSONResponse({"message": str(error)}, status_code=status, headers=headers)

    return handler


def create_gateway(
    tokens: Tokens, attempts: Attempts, canary_port: Canary, ready: Callable[[], bool]
) -> FastAPI:
    """Return the gateway's application."""
    app = FastAPI(title="Orchestrator gateway", openapi_url=None)
    app.state.tokens, app.state.attempts = tokens, attempts
    app.state.canary, app.state.ready = canary_port, ready
    app.state.pace = Pace(PROGRESS_PER_SECOND)
    app.state.requests, app.state.progress = Rates(REQUESTS), Rates(PROGRESS)
    app.state.result_places = Places(RESULTS_AT_ONCE)
    app.state.snapshot_places = Places(SNAPSHOTS_AT_ONCE)
    app.state.under_way = set()
    app.include_router(router)
    # 409 tells an agent to end; 401 and 503 tell it to try again.
    statuses: dict[type[Exception], int] = {
        NotYours: 409,
        BadToken: 401,
        ValidationError: 422,
        TooLarge: 413,
        TooSlow: 408,
        wire.NoSuchObject: 404,
        wire.Replaced: 410,
        wire.StoreDown: 503,
        wire.ClusterError: 503,
        TooManyRequests: 429,
        # Nobody hears that, but else the log would be told at length.
        ClientDisconnect: 400,
    }
    for kind, status in statuses.items():
        app.add_exception_handler(kind, _failure(status))
    return app
