"""The public application on port 5000: the old system's REST contract, and /v1 beside it."""

from fastapi import FastAPI

from orchestrator_api import errors
from orchestrator_api.dependencies import Context
from orchestrator_api.description import Described
from orchestrator_api.headers import Headers
from orchestrator_api.routes import health, jobs, v1
from orchestrator_api.unhurried import Unhurried


def create_app(context: Context | None) -> FastAPI:
    """Return the application over what *context* gives its routes; without it, one to describe."""
    app = Described(
        title="Orchestrator",
        summary="Runs uploaded jobs on Kubernetes, fairly and safely.",
        openapi_url="/api-docs/openapi.json",
        # FastAPI's own pages load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # It would name whatever host the request names.
        redirect_slashes=False,
    )
    app.open = context is not None and context.door.open
    app.state.context = context
    app.include_router(jobs.router)
    app.include_router(v1.router)
    app.include_router(health.router)
    errors.install(app)
    app.add_middleware(Headers)
    app.add_middleware(Unhurried, context=context)
    return app
