"""Schemathesis against the whole API, really served: no answer that is not described.

Its cases are drawn from the description: every boundary of every parameter, random ones, right and
wrong, and sequences of calls. What is checked: no server error, status, media type, headers and body
as described, wrong requests refused, right ones taken, no route open to who has no key.
"""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from zlib import crc32

import pytest
import schemathesis
import yaml
from aiohttp import web
from schemathesis.engine import events, from_schema
from schemathesis.transport.requests import REQUESTS_TRANSPORT, multipart_serializer

from orchestrator_api.identity.api_keys import hashed
from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_api.identity.rates import Most
from orchestrator_api.ids import LARGEST
from tests.fuzz.dose import SEED, TIMES, TRIED
from tests.fuzz.served import JOBS, SERVICE, Served, served
from tests.support.described import description
from tests.support.system import HOSTS

CASES = 40
MOST_TOLD, LONGEST_SAMPLE = 12, 900
KEY = "orc_admin"
# Of right requests, too: that a job is gone, or that a range lies outside, no description can know.
TAKEN = ["2xx", "401", "403", "404", "409", "410", "416", "429"]
RANGES = ("bytes=0-1", "bytes=-3", "bytes=5-", "bytes=9-", "bytes=0-1,3-4", "lines=1")
# Every so many requests to Kubernetes or to the store fails, where failures are wanted.
FAILS_EVERY = 7


@REQUESTS_TRANSPORT.serializer("multipart/form-data")
def _form(ctx: schemathesis.SerializationContext, value: Any) -> dict[str, Any]:
    """Send each file by a name of its own, as a person would."""
    found: dict[str, Any] = multipart_serializer(ctx, value)
    files = found.get("files") or []
    found["files"] = [
        (field, (f"{number}-{field}", part[1] if isinstance(part, tuple) else part))
        if field == "file"
        else (field, part)
        for number, (field, part) in enumerate(files)
    ] or None
    return found


def _real(_: schemathesis.HookContext, case: Any) -> Any:
    """Have right requests be about what there is: one of the jobs, the service, a host."""
    if not case.meta or not case.meta.generation.mode.is_positive:
        return case
    number = (case.path_parameters or {}).get("job_id")
    if isinstance(number, int):
        case.path_parameters["job_id"] = number % JOBS + 1
        # By the number, since few cases have a range of their own: some runs met none of each kind.
        wanted = crc32(str(number).encode()) % (len(RANGES) + 1)
        if "/download" in case.operation.label and wanted < len(RANGES):
            case.headers = {**(case.headers or {}), "Range": RANGES[wanted]}
    if isinstance(case.body, dict):
        case.body["service"] = SERVICE
        if "callback_url" in case.body:
            case.body["callback_url"] = f"https://{HOSTS[0]}/"
    return case


def _described(found: Served) -> dict[str, Any]:
    with urlopen(f"{found.url}/api-docs/openapi.json") as answer:
        described: dict[str, Any] = json.load(answer)
    return described


def _checked(
    found: Served, described: dict[str, Any], key: str, taken: list[str]
) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Return how often each operation was answered with each status, and what was wrong."""
    config = {
        "base-url": found.url,
        "seed": SEED,
        "continue-on-failure": True,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "generation": {"max-examples": CASES * TIMES, "database": "none"},
        "checks": {
            "not_a_server_error": {"expected-statuses": [*taken, "4xx"]},
            "positive_data_acceptance": {"expected-statuses": taken},
        },
    }
    settings = schemathesis.Config.from_dict(config)
    schema = schemathesis.openapi.from_dict(described, config=settings)
    schema.hooks.register_hook_with_name(_real, "map_case")
    answers: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            cases = event.recorder.cases
            answers.update(
                (cases[number].value.operation.label, met.response.status_code)
                for number, met in event.recorder.interactions.items()
                if met.response is not None
            )
            wrong += [
                f"{node.name}: {node.failure_info.failure.message}\n"
                f"{node.failure_info.code_sample[:LONGEST_SAMPLE]}"
                for nodes in event.recorder.checks.values()
                for node in nodes
                if node.failure_info is not None
            ]
        elif isinstance(event, events.NonFatalError):
            wrong.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return answers, wrong


def _verdict(what: str, answers: Counter[tuple[str, int]], wrong: list[str], met: set[int]) -> None:
    TRIED[f"requests, {what}"] = answers.total()
    assert not wrong, f"{len(wrong)} findings\n\n" + "\n\n".join(wrong[:MOST_TOLD])
    every = {
        f"{verb.upper()} {path}" for path, verbs in description()["paths"].items() for verb in verbs
    }
    assert {operation for operation, _ in answers} == every
    assert met <= {status for _, status in answers}, answers


@pytest.mark.timeout(600 * TIMES)
def test_where_nobody_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Door(IdentitySettings())) as found:
        answers, wrong = _checked(found, _described(found), "", TAKEN)
    _verdict("identity none", answers, wrong, {200, 201, 206, 400, 404, 409, 410, 416})


@pytest.mark.timeout(600 * TIMES)
def test_with_keys_while_kubernetes_and_the_store_fail_now_and_then(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"a": {"sha256": [hashed(KEY)], "role": "administrator"}}))
    limits = Most(requests_per_second=0)
    with served(Door(IdentitySettings(api_keys_file=str(file), limits=limits))) as found:
        turn = itertools.count(1)
        found.s3.down_for = lambda _: next(turn) % FAILS_EVERY == 0
        answers, wrong = _checked(found, _described(found), KEY, [*TAKEN, "503"])
    _verdict("API keys and failures", answers, wrong, {200, 201, 206, 400, 401, 404, 503})


def test_what_is_not_described_is_found() -> None:
    """The counter-proof: an answer that nobody told of, a wrong body, a mistake of ours."""
    with served(Door(IdentitySettings())) as found:
        described = _described(found)
        path = "/v1/jobs/{job_id}/explain"
        operation = described["paths"][path]["get"]
        described["paths"] = {path: described["paths"][path]}
        del operation["responses"]["404"]
        described["components"]["schemas"]["JobExplanation"]["required"].append("secret")
        broken = web.json_response({"metadata": {"name": 5}})
        found.kube.before = lambda _, path: broken if path.endswith(f"/job-{LARGEST}") else None
        _, wrong = _checked(found, described, "", TAKEN)
    kinds = {line.split(":")[0] for line in wrong}
    assert {"status_code_conformance", "response_schema_conformance", "not_a_server_error"} <= kinds
