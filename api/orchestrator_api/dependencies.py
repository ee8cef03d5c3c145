"""What a request is given: the clients and caches that live as long as the process."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from orchestrator_api.cache import Jobs, Services
from orchestrator_api.cluster import Cluster
from orchestrator_api.operator import Operator
from orchestrator_api.submit import Submissions
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
