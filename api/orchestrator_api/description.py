"""What the API's description (OpenAPI) says of answers, drawn from the errors themselves."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from orchestrator_api.errors import (
    ApiError,
    BadNumber,
    JobNotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from orchestrator_api.files import ZIP
from orchestrator_api.problems import MEDIA_TYPE, Problem
from orchestrator_api.schemas import JobAnswer, Refusal

Responses = dict[int | str, dict[str, Any]]

# What may come of every route that asks who calls, and of every one about a job.
ASKED: tuple[type[ApiError], ...] = (Unauthorized, TooManyRequests, Unavailable)
OF_A_JOB = (*ASKED, BadNumber, JobNotFound)
_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Accept-Ranges": ("bytes: one range of it can be asked for.", _TEXT),
    "Content-Disposition": ("That it is to be saved, and as what.", _TEXT),
    "Content-Range": ("Which bytes these are, of how many.", _TEXT),
    "ETag": ("The version of the file, for If-Range.", _TEXT),
    "Retry-After": ("After how many seconds to try again.", _NUMBER),
    "WWW-Authenticate": ("How to say who calls (RFC 6750).", _TEXT),
    "Warning": ("What an administrator should know (RFC 7234, 5.5).", _TEXT),
}


def headers(*names: str, always: bool = True) -> dict[str, Any]:
    """Return the description of response headers; *always* says whether each is there."""
    return {
        name: {"description": text, "schema": schema} | ({"required": True} if always else {})
        for name, (text, schema) in _HEADERS.items()
        if name in names
    }


def refusals(*kinds: type[ApiError], body: type[BaseModel] = Refusal) -> Responses:
    """Return the answers that errors of these *kinds* become, by status, each with its *body*."""
    found: Responses = {}
    for kind in sorted(set(kinds), key=lambda kind: (kind.status, kind.__name__)):
        entry = found.setdefault(kind.status, {"model": body, "description": ""})
        entry["description"] = f"{entry['description']} {kind.__doc__ or ''}".strip()
        if kind.headers:
            entry["headers"] = entry.get("headers", {}) | headers(*kind.headers)
    return found


_BINARY = {ZIP: {"schema": {"type": "string", "format": "binary"}}}
_FILE = ("Accept-Ranges", "Content-Disposition", "ETag")
ZIPS: Responses = {
    200: {
        "model": JobAnswer,
        "content": _BINARY,
        "description": "The zip; or, as JSON, how the job is doing while there is none.",
        "headers": headers(*_FILE, always=False),
    },
    206: {
        "content": _BINARY,
        "description": "The range of the zip that was asked for.",
        "headers": headers(*_FILE, "Content-Range"),
    },
}


class Described(FastAPI):
    """An application whose description says what is answered, and nothing that never is."""

    # Whether nobody is asked who they are.
    open = False

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        if self.openapi_schema:
            return self.openapi_schema
        schema = super().openapi()
        for operations in schema["paths"].values():
            for verb, operation in operations.items():
                answers = operation["responses"]
                if self.open:
                    operation.pop("security", None)
                # FastAPI's own answer to a wrong parameter, in whose place there is BadNumber.
                answers.pop("422", None)
                for answer in answers.values():
                    _adapt(answer, bare=verb == "head")
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema


def _adapt(answer: dict[str, Any], *, bare: bool) -> None:
    """Say what FastAPI cannot: a problem has a media type of its own, a HEAD has no body."""
    if bare:
        answer.pop("content", None)
        return
    content = answer.get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    if reference.endswith(f"/{Problem.__name__}"):
        content[MEDIA_TYPE] = content.pop("application/json")
