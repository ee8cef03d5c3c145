"""Mass assignment: what an upload may set, and that nothing else of a form reaches the job or its pod."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.paths import ROOT
from orchestrator_crds import OrchestratorJob
from orchestrator_operator.core.podspec import build
from tests.support.builders import a_pool, a_service, submitted
from tests.support.system import System
from tests.unit.core.test_podspec import AROUND

# Form field: where it lands. All else that a job holds is of the API's making.
MAY_SET = {"user_id": "userID", "service": "service", "callback_url": "callbackURL"}
OF_THE_API = {"id", "inputs"}
OF_KUBERNETES = (
    "apiVersion", "kind", "metadata", "spec", "name", "namespace", "labels", "annotations",
    "finalizers", "ownerReferences", "uid", "resourceVersion", "generateName", "managedFields",
    "image", "command", "args", "env", "envFrom", "volumes", "volumeMounts", "nodeName",
    "nodeSelector", "nodePool", "tolerations", "affinity", "hostNetwork", "hostPID", "hostUsers",
    "securityContext", "privileged", "serviceAccountName", "runtimeClassName", "imagePullSecrets",
    "schedulerName", "priorityClassName", "initContainers", "containers", "shareProcessNamespace",
)  # fmt: skip


def fields_of_a_job() -> Iterator[str]:
    """Yield the path of every field that a job's definition has."""
    definition = yaml.safe_load((ROOT / "crds/orchestratorjobs.yaml").read_text())
    [version] = definition["spec"]["versions"]
    yield from _paths("", version["schema"]["openAPIV3Schema"])


def _paths(prefix: str, schema: Any) -> Iterator[str]:
    for name, inner in (schema.get("items") or schema).get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from _paths(f"{prefix}{name}.", inner)


def spellings(path: str) -> Iterator[str]:
    """Yield how a form could name a field that some framework would take for it."""
    parts = path.split(".")
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in parts[-1])
    yield path
    yield parts[-1]
    yield parts[0] + "".join(f"[{part}]" for part in parts[1:])
    yield "/" + "/".join(parts)
    yield snake
    yield snake.replace("_", "-")


VALUES = {
    "priority": "100",
    "terminate": "true",
    "id": "77",
    "phase": "Completed",
    "labels": '{"a": "b"}',
}
NAMES = sorted({s for path in (*fields_of_a_job(), *OF_KUBERNETES) for s in spellings(path)})


async def made(system: System, fields: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    """Upload with more form fields; returns the job's whole object, as the API has sent it."""
    form = [("user_id", "1"), ("service", "example"), *fields]
    lines = [f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in form]
    file = (
        '--x\r\nContent-Disposition: form-data; name="f"; filename="run.sh"\r\n\r\nhi\r\n--x--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x", **more.pop("headers", {})}
    body = "".join([*lines, file]).encode()
    answer = await system.rest.post("/upload", content=body, headers=headers, **more)
    assert answer.status_code == 201, answer.text
    number = answer.json()["id"]
    found: dict[str, Any] = system.kube.objects.pop(("orchestratorjobs", f"job-{number}"))
    assert found["spec"].pop("id") == number
    found["spec"]["inputs"] |= {"key": ""}
    return found


def compared(body: dict[str, Any]) -> dict[str, Any]:
    server = {"uid", "resourceVersion", "generation", "creationTimestamp", "namespace", "name"}
    metadata = {k: v for k, v in body["metadata"].items() if k not in server}
    return {**body, "metadata": metadata}


async def test_no_field_of_a_form_reaches_the_job_but_those_of_the_table(system: System) -> None:
    assert {"spec.priority", "spec.resources.cpu", "status.phase", "status.claim.pool"} < set(NAMES)
    plain = compared(await made(system, []))
    assert set(plain["spec"]) == {"userID", "service", "inputs"}
    for start in range(0, len(NAMES), 90):
        some = [(n, VALUES.get(n.rpartition(".")[2], "1")) for n in NAMES[start : start + 90]]
        assert compared(await made(system, [f for f in some if f[0] not in MAY_SET])) == plain
    # Nor in the address, in a header, or in a file that is called so.
    query = "&".join(f"{name}=1" for name in NAMES)
    assert compared(await made(system, [], params=query[:60_000])) == plain
    headers = {
        f"X-Orchestrator-{name}": "100" for name in ("priority", "userID", "labels", "service")
    }
    assert compared(await made(system, [], headers=headers)) == plain
    # The second of two is not heard, in whatever order another reader would take them.
    twice = [("user_id", "2"), ("service", "docking")]
    assert compared(await made(system, twice)) == plain


async def test_what_the_table_has_does_reach_the_job(system: System) -> None:
    """The counter-proof: the test above would see it."""
    url = "https://portal.example.org/x"
    found = await made(system, [("callback_url", url)])
    spec = {k: v for k, v in found["spec"].items() if k in MAY_SET.values()}
    assert spec == {"userID": "1", "service": "example", "callbackURL": url}
    assert set(found["spec"]) == (set(MAY_SET.values()) | OF_THE_API) - {"id"}


def test_nothing_that_a_job_has_beyond_the_contract_reaches_its_pod() -> None:
    plain = submitted()
    body = json.loads(json.dumps({"apiVersion": "x", "kind": "x", **plain.to_dict()}))
    hostile = {name: {"evil": "1"} for name in OF_KUBERNETES if name not in body["spec"]}
    body["spec"] |= hostile
    body["status"] |= {k: v for k, v in hostile.items() if k not in body["status"]}
    body["metadata"] |= {
        "labels": {"evil": "1"},
        "annotations": {"evil": "1"},
        "finalizers": ["e/vil"],
    }
    pods = [
        build(job, a_service(), a_pool(), AROUND) for job in (plain, OrchestratorJob.parse(body))
    ]
    assert pods[0] == pods[1]
    assert "evil" not in json.dumps(pods[1])


@pytest.mark.parametrize("kind", ["spec", "status"])
def test_the_definition_keeps_nothing_that_it_does_not_know(kind: str) -> None:
    text = Path(ROOT / "crds/orchestratorjobs.yaml").read_text()
    assert "x-kubernetes-preserve-unknown-fields" not in text
    definition = yaml.safe_load(text)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][kind]
    open_ones = [path for path, inner in _schemas(kind, schema) if "additionalProperties" in inner]
    # Maps of the caller's own words: amounts of resources, which the service bounds.
    assert all("resources" in path for path in open_ones), open_ones


def _schemas(path: str, schema: Any) -> Iterator[tuple[str, Any]]:
    yield path, schema
    for name, inner in (schema.get("items") or schema).get("properties", {}).items():
        yield from _schemas(f"{path}.{name}", inner)
