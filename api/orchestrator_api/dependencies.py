"""What a request is given: the clients and caches that live as long as the process."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from orchestrator_api.cache import Jobs, Services
from orchestrator_api.cluster import Cluster
from orchestrator_api.errors import JobNotFound
from orchestrator_api.operator import Operator
from orchestrator_api.submit import Submissions
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


async def _context(request: Request) -> Context:
    # Not a plain function: FastAPI would run that in a thread.
    context: Context = request.app.state.context
    return context


Given = Annotated[Context, Depends(_context)]
JobId = Annotated[int, Path(ge=1, le=2**31 - 1, description="The number that the upload gave.")]


async def find_job(given: Context, job_id: int) -> OrchestratorJob:
    """Return the job with this number; raises JobNotFound, or ClusterError."""
    job = await given.jobs.find(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job
