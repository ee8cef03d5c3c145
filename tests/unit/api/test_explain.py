"""GET /v1/jobs/{id}/explain, with and without an operator that answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from orchestrator_api.app import create_app
from orchestrator_api.operator import Operator
from tests.support.builders import job_body
from tests.support.loopback import listening
from tests.support.system import System, client

ANSWER = {
    "asOf": "2026-11-25T10:00:00Z",
    "position": 3,
    "waiting": 7,
    "blockers": [{"code": "UserLimit", "message": "Quota default lets…", "limit": 5, "used": 5}],
    "remedies": [{"message": "It starts when one of this user's running jobs ends.", "ends": 1}],
    "expectedStart": {"earliest": "2026-11-25T10:01:00Z", "latest": "2026-11-25T10:09:00Z"},
}
Serve = Callable[[Any], Any]


@pytest.fixture
async def serve(system: System) -> AsyncIterator[Serve]:
    """Give *system* an operator at the wire that answers what the test says."""
    async with AsyncExitStack() as servers:

        async def start(handler: Any) -> None:
            app = web.Application()
            app.add_routes([web.get("/explain/{name}", handler)])
            host, port = (await servers.enter_async_context(listening(app))).split(":")
            context = replace(system.context, operator=Operator(host, int(port)))
            await system.rest.aclose()
            system.rest = client(create_app(context))

        yield start


async def settled(system: System, name: str, **status: Any) -> None:
    system.kube.put("orchestratorjobs", job_body(name, **status))
    while name not in system.context.jobs.live.items:
        await asyncio.sleep(0.005)


async def test_a_waiting_job_is_explained_as_the_operator_does(
    system: System, serve: Serve
) -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.match_info["name"])
        return web.json_response(ANSWER)

    await serve(handler)
    await settled(system, "job-5")
    answer = await system.rest.get("/v1/jobs/5/explain")
    assert answer.status_code == 200
    assert asked == ["job-5"]
    told = answer.json()
    assert (told["id"], told["status"], told["complete"]) == (5, "Queued", True)
    assert (told["reason"], told["message"]) == ("UserLimit", "Quota default lets…")
    assert (told["position"], told["waiting"]) == (3, 7)
    assert told["blockers"][0] | {"code": "UserLimit", "limit": 5} == told["blockers"][0]
    assert told["remedies"][0]["ends"] == 1
    assert told["expectedStart"] == ANSWER["expectedStart"]


async def test_without_an_operator_the_status_tells_what_it_knows(system: System) -> None:
    await settled(system, "job-5", reason="ServiceLimit", message="Quota default lets 10 jobs run.")
    told = (await system.rest.get("/v1/jobs/5/explain")).json()
    assert told["complete"] is False
    assert (told["reason"], told["message"]) == ("ServiceLimit", "Quota default lets 10 jobs run.")
    assert (told["position"], told["blockers"], told["expectedStart"]) == (None, [], None)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=503),
        web.Response(text="junk"),
        web.json_response({"position": "x"}),
    ],
)
async def test_an_operator_that_makes_no_sense_is_as_good_as_none(
    system: System, serve: Serve, answer: web.Response
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=answer.status, body=answer.body)

    await serve(handler)
    await settled(system, "job-5")
    found = await system.rest.get("/v1/jobs/5/explain")
    assert found.status_code == 200
    assert found.json()["complete"] is False
    assert found.json()["message"] == "The job waits for its turn."


async def test_a_job_that_waits_for_its_next_try_is_told_by_its_status(
    system: System, serve: Serve
) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPNotFound

    await serve(handler)
    await settled(system, "job-5", reason="NodeLost", message="It is tried again at 10:00.")
    told = (await system.rest.get("/v1/jobs/5/explain")).json()
    assert (told["complete"], told["reason"]) == (True, "NodeLost")
    assert told["message"] == "It is tried again at 10:00."


async def test_a_job_that_runs_is_not_asked_about(system: System, serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise AssertionError

    await serve(handler)
    await settled(system, "job-5", phase="Running")
    told = (await system.rest.get("/v1/jobs/5/explain")).json()
    assert (told["status"], told["complete"]) == ("Running", True)
    assert told["message"] == "The job is running."


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/v1/jobs/77/explain", 404, "Job 77 not found in the database"),
        ("/v1/jobs/0/explain", 400, "Invalid id, should be a positive number"),
        ("/v1/jobs/x/explain", 400, "Invalid id, should be a positive number"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
async def test_errors_under_v1_are_problem_documents(
    system: System, path: str, status: int, detail: str
) -> None:
    answer = await system.rest.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found" if status == 404 else "Bad Request",
        "status": status,
        "detail": detail,
        "instance": path,
    }


async def test_a_method_that_is_not_there_is_a_problem_too(system: System) -> None:
    answer = await system.rest.post("/v1/jobs/1/explain")
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
