"""What a request is given: the clients and caches that live as long as the process."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from orchestrator_api.cache import Jobs, Services
from orchestrator_api.cluster import Cluster
from orchestrator_api.errors import JobNotFound
from orchestrator_api.identity.door import Door
from orchestrator_api.identity.principals import Principal
from orchestrator_api.operator import Operator
from orchestrator_api.submit import Submissions
from orchestrator_api.wellness import Wellness
from orchestrator_crds import OrchestratorJob
from orchestrator_wire.s3 import Store


@dataclass(frozen=True)
class Context:
    """Everything that routes use."""

    store: Store
    cluster: Cluster
    jobs: Jobs
    services: Services
    submissions: Submissions
    operator: Operator
    door: Door
    wellness: Wellness
    # What an administrator should know, told beside the answer of /health.
    warnings: list[str] = field(default_factory=list)


async def _context(request: Request) -> Context:
    # Not a plain function: FastAPI would run that in a thread.
    context: Context = request.app.state.context
    return context


Given = Annotated[Context, Depends(_context)]
# Only so that the description tells of it: the door itself reads the header.
_BEARER = HTTPBearer(auto_error=False, description="An API key, or a token of the OIDC issuer.")


async def _principal(request: Request, given: Given) -> Principal:
    known = await given.door.admit(request.headers.get("authorization", ""))
    caller = _caller_of(request, given, known)
    # `unhurried` asks for it, be it that this request is one too many.
    request.state.caller = caller
    given.door.rates.count(known.name)
    given.submissions.turns.saw(caller)
    return known


# Every route that has to do with jobs asks for it, so that no body is read before it is known.
Known = Annotated[Principal, Depends(_principal)]


async def _caller(request: Request, given: Given, known: Known) -> str:
    return _caller_of(request, given, known)


def _caller_of(request: Request, given: Context, known: Principal) -> str:
    return given.door.caller(known, request.client.host if request.client else "")


# Whose share of what is scarce a request takes.
Caller = Annotated[str, Depends(_caller)]


async def _downloading(given: Given, caller: Caller) -> AsyncIterator[Callable[[], None]]:
    with ExitStack() as held:
        yield lambda: held.enter_context(given.door.rates.downloading(caller))


# Called where an answer is a file, it holds one of the caller's places until that has been sent.
Downloading = Annotated[Callable[[], None], Depends(_downloading)]
IDENTIFIED = [Security(_BEARER), Depends(_principal)]
JobId = Annotated[int, Path(ge=1, le=2**31 - 1, description="The number that the upload gave.")]


async def find_job(given: Context, known: Principal, job_id: int) -> OrchestratorJob:
    """Return the job with this number; raises JobNotFound, or ClusterError.

    A job that is none of the caller's business is not found, just as one that is not there.
    """

    def may(job: OrchestratorJob) -> bool:
        return known.may(job.spec.user_id, job.spec.service)

    job = given.jobs.known(job_id)
    if job is None or not may(job):
        async with given.door.looking(known):
            job = await given.jobs.find(job_id, may)
    if job is None:
        raise JobNotFound(job_id)
    return job
