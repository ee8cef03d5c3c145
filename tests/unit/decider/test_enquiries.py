"""The desk where the API asks why a job waits."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator_operator import enquiries
from orchestrator_operator.enquiries import Enquiries
from tests.support.builders import quota_body
from tests.unit.decider.conftest import Operator

Desk = TestClient[Any, Any]


@pytest.fixture
async def desk(operator: Operator) -> AsyncIterator[Desk]:
    asked = Enquiries()
    asked.open(operator.decider)
    async with TestClient(TestServer(asked.app())) as client:
        yield client


async def wait_in_line(operator: Operator, *names: str) -> None:
    """Have jobs wait for a quota that lets none run."""
    full = quota_body(maxRunning=0)
    operator.state.put("orchestratorquotas", full | {"status": {"inForce": full["spec"]}})
    mirror = operator.decider.mirror
    await operator.until(lambda: mirror.quotas["default"].spec.max_running == 0)
    for name in names:
        operator.submit(name)
    await operator.until(lambda: all(name in mirror.backlog for name in names))


async def test_a_waiting_job_is_explained(operator: Operator, desk: Desk) -> None:
    await wait_in_line(operator, "job-1")
    answer = await desk.get("/explain/job-1")
    assert answer.status == 200
    told = await answer.json()
    assert (told["position"], told["waiting"]) == (1, 1)
    assert [blocker["code"] for blocker in told["blockers"]] == ["ServiceLimit"]
    [remedy] = told["remedies"]
    assert remedy["changes"][0]["field"] == "spec.maxRunning"
    assert (remedy["changes"][0]["before"], remedy["changes"][0]["after"]) == (0, 1)


async def test_a_job_that_does_not_wait_is_not_found(desk: Desk) -> None:
    assert (await desk.get("/explain/job-9")).status == 404


async def test_an_operator_that_does_not_lead_says_so() -> None:
    async with TestClient(TestServer(Enquiries().app())) as client:
        answer = await client.get("/explain/job-1")
        assert answer.status == 503
        assert "does not lead" in await answer.text()


async def test_what_was_just_answered_is_not_worked_out_again(
    operator: Operator, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_in_line(operator, "job-1")
    calls = []

    def slow(*given: Any) -> None:
        calls.append(given)

    monkeypatch.setattr(enquiries, "explain", slow)
    answers = await asyncio.gather(*(desk.get("/explain/job-1") for _ in range(5)))
    assert {answer.status for answer in answers} == {404}
    assert len(calls) == 1


async def test_more_than_a_few_at_once_are_sent_away(
    operator: Operator, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"job-{n}" for n in range(1, enquiries.IN_LINE + 4)]
    await wait_in_line(operator, *names)
    go_on = threading.Event()
    monkeypatch.setattr(enquiries, "explain", lambda *_: go_on.wait(5) and None)
    monkeypatch.setattr(enquiries, "REST_PER_ANSWER", 0.0)
    asked = [asyncio.create_task(desk.get(f"/explain/{name}")) for name in names]
    await operator.until(lambda: sum(one.done() for one in asked) == 3)
    go_on.set()
    answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers].count(503) == 3
