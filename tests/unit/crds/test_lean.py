"""What is held of a job by those who hold many."""

from typing import Any

from orchestrator_crds import OrchestratorJob
from orchestrator_crds.lean import slim
from tests.support.builders import job_body


def test_what_can_be_long_is_not_held() -> None:
    body = job_body(spec={"script": "x" * 60_000})
    body["metadata"] |= {
        "labels": {"a": "x" * 60},
        "annotations": {"a": "x" * 60_000},
        "managedFields": [{"manager": "x"}],
        "finalizers": ["example.org/x"],
        "ownerReferences": [{"uid": "x" * 60_000}],
    }
    body["spec"]["inputs"]["files"] = [{"name": "x" * 255, "sizeBytes": 1}] * 1000
    assert len(str(slim(body))) < 2000
    # And what the system goes by is all there.
    assert OrchestratorJob.parse(slim(body)) == OrchestratorJob.parse(slim(job_body()))


def test_what_is_no_job_at_all_does_no_harm() -> None:
    junk: list[dict[str, Any]] = [{}, {"spec": 1}, {"metadata": []}, {"spec": {"inputs": []}}]
    for body in junk:
        assert slim(body).get("spec") == body.get("spec")
