"""The custom resources on a real API server: accepted, refused, explained."""

from typing import Any

import pytest
import yaml

from local.paths import ROOT
from orchestrator_crds import KINDS
from orchestrator_crds.meta import API_VERSION
from tests.cluster.place import Place, until

JOB = {"service": "example", "userID": "1", "script": "echo hi"}
INPUTS = {"key": "jobs/x/inputs.zip", "sizeBytes": 1, "sha256": "0" * 64}


def create(place: Place, name: str, spec: Any, kind: str = "OrchestratorJob") -> str:
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return place.kubectl(
        "create", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(body), check=False
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_the_generated_definitions_are_accepted(place: Place, kind: Any) -> None:
    place.kubectl("apply", "--dry-run=server", f"--filename={ROOT / 'crds' / kind.plural}.yaml")


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_kubectl_explain_is_the_manual(place: Place, kind: Any) -> None:
    text = place.kubectl("explain", f"{kind.__name__.lower()}.spec", "--recursive")
    assert kind.model_fields["spec"].description in text


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("x", {**JOB, "userID": None}, "spec.userID"),
        ("x", {"userID": "1", "script": "x"}, "spec.service"),
        ("x", {**JOB, "script": None}, "give either inputs (set by the API) or script"),
        ("x", {**JOB, "inputs": INPUTS}, "give either inputs (set by the API) or script"),
        ("x", {**JOB, "service": "No Such_Name"}, "spec.service"),
        ("x", {**JOB, "surprise": 1}, "unknown field"),
        ("x", {**JOB, "script": "x" * 65537}, "spec.script"),
        ("x" * 53, JOB, "may not be more than 52"),
        ("job-7", {**JOB, "id": 8}, "a job with an id must be named job-<id>"),
        ("job-07", {**JOB, "id": 7}, "a job with an id must be named job-<id>"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_a_sentence(
    place: Place, name: str, spec: dict[str, Any], message: str
) -> None:
    answer = create(place, name, {k: v for k, v in spec.items() if v is not None})
    assert message in answer


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"cidr": "192.0.2.1/24"}, "egress: each cidr is a network such as 192.0.2.0/24"),
        ({"cidr": "example.org"}, "egress: each cidr is a network such as 192.0.2.0/24"),
        ({"ports": []}, "should have at least 1 items"),
        ({"ports": [{"port": 9, "endPort": 8}]}, "egress: an endPort is not below its port"),
        ({"ports": [{"port": 8082}]}, "port 8082 stays closed"),
        ({"ports": [{"port": 1, "endPort": 65535}]}, "port 8082 stays closed"),
        ({"ports": [{"port": 8083, "endPort": 65535}, {"port": 443}]}, "created (server dry run)"),
    ],
)
def test_where_jobs_may_connect_to_must_make_sense(
    place: Place, rule: dict[str, Any], message: str
) -> None:
    egress = [{"cidr": "192.0.2.0/24", "ports": [{"port": 443}], **rule}]
    spec = {"image": "example:1", "nodePools": ["cpu"], "egress": egress}
    assert message in create(place, "x", spec, "OrchestratorService")


@pytest.mark.parametrize("more", [{"id": 7}, {"inputs": INPUTS, "script": None}])
def test_only_the_api_may_name_a_bundle(place: Place, more: dict[str, Any]) -> None:
    spec = {k: v for k, v in {**JOB, **more}.items() if v is not None}
    assert "are set by the API alone" in create(place, "job-7", spec)


def test_a_job_cannot_be_changed_but_for_its_end(place: Place) -> None:
    place.apply("OrchestratorQuota", "shut", {"onlyUsers": ["31"], "maxRunning": 0})
    place.apply("OrchestratorJob", "fixed", {**JOB, "userID": "31"})
    for patch in (
        '{"service": "docking"}',
        '{"userID": "2"}',
        '{"script": "echo other"}',
        '{"script": null}',
    ):
        answer = place.kubectl(
            "patch", "oj", "fixed", "--type=merge", f'-p={{"spec": {patch}}}', check=False
        )
        assert "only terminate and priority can" in answer or "give either" in answer
    place.kubectl("patch", "oj", "fixed", "--type=merge", '-p={"spec": {"terminate": true}}')
    answer = place.kubectl(
        "patch", "oj", "fixed", "--type=merge", '-p={"spec": {"terminate": false}}', check=False
    )
    assert "terminate cannot be taken back" in answer


def test_a_job_for_an_unknown_service_is_invalid_and_the_operator_goes_on(place: Place) -> None:
    place.apply("OrchestratorJob", "lost", {**JOB, "service": "nonsense"})
    until(
        lambda: place.get("oj", "lost").get("status", {}).get("phase") == "Invalid", "it is Invalid"
    )
    assert place.get("oj", "lost")["status"]["reason"] == "UnknownService"
    assert place.wait(place.upload("echo hi")) == "Completed"


def test_jobs_can_be_selected_by_the_server(place: Place) -> None:
    number = place.upload("echo hi", user=4711)
    place.wait(number)
    selector = "spec.userID=4711,status.phase=Completed,spec.service=example"
    found = place.kubectl("get", "oj", f"--field-selector={selector}", "-oname")
    assert f"orchestratorjob.orchestrator.dev/job-{number}" in found.split()
