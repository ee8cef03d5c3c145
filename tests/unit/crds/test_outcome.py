"""How a job ended: each witness's evidence, and what is made of it."""

from typing import Any

import pytest

from orchestrator_crds.lifecycle import INFRASTRUCTURE, Phase, Reason
from orchestrator_crds.outcome import Report, from_pod, from_report, never_started, pod_gone
from tests.support.builders import ended, pod_body, stuck


def report(why: str = "exit", code: int | None = 0, **more: Any) -> Report:
    return Report.model_validate({"why": why, "exitCode": code, **more})


@pytest.mark.parametrize(
    ("said", "phase", "reason"),
    [
        (report(), "Completed", "Succeeded"),
        (report(code=3), "Failed", "NonZeroExit"),
        (report(code=137, oomKills=1), "Failed", "OOMKilled"),
        # A process of the job was killed, but the job itself coped.
        (report(code=0, oomKills=1), "Completed", "Succeeded"),
        (report("deadline", 143), "Failed", "DeadlineExceeded"),
        (report("deadline", 0), "Failed", "DeadlineExceeded"),
        (report(resultsLost="no store"), "Failed", "ResultsLost"),
        (report("inputs", None, message="no zip"), "Failed", "InputsMissing"),
        (report("network", None, message="open"), "Failed", "NetworkNotIsolated"),
        (report(tooLarge="5 GB"), "Failed", "ResultsTooLarge"),
    ],
)
def test_the_agents_report(said: Report, phase: str, reason: str) -> None:
    outcome = from_report(said, terminate=False)
    assert outcome is not None
    assert (outcome.phase, outcome.reason) == (phase, reason)


def test_without_an_exit_record_the_kubelet_must_say() -> None:
    assert from_report(report("lost", None), terminate=False) is None


def test_why_the_cluster_stopped_a_job_the_kubelet_must_say() -> None:
    assert from_report(report("terminated", 143), terminate=False) is None
    gone = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert from_pod(gone, terminate=False).reason == "PodDeleted"


def test_a_pod_that_never_started_run_sh_ran_out_of_no_time_of_the_users() -> None:
    status = {"status": {"reason": "DeadlineExceeded"}}
    assert from_pod(status, terminate=False, started=False).reason == "PodRejected"


@pytest.mark.parametrize("why", ["exit", "deadline", "terminated", "lost"])
def test_a_job_asked_to_stop_is_killed_however_it_ended(why: str) -> None:
    outcome = from_report(report(why, None if why == "lost" else 0), terminate=True)
    assert outcome is not None
    assert outcome.phase is Phase.KILLED


def test_the_message_of_a_failure_holds_the_end_of_the_log() -> None:
    outcome = from_report(report(code=3, logTail="no such file\n"), terminate=False)
    assert outcome is not None
    assert outcome.message == (
        "run.sh ended with exit code 3. The last lines of its log: no such file"
    )


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"reason": "Evicted", "message": "ephemeral"}, "DiskLimitExceeded"),
        (
            {"reason": "Evicted", "conditions": [{"type": "DisruptionTarget", "status": "True"}]},
            "Evicted",
        ),
        ({"reason": "DeadlineExceeded"}, "DeadlineExceeded"),
        ({"containerStatuses": [ended("main", reason="OOMKilled")]}, "OOMKilled"),
        ({"containerStatuses": [ended("main", reason="StartError")]}, "ContainerStartFailed"),
        ({"reason": "OutOfcpu", "message": "node full"}, "PodRejected"),
        ({"containerStatuses": [ended("agent", exitCode=1)]}, "AgentLost"),
        ({}, "AgentLost"),
        (None, "AgentLost"),
    ],
)
def test_the_kubelets_word(status: Any, reason: str) -> None:
    outcome = from_pod({"status": status}, terminate=False)
    assert (outcome.phase, outcome.reason) == ("Failed", reason)


def test_an_infrastructure_failure_says_that_it_is_not_the_users_fault() -> None:
    for outcome in (from_pod({}, terminate=False), pod_gone(terminate=False)):
        assert outcome.reason in INFRASTRUCTURE
        assert outcome.message.startswith("Not the job's fault")


def test_a_pod_that_went_with_a_terminated_job_means_killed() -> None:
    assert from_pod({}, terminate=True).phase is Phase.KILLED
    assert pod_gone(terminate=True).phase is Phase.KILLED


@pytest.mark.parametrize(
    ("entry", "patient", "reason"),
    [
        (stuck("main", "ErrImagePull"), True, None),
        (stuck("main", "ErrImagePull"), False, Reason.IMAGE_PULL_FAILED),
        (stuck("main", "ErrImageNeverPull"), True, Reason.IMAGE_PULL_FAILED),
        (stuck("main", "CreateContainerError"), False, Reason.CONTAINER_START_FAILED),
        (stuck("main", "ContainerCreating"), False, None),
        (ended("main", reason="StartError", message="no sh"), True, Reason.CONTAINER_START_FAILED),
        (ended("main", reason="Error"), False, None),
    ],
)
def test_what_will_never_start(entry: Any, patient: bool, reason: Reason | None) -> None:
    outcome = never_started(pod_body(status={"containerStatuses": [entry]}), patient=patient)
    assert (outcome and outcome.reason) == reason
