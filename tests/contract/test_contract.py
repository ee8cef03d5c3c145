"""The contract, sent to a server and compared: ours by default, or another one; see README.md."""

import io
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from local.paths import FRONT

URL = os.environ.get("ORCHESTRATOR_CONTRACT_URL", FRONT)
SERVICE = os.environ.get("ORCHESTRATOR_CONTRACT_SERVICE", "example")
# Only what the old system answers in the same way.
OLD = os.environ.get("ORCHESTRATOR_CONTRACT_OLD") == "1"
PATIENCE_SECONDS = 60.0
CASES = [
    case
    for case in yaml.safe_load((Path(__file__).parent / "contract.yaml").read_text())
    if not (OLD and "better" in case)
]


def filled(value: Any, variables: dict[str, Any]) -> Any:
    """Return *value* with {name} replaced; a text that is one variable becomes its value."""
    if isinstance(value, dict):
        return {key: filled(inner, variables) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    for name, known in variables.items():
        if value == f"{{{name}}}":
            return known
        value = value.replace(f"{{{name}}}", str(known))
    return value


def same(expected: Any, found: Any) -> bool:
    if expected == "<int>":
        return isinstance(found, int) and not isinstance(found, bool) and found > 0
    if isinstance(expected, str) and re.fullmatch(r"~.*~", expected):
        return isinstance(found, str) and bool(re.fullmatch(expected[1:-1], found, re.DOTALL))
    return bool(expected == found)


def differences(expected: dict[str, Any], answer: httpx2.Response, *, whole: bool) -> list[str]:
    """Return what in *answer* is not as expected; *whole* says that no more may be in its JSON."""
    found = []
    if answer.status_code != expected.get("status", answer.status_code):
        found.append(f"status {answer.status_code}, not {expected['status']}: {answer.text[:300]}")
    for name, value in expected.get("headers", {}).items():
        if not same(value, answer.headers.get(name)):
            found.append(f"{name}: {answer.headers.get(name)}, not {value}")
    wanted = expected.get("json")
    if wanted is not None:
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        body = answer.json() if is_json else {}
        if whole and set(body) != set(wanted):
            found.append(f"fields {sorted(body)}, not {sorted(wanted)}")
        found += [
            f"{key}: {body.get(key)!r}, not {value!r}"
            for key, value in wanted.items()
            if not same(value, body.get(key))
        ]
    for name, text in expected.get("zip", {}).items():
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            inside = archive.read(name).decode() if name in archive.namelist() else None
            if inside != text:
                found.append(f"{name} in the zip: {inside!r}, not {text!r}")
    return found


def send(step: dict[str, Any]) -> httpx2.Response:
    method, path = step["send"].split(" ", 1)
    body: dict[str, Any] = {}
    if "body" in step:
        body["content"] = step["body"].encode()
    elif "fields" in step:
        files = [("file", (name, text.encode())) for name, text in step.get("files", {}).items()]
        # Without a file, httpx would send another kind of form.
        fields = [(name, (None, value)) for name, value in step["fields"].items()]
        body["files"] = [*fields, *files]
    headers = {**(step["headers"] if "body" in step else {}), **step.get("headers_sent", {})}
    return httpx2.request(method, URL + path, headers=headers, timeout=60, **body)


def play(step: dict[str, Any], variables: dict[str, Any]) -> None:
    step = filled(step, variables)
    expected = dict(step)
    if "body" in step:
        expected.pop("headers", None)  # those are sent
    deadline = time.monotonic() + PATIENCE_SECONDS
    answer = send(step)
    while "until" in step and (left := differences(step["until"], answer, whole=False)):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
        answer = send(step)
    assert differences(expected, answer, whole=True) == []
    for name, key in step.get("save", {}).items():
        variables[name] = answer.json()[key]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_contract_holds(case: dict[str, Any]) -> None:
    number = CASES.index(case)
    variables = {"service": SERVICE, "SERVICE": SERVICE.upper(), "user": str(700_000 + number)}
    for step in case["steps"]:
        play(step, variables)
