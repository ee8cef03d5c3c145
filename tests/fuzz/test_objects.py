"""What lies in Kubernetes and in the store, of any content: it never becomes a mistake of the API."""

import itertools
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from local.generate import schema_of
from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_crds import OrchestratorJob
from tests.fuzz.dose import TRIED, fuzzed
from tests.fuzz.resources import JUNK, REPORTS, spoilt, valid
from tests.fuzz.served import DATA, Served, served
from tests.support.builders import job_body
from tests.support.described import undescribed

NUMBERS = itertools.count(1000)
WAYS = [
    ("GET", "/download/{}"),
    ("GET", "/download_partial/{}"),
    ("GET", "/v1/jobs/{}/explain"),
    ("POST", "/terminate/{}"),
]
STATUS = Draft202012Validator(schema_of(OrchestratorJob)["properties"]["status"])
# Set once the API is served; hypothesis' tests take no fixtures of their own.
HERE: dict[str, Any] = {}


@pytest.fixture(autouse=True, scope="module")
def here() -> Iterator[None]:
    with served(Door(IdentitySettings())) as found, httpx2.Client(base_url=found.url) as client:
        HERE.update(served=found, client=client)
        yield


def _stored(body: Any) -> list[Any]:
    """Return what a job says of files that it has in the store."""
    spec, status = body["spec"], body.get("status") or {}
    return [part for part in (spec.get("inputs"), status.get("results")) if part]


def _ask(number: int, body: Any) -> None:
    for verb, path in WAYS:
        try:
            answer = HERE["client"].request(verb, path.format(number))
        except httpx2.RemoteProtocolError:
            # Of files that are not what was recorded, the last piece is kept back.
            assert path.startswith("/download")
            sums = {str(part.get("sha256")) for part in _stored(body)}
            assert sums - {sha256(DATA).hexdigest()}
            TRIED["broken off"] += 1
            continue
        TRIED[f"answered {answer.status_code}"] += 1
        assert answer.status_code != 500, path
        assert undescribed(answer) == []


@fuzzed(120, body=valid(OrchestratorJob))
def test_any_job_that_the_api_server_lets_in_is_answered(body: dict[str, Any]) -> None:
    found: Served = HERE["served"]
    number = next(NUMBERS)
    body["metadata"]["name"] = f"job-{number}"
    body["spec"]["id"] = number
    body.setdefault("status", OrchestratorJob.status_default)
    found.loop.call_soon_threadsafe(found.kube.put, "orchestratorjobs", body)
    _ask(number, body)


@fuzzed(120, record=st.one_of(valid(OrchestratorJob), spoilt(OrchestratorJob), JUNK))
def test_any_record_is_answered(record: Any) -> None:
    number = next(NUMBERS)
    if isinstance(record, dict) and isinstance(record.get("spec"), dict):
        record["spec"]["id"] = number
    HERE["served"].s3.objects[f"records/{number}.json"] = json.dumps(record).encode()
    _ask(number, record)


@fuzzed(200, report=REPORTS)
def test_any_report_of_an_agent_is_taken_or_refused(report: bytes) -> None:
    """What is taken is written as the API server would let it in."""
    found: Served = HERE["served"]
    name = f"job-{next(NUMBERS)}"
    pod = {"name": f"{name}-1", "uid": f"uid-of-{name}", "node": "node-1"}
    body = job_body(name, phase="Running", attempt=1, claim={"epoch": 1, "pool": "cpu"}, pod=pod)
    found.loop.call_soon_threadsafe(found.kube.put, "orchestratorjobs", body)
    answer = found.tell_gateway("/end", report, f"{name}-1/uid-of-{name}")
    TRIED[f"/end answered {answer.status_code}"] += 1
    assert answer.status_code in {200, 422, 503}, answer.text
    problems = STATUS.iter_errors(found.kube.get("orchestratorjobs", name)["status"])
    assert [problem.message[:200] for problem in problems] == []
