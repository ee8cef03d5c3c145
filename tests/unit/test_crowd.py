"""The judge of the crowd: it finds what is wrong, where there is something."""

from itertools import count
from typing import Any

from orchestrator_crds import labels
from tests.soak.crowd import Judgement, Seen, ran_twice
from tests.soak.simulated import Run

LIMITS = {"maxRunning": 2, "maxRunningPerUser": 1}


def quota(**limits: int) -> tuple[str, str, dict[str, Any]]:
    return "quota", "MODIFIED", {"status": {"inForce": {**LIMITS, **limits}}}


def job(name: str, phase: str, user: str = "a", **status: Any) -> tuple[str, str, dict[str, Any]]:
    status |= {"phase": phase, "attempt": 1, "claim": {"epoch": 1}}
    body = {"metadata": {"name": name}, "spec": {"userID": user}, "status": status}
    return "job", "MODIFIED", body


def pod(of: str, phase: str, user: str = "a") -> tuple[str, str, dict[str, Any]]:
    metadata = {"name": f"{of}-1", "labels": {labels.JOB: of}, "annotations": {labels.USER: user}}
    return "pod", "MODIFIED", {"metadata": metadata, "status": {"phase": phase}}


def judged(*events: tuple[str, str, dict[str, Any]], told: Any = ()) -> Judgement:
    numbers = count(1)
    states = [Seen(n, float(n), *event) for n, event in zip(numbers, events, strict=False)]
    return Judgement(states, set(told))


def test_claims_within_the_limits_are_right() -> None:
    found = judged(quota(), job("j1", "Submitted"), job("j2", "Submitted", "b"))
    assert (found.problems, found.claims) == ([], 2)


def test_a_claim_above_a_limit_is_found() -> None:
    three = [job(f"j{n}", "Submitted", user) for n, user in enumerate("abc")]
    assert judged(quota(), *three).problems == ["the claim of j2 is number 3 of 2"]
    own = judged(quota(), job("j1", "Submitted"), job("j2", "Submitted"))
    assert own.problems == ["the claim of j2 is number 2 of 1 of a"]


def test_a_limit_that_is_lowered_does_no_wrong_to_what_runs_already() -> None:
    before = [job("j1", "Submitted"), job("j2", "Submitted", "b")]
    assert judged(quota(), *before, quota(maxRunning=0), job("j1", "Running")).problems == []


def test_a_pod_that_is_not_over_holds_its_place_when_its_job_is() -> None:
    events = [quota(), job("j1", "Submitted"), pod("j1", "Running"), job("j1", "Completed")]
    again = job("j2", "Submitted")
    told = [("j1", 1)]
    held = judged(*events, again, told=told)
    assert held.problems == ["the claim of j2 is number 2 of 1 of a"]
    assert judged(*events, pod("j1", "Succeeded"), again, told=told).problems == []


def test_a_job_that_is_complete_though_nobody_said_so_is_found() -> None:
    events = [quota(), job("j1", "Submitted"), job("j1", "Completed")]
    assert judged(*events).problems == ["j1 is Completed, and nobody said so of attempt 1"]
    assert judged(*events, told=[("j1", 1)]).problems == []


def test_shares_are_counted_while_all_wait() -> None:
    queued = [job(f"q{user}", "Queued", user) for user in "ab"]
    even = judged(quota(), *queued, job("j1", "Running", "a"), job("j2", "Running", "b"), quota())
    assert dict(even.ran) == {"a": 2.0, "b": 1.0}
    assert round(even.jain, 3) == 0.9
    assert judged(quota(), job("j1", "Running")).jain == 0.0


def test_runs_that_overlap_or_follow_a_told_end_are_found() -> None:
    done = {"j1": "Completed"}
    once = [Run("j1", "j1-1", 0, 1, 0), Run("j1", "j1-2", 2, 3, 200)]
    assert ran_twice(once, done) == []
    overlap = [Run("j1", "j1-1", 0, 2, 0), Run("j1", "j1-2", 1, 3, 200)]
    assert ran_twice(overlap, done) == ["j1-2 ran while j1-1 did"]
    again = [Run("j1", "j1-1", 0, 1, 200), Run("j1", "j1-2", 2, 3, 200)]
    assert len(ran_twice(again, done)) == 2
    assert ran_twice([], {"j1": "Queued"}) == ["j1 never ended: it is Queued"]
