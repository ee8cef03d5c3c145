from typing import Any

import pytest

from orchestrator_crds import IllegalTransition, transitions
from orchestrator_crds.job import StoredObject
from orchestrator_crds.lifecycle import Phase, Reason
from orchestrator_crds.meta import Condition, set_condition
from orchestrator_crds.outcome import Outcome, killed
from tests.support.builders import a_job, running, submitted

NOW = "2026-01-01T00:01:00Z"
DONE = Outcome(Phase.COMPLETED, Reason.SUCCEEDED, "ok", 0)
FAILED = Outcome(Phase.FAILED, Reason.NON_ZERO_EXIT, "no", 3)


def statuses(patch: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in patch["conditions"]}


def test_a_claim_counts_the_attempt_and_names_the_epoch() -> None:
    patch = transitions.claim(a_job(attempt=1), epoch=7, pool="cpu", now=NOW)
    assert (patch["phase"], patch["attempt"]) == ("Submitted", 2)
    assert patch["claim"] == {"epoch": 7, "pool": "cpu"}
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
    assert statuses(transitions.finish(job, outcome, now=NOW)) == expected


def test_an_end_keeps_results_and_exit_code() -> None:
    stored = StoredObject(
        key="jobs/a/results.zip", size_bytes=1, sha256="0" * 64, etag="e", updated_at=NOW
    )
    patch = transitions.finish(running(), FAILED, now=NOW, results=stored)
    assert patch["results"]["etag"] == "e"
    assert patch["exitCode"] == 3


def test_a_job_that_is_over_cannot_end_again() -> None:
    with pytest.raises(IllegalTransition):
        transitions.finish(a_job(phase="Killed"), DONE, now=NOW)


def test_a_very_long_message_still_fits_the_schema() -> None:
    outcome = Outcome(Phase.FAILED, Reason.NON_ZERO_EXIT, "x" * 100_000)
    assert len(transitions.finish(running(), outcome, now=NOW)["message"]) <= 8192


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    def ready(status: str, time: str) -> Condition:
        return Condition.model_validate(
            {"type": "Ready", "status": status, "reason": "R", "lastTransitionTime": time}
        )

    first = (ready("True", "t1"),)
    assert set_condition(first, ready("True", "t2"))[0].last_transition_time == "t1"
    assert set_condition(first, ready("False", "t2"))[0].last_transition_time == "t2"
