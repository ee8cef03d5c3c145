from typing import Any

import pytest

from orchestrator_crds import IllegalTransition, ServiceSpec, transitions
from orchestrator_crds.job import StoredObject
from orchestrator_crds.lifecycle import HOPELESS, INFRASTRUCTURE, Phase, Reason
from orchestrator_crds.meta import Condition, seconds_of, set_condition
from orchestrator_crds.outcome import Outcome, killed
from orchestrator_crds.resources import ComputeResources
from tests.support.builders import a_job, a_service, running, submitted

NOW = "2026-01-01T00:01:00Z"
DONE = Outcome(Phase.COMPLETED, Reason.SUCCEEDED, "ok", 0)
FAILED = Outcome(Phase.FAILED, Reason.NON_ZERO_EXIT, "no", 3)
LOST = Outcome(Phase.FAILED, Reason.NODE_LOST, "Not the job's fault: its node was lost.")


def statuses(patch: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in patch["conditions"]}


def test_a_claim_counts_the_attempt_and_names_the_epoch() -> None:
    size = ComputeResources(cpu="2")
    patch = transitions.claim(a_job(attempt=1), epoch=7, pool="cpu", resources=size, now=NOW)
    assert (patch["phase"], patch["attempt"]) == ("Submitted", 2)
    assert patch["claim"] == {"epoch": 7, "pool": "cpu", "resources": size.to_dict()}
    # A pod of the attempt before must not look like this one's.
    assert patch["pod"] is None
    assert statuses(patch) == {"Admitted": "True"}


def test_a_requeued_job_holds_no_claim() -> None:
    patch = transitions.requeue(submitted(), now=NOW)
    assert (patch["phase"], patch["claim"]) == ("Queued", None)
    assert statuses(patch)["Admitted"] == "False"


@pytest.mark.parametrize(
    ("job", "outcome", "expected"),
    [
        (running(), DONE, {"Finished": "True", "Succeeded": "True"}),
        (running(), FAILED, {"Finished": "True", "Succeeded": "False", "Stalled": "True"}),
        (a_job(), killed(running=False), {"Finished": "True", "Succeeded": "Unknown"}),
    ],
)
def test_an_end_sets_the_conditions_that_scripts_wait_for(
    job: Any, outcome: Outcome, expected: dict[str, str]
) -> None:
    assert statuses(transitions.finish(job, outcome, None, now=NOW)) == expected


def test_an_end_keeps_results_and_exit_code() -> None:
    stored = StoredObject(
        key="jobs/a/results.zip", size_bytes=1, sha256="0" * 64, etag="e", updated_at=NOW
    )
    left = transitions.Leftovers(results=stored, log_tail="the end")
    patch = transitions.finish(running(), FAILED, None, now=NOW, left=left)
    assert patch["results"]["etag"] == "e"
    assert (patch["exitCode"], patch["logTail"]) == (3, "the end")


def test_a_job_that_is_over_cannot_end_again() -> None:
    with pytest.raises(IllegalTransition):
        transitions.finish(a_job(phase="Killed"), DONE, None, now=NOW)


def test_a_very_long_message_still_fits_the_schema() -> None:
    outcome = Outcome(Phase.FAILED, Reason.NON_ZERO_EXIT, "x" * 100_000)
    assert len(transitions.finish(running(), outcome, None, now=NOW)["message"]) <= 8192


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    def ready(status: str, time: str) -> Condition:
        return Condition.model_validate(
            {"type": "Ready", "status": status, "reason": "R", "lastTransitionTime": time}
        )

    first = (ready("True", "t1"),)
    assert set_condition(first, ready("True", "t2"))[0].last_transition_time == "t1"
    assert set_condition(first, ready("False", "t2"))[0].last_transition_time == "t2"


def service(**spec: Any) -> ServiceSpec:
    return a_service(**spec).spec


@pytest.mark.parametrize("reason", sorted(INFRASTRUCTURE - HOPELESS))
def test_a_failure_of_the_infrastructure_is_tried_again(reason: Reason) -> None:
    outcome = Outcome(Phase.FAILED, reason, "Not the job's fault.")
    patch = transitions.settle(running(), outcome, service(), now=NOW)
    assert (patch["phase"], patch["reason"]) == ("Queued", reason)
    assert (patch["claim"], patch["pod"], patch["results"]) == (None, None, None)
    assert patch["infrastructureRetries"] == 1
    assert "userRetries" not in patch
    assert statuses(patch) == {"Admitted": "False"}
    assert patch["message"] == (
        "Not the job's fault. It is run again after 2026-01-01T00:01:10Z (retry 1 of 3)."
    )


