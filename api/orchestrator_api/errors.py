"""What the API answers when it cannot do what it was asked: every status, header and wording.

The body is the old system's, since portals read it: id 0, status Unknown, and the message. Under
/v1 it is a problem document instead. `description.py` draws the API's description from it.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from orchestrator_api import problems
from orchestrator_api.schemas import Refusal
from orchestrator_wire import errors as wire

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that cannot be served: its HTTP status, headers and a sentence for the caller.

    The docstring of each kind is what the API's description says of it.
    """

    status = 500
    headers: Mapping[str, str] = {}

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(ApiError):  # noqa: N818
    """The request itself is wrong."""

    status = 400


class BadNumber(BadRequest):
    """The job's number is none."""

    def __init__(self) -> None:
        super().__init__("Invalid id, should be a positive number")


class Unauthorized(ApiError):  # noqa: N818
    """It is not known who calls."""

    status = 401
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):  # noqa: N818
    """It is known who calls, and they may not do this."""

    status = 403


class TooManyRequests(ApiError):  # noqa: N818
    """The caller asks for more than its share."""

    status = 429
    headers: Mapping[str, str] = {"Retry-After": "1"}


class JobNotFound(ApiError):  # noqa: N818
    """There is no such job."""

    status = 404

    def __init__(self, job_id: int) -> None:
        super().__init__(f"Job {job_id} not found in the database")


class FilesMissing(ApiError):  # noqa: N818
    """The job's files are not in the store."""

    status = 410

    def __init__(self, job_id: int) -> None:
        super().__init__(f"The files of job {job_id} are not there any more. Submit the job again.")


class FilesReplaced(ApiError):  # noqa: N818
    """What lies in the store is not what the job left there."""

    status = 410

    def __init__(self, job_id: int) -> None:
        super().__init__(
            f"The files of job {job_id} are not those that it left: they were replaced or damaged "
            "since, so they are not handed out. Submit the job again."
        )


class AlreadyOver(ApiError):  # noqa: N818
    """The job has ended, so it cannot be changed."""

    status = 409


class TooLarge(ApiError):  # noqa: N818
    """The upload is larger than the service allows."""

    status = 413


class TooManyWaiting(ApiError):  # noqa: N818
    """The user has as many jobs waiting as quotas let them."""

    status = 429
    headers: Mapping[str, str] = {"Retry-After": "30"}


class TooSlow(ApiError):  # noqa: N818
    """The upload does not get on."""

    status = 408


class RangeNotSatisfiable(ApiError):  # noqa: N818
    """The asked part of a file does not exist."""

    status = 416
    headers: Mapping[str, str] = {"Content-Range": "bytes */0"}

    def __init__(self, asked: str, size: int) -> None:
        super().__init__(f"The file has {size} bytes; {asked} lies outside of it.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class Unavailable(ApiError):  # noqa: N818
    """Kubernetes or the object store cannot serve now; asking again later makes sense."""

    status = 503
    headers: Mapping[str, str] = {"Retry-After": "5"}


def _answer(
    request: Request, status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    # Not `request.url`, which a Host header has a part in.
    path = str(request.scope["path"])
    if path.startswith(problems.PREFIX):
        return problems.problem(status, message, path, headers)
    body = Refusal(message=message).model_dump()
    return JSONResponse(body, status_code=status, headers=headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  (registered for it alone)
    return _answer(request, error.status, error.message, error.headers)


async def _store_error(request: Request, error: Exception) -> Response:
    log.warning("Object store: %s", error)
    found = Unavailable("The file store cannot be reached now; try again later.")
    return await _api_error(request, found)


async def _cluster_error(request: Request, error: Exception) -> Response:
    log.warning("Kubernetes: %s", error)
    found = Unavailable("The job database cannot be reached now; try again later.")
    return await _api_error(request, found)


async def _refused(request: Request, error: Exception) -> Response:
    log.error("Kubernetes refuses a request of ours: %s", error)
    found = Unavailable("Kubernetes refuses this now; the administrator's log tells why.")
    return await _api_error(request, found)


async def _bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return await _api_error(request, BadNumber())


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers |= _allowed(request)
    return _answer(request, error.status_code, str(error.detail), headers)


def _allowed(request: Request) -> dict[str, str]:
    """Return the header that has all methods of a path; Starlette tells those of one route."""
    path = getattr(request.scope.get("route"), "path", "")
    verbs = request.app.openapi()["paths"].get(path, {})
    return {"Allow": ", ".join(verb.upper() for verb in verbs)} if verbs else {}


async def _gone_away(_: Request, _error: Exception) -> Response:
    """Answer, which nobody hears, and tell nobody: every stranger could fill the log with that."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %r", request.method, request.scope["path"], exc_info=error)
    return _answer(
        request, 500, "Something went wrong here that should not; the administrator's log tells."
    )


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    ApiError: _api_error,
    wire.StoreError: _store_error,
    wire.ClusterError: _cluster_error,
    wire.Permanent: _refused,
    RequestValidationError: _bad_parameter,
    HTTPException: _http_error,
    ClientDisconnect: _gone_away,
    Exception: _unexpected,
}


def install(app: FastAPI) -> None:
    """Have *app* answer every error as above."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
