"""Problem details for HTTP APIs (RFC 9457), in which everything under /v1 tells its errors."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"
PREFIX = "/v1/"


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field(default="about:blank", description="Always about:blank: see `status`.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, to what, and what to do.")
    instance: str = Field(description="The path that was asked for.")


def problem(
    status: int, message: str, path: str, headers: Mapping[str, str] | None
) -> JSONResponse:
    """Return an error as a problem document."""
    found = Problem(title=HTTPStatus(status).phrase, status=status, detail=message, instance=path)
    return JSONResponse(
        found.model_dump(), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )
