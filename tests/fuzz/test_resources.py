"""Custom resources of any content: read, or refused with a reason; they cost only themselves."""

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator_crds import KINDS, OrchestratorJob, Resource
from orchestrator_operator.admit import Admission
from orchestrator_operator.core import explain, podspec, steps
from orchestrator_operator.judge import Judge
from orchestrator_operator.mirror import JOBS, NODES, PODS, Mirror
from tests.fuzz.dose import fuzzed
from tests.fuzz.resources import ANY_PODS, spoil, spoilt, valid
from tests.support.builders import job_body, node_body, pool_body, quota_body, service_body

AROUND = podspec.Surroundings("agent:1", "Never", "http://10.0.0.1:8081", "wrapper")
NOW = 1_767_300_000.0


@fuzzed(600, found=st.sampled_from(KINDS).flatmap(lambda k: st.tuples(st.just(k), valid(k))))
def test_what_the_api_server_lets_in_can_be_read(found: tuple[type[Resource], Any]) -> None:
    kind, body = found
    kind.parse(body)


@fuzzed(600, found=st.sampled_from(KINDS).flatmap(lambda k: st.tuples(st.just(k), spoilt(k))))
def test_anything_else_is_read_or_refused_by_pydantic(found: tuple[type[Resource], Any]) -> None:
    kind, body = found
    try:
        kind.parse(body)
    except ValidationError as error:
        assert error.errors()[0]["msg"]


def _any(kind: type[Resource]) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(kind.plural), valid(kind) | spoilt(kind))


WORLD = st.lists(st.one_of(*map(_any, KINDS), st.tuples(st.just(PODS), ANY_PODS)), max_size=6)


def _pass(mirror: Mirror) -> list[str]:
    """Do what the decider does with what it saw, but write nothing; returns who is admitted."""
    judge, admission = Judge(mirror, lambda: NOW), Admission(mirror)
    admission.right = judge.right()
    admission.refresh()
    for resource, verdict, more in judge.due(()):
        assert verdict.ready or verdict.message, resource
        assert more == {} or verdict.ready
    mirror.resume(NOW)
    snapshot = admission.snapshot({}, (), NOW)
    plan = admission.decide(snapshot, 64)
    for job in mirror.jobs.values():
        service = mirror.service(job.spec.service)
        view = steps.View(job, mirror.pods_of(job), 1, adopting=False, service=service, now=NOW)
        steps.next_step(view)
        known = mirror.services.get(job.spec.service)
        if known is not None:
            for pool in mirror.pools.values():
                json.dumps(podspec.build(job, known, pool, AROUND))
        explain.explain(snapshot, job.metadata.name, admission.durations)
    for pod in mirror.pods.values():
        steps.pod_without_job(pod)
    judge.busy(snapshot)
    return [admitted.name for admitted in plan.admitted]


def _mirror(world: list[tuple[str, Any]]) -> Mirror:
    """Return what is seen of a small cluster that works, and then of *world*."""
    mirror = Mirror()
    limits = {"maxRunning": 50, "maxRunningPerUser": 50}
    mirror.see(NODES, node_body())
    mirror.see("orchestratorservices", service_body())
    mirror.see("orchestratornodepools", pool_body(elastic=True))
    mirror.see("orchestratorquotas", quota_body("q", status={"inForce": limits}, **limits))
    for number, (plural, body) in enumerate(world, 2):
        body["metadata"]["resourceVersion"] = str(number)
        mirror.see(plural, body)
    return mirror


@fuzzed(400, world=WORLD)
def test_the_operator_survives_any_objects(world: list[tuple[str, Any]]) -> None:
    mirror = _mirror(world)
    _pass(mirror)
    assert all(mirror.unreadable.values())


@fuzzed(200, world=st.lists(_any(OrchestratorJob), max_size=4))
def test_a_bad_job_costs_only_itself(world: list[tuple[str, Any]]) -> None:
    mirror = _mirror(world)
    mirror.see(JOBS, job_body("job-7", user="fresh"))
    assert "job-7" in _pass(mirror)


def test_without_models_the_operator_would_not_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter-proof: where nothing is checked, objects of this kind do end a pass."""
    monkeypatch.setattr(Resource, "parse", lambda body: OrchestratorJob.model_construct(**body))
    with pytest.raises((AttributeError, TypeError)):
        for seed in range(20):
            _pass(_mirror([(JOBS, spoil(OrchestratorJob, seed))]))