@pytest.mark.parametrize("reason", sorted(HOPELESS))
def test_what_another_attempt_cannot_mend_is_not_tried_again(reason: Reason) -> None:
    outcome = Outcome(Phase.FAILED, reason, "Gone.")
    assert transitions.settle(running(), outcome, service(), now=NOW)["phase"] == "Failed"


def test_the_pause_doubles_up_to_ten_minutes() -> None:
    pauses = []
    for count in range(9):
        job = running(infrastructureRetries=count)
        spec = service(retries={"infrastructure": 20})
        patch = transitions.settle(job, LOST, spec, now=NOW)
        pauses.append(seconds_of(patch["notBefore"]) - seconds_of(NOW))
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_the_last_retry_is_the_last_and_the_message_says_how_many_there_were() -> None:
    patch = transitions.settle(running(infrastructureRetries=3), LOST, service(), now=NOW)
    assert (patch["phase"], patch["reason"]) == ("Failed", "NodeLost")
    assert patch["message"] == (
        "Not the job's fault: its node was lost. It was tried 4 times. Submit it again."
    )


def test_the_users_own_failure_is_tried_again_only_when_asked_for() -> None:
    assert transitions.settle(running(), FAILED, service(), now=NOW)["phase"] == "Failed"
    asked = service(retries={"user": 1, "infrastructure": 0})
    patch = transitions.settle(running(), FAILED, asked, now=NOW)
    assert (patch["phase"], patch["userRetries"]) == ("Queued", 1)
    assert transitions.settle(running(), LOST, asked, now=NOW)["phase"] == "Failed"
    again = transitions.settle(running(userRetries=1), FAILED, asked, now=NOW)
    assert again["phase"] == "Failed"


def test_a_job_that_was_to_stop_is_killed_whatever_was_decided_before_that_was_known() -> None:
    job = running(spec={"terminate": True})
    for outcome in (LOST, FAILED):
        patch = transitions.settle(job, outcome, service(), now=NOW)
        assert (patch["phase"], patch["reason"]) == ("Killed", "Terminated")
    assert transitions.settle(job, DONE, service(), now=NOW)["phase"] == "Completed"


def test_a_retry_forgets_what_the_attempt_before_it_left() -> None:
    patch = transitions.settle(running(), LOST, service(), now=NOW)
    assert [patch[key] for key in ("results", "skipped", "logTail", "exitCode")] == [None] * 4


@pytest.mark.parametrize(("outcome", "kept"), [(DONE, 100), (FAILED, 200)])
def test_an_end_says_when_the_files_go(outcome: Outcome, kept: int) -> None:
    spec = service(retention={"resultsSeconds": 100, "failedSeconds": 200})
    patch = transitions.finish(running(), outcome, spec, now=NOW)
    assert seconds_of(patch["expiresAt"]) - seconds_of(NOW) == kept


def test_an_endless_retention_is_no_error() -> None:
    spec = service(retention={"resultsSeconds": 10**15})
    patch = transitions.finish(running(), DONE, spec, now=NOW)
    assert patch["expiresAt"].startswith("9999-")


@pytest.mark.parametrize("of", ["job", "service"])
def test_an_end_that_is_to_be_told_is_marked_so(of: str) -> None:
    url = {"callbackURL": "https://portal.example.org/ended"}
    job = running(spec=url if of == "job" else None)
    spec = service(**(url if of == "service" else {}))
    patch = transitions.finish(job, DONE, spec, now=NOW)
    found = patch["callback"]
    assert (found["url"], found["state"], found["attempts"]) == (url["callbackURL"], "Pending", 0)
    assert "callback" not in transitions.finish(running(), DONE, service(), now=NOW)


def test_the_skipped_are_counted_and_the_first_named() -> None:
    assert transitions.skipped([], 0) is None
    found = transitions.skipped([f"link{n}" for n in range(100)], 100)
    assert found is not None
    assert (found.count, len(found.names)) == (100, 20)
