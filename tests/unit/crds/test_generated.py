"""The generated YAML: up to date, structural, and a manual in itself."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from local.generate import definition, files
from orchestrator_crds import KINDS, Resource

# What of a pod is nobody's to choose, and what is the administrator's alone.
NOBODYS = {
    "capabilities", "devices", "hostIPC", "hostNetwork", "hostPID", "hostPath", "initContainers", "nodeName",
    "privileged", "resourceClaims", "securityContext", "serviceAccountName", "subPath", "volumeMounts", "volumes",
}  # fmt: skip
ADMINISTRATORS = {
    "data", "egress", "entrypoint", "env", "hostUsers", "image", "imagePullPolicy", "networkIsolation",
    "nodePools", "nodeSelector", "runtimeClassName", "tolerations",
}  # fmt: skip
FORBIDDEN = {"$ref", "$defs", "anyOf", "const", "examples", "uniqueItems", "title"}


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, schema) of every field below *schema*."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def schema_of(kind: type[Resource]) -> dict[str, Any]:
    version = definition(kind)["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.name))
def test_files_are_what_the_models_give(path: Any) -> None:
    assert path.read_text() == files()[path], "run hack/gen and commit what it writes"


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_field_is_described(kind: type[Resource]) -> None:
    bare = [
        path
        for path, node in nodes(schema_of(kind))
        if not node.get("description") and not path.startswith(".metadata")
    ]
    assert not bare


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_nothing_is_there_that_a_structural_schema_forbids(kind: type[Resource]) -> None:
    for path, node in nodes(schema_of(kind)):
        assert not FORBIDDEN & set(node), path


def test_no_resource_reaches_into_a_pod_and_a_job_not_even_into_its_service() -> None:
    found = {
        kind.__name__: {
            path.rpartition(".")[2].removesuffix("[]") for path, _ in nodes(schema_of(kind))
        }
        for kind in KINDS
    }
    assert not NOBODYS & set().union(*found.values())
    assert not ADMINISTRATORS & found["OrchestratorJob"]
    # All of them are names that a field could have.
    elsewhere = found["OrchestratorService"] | found["OrchestratorNodePool"]
    assert ADMINISTRATORS - elsewhere == set()


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_columns_point_at_fields_that_exist(kind: type[Resource]) -> None:
    known = {path for path, _ in nodes(schema_of(kind))} | {".metadata.creationTimestamp"}
    for column in kind.columns:
        field = re.sub(r"\[\?.*?\]\.\w+$", "", column.path)
        # Or it is an entry of a map.
        assert {field, field.rpartition(".")[0]} & known - {".status", ".spec"}, column


def test_queued_costs_no_write() -> None:
    text = files()[next(p for p in files() if p.name == "orchestratorjobs.yaml")]
    schema = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["status"]["default"] == {
        "observedGeneration": -1,
        "phase": "Queued",
    }
