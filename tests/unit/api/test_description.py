"""The description of the API: every error is told of, and an answer that is not is found."""

from typing import Any

import httpx2
import pytest

from orchestrator_api import errors
from tests.support.described import description, undescribed
from tests.support.system import System


def kinds(of: type[errors.ApiError] = errors.ApiError) -> list[type[errors.ApiError]]:
    return [found for kind in of.__subclasses__() for found in (kind, *kinds(kind))]


def test_every_error_is_told_of_somewhere() -> None:
    answers = [
        (status, answer["description"])
        for verbs in description()["paths"].values()
        for operation in verbs.values()
        for status, answer in operation["responses"].items()
    ]
    missing = [
        kind.__name__
        for kind in kinds()
        if not any(s == str(kind.status) and (kind.__doc__ or "-") in text for s, text in answers)
    ]
    assert not missing


def _answer(**change: Any) -> httpx2.Response:
    given: dict[str, Any] = {
        "status_code": 404,
        "json": {"id": 0, "status": "Unknown", "message": "no"},
    }
    request = httpx2.Request("GET", "http://test/download/1")
    return httpx2.Response(request=request, **(given | change))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"status_code": 418}, "418 is not described"),
        ({"status_code": 429}, "429 without Retry-After"),
        ({"json": None, "text": "no"}, "as 'text/plain' is not described"),
        ({"json": {"id": 0, "status": "Unknown"}}, "'message' is a required property"),
        ({"json": {"id": 7, "status": "Unknown", "message": ""}}, "0 was expected"),
    ],
)
def test_an_answer_that_is_not_described_is_found(change: dict[str, Any], problem: str) -> None:
    found = undescribed(_answer(**change))
    assert any(problem in line for line in found) if problem else found == []


def test_a_route_that_is_not_described_is_found() -> None:
    request = httpx2.Request("DELETE", "http://test/download/1")
    assert undescribed(httpx2.Response(200, request=request)) != []


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [
        ("DELETE", "/download/1", "GET, HEAD"),
        ("GET", "/upload", "POST"),
        ("PUT", "/v1/jobs/1/explain", "GET"),
        ("POST", "/swagger/", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    system: System, verb: str, path: str, allow: str
) -> None:
    """It came without the header Allow, which RFC 9110 (15.5.6) asks for."""
    answer = await system.rest.request(verb, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
