"""How main ended x how the agent ended x what the kubelet said → phase and reason, all of them.

The table's rows are what happened in the pod, its columns what the kubelet says of it. A dash means
that nothing is decided yet.
"""

from typing import Any

import pytest

from orchestrator_crds.outcome import Outcome, Report, from_report
from orchestrator_operator.core import steps
from tests.support.builders import a_pod, a_service, ended, running

DELETED: dict[str, Any] = {
    "deletionTimestamp": "2026-01-01T00:10:00Z",
    "deletionGracePeriodSeconds": 60,
}
DISRUPTION = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
NODE_GONE = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
KILLED = ended("agent", exitCode=137, finishedAt="2026-01-01T00:05:00Z")

# What the kubelet says: the pod's status, and whether its deletion was asked for. None: no pod.
KUBELET: dict[str, tuple[dict[str, Any], bool] | None] = {
    "runs": ({"phase": "Running"}, False),
    "over": ({"phase": "Failed"}, False),
    "oom": ({"phase": "Failed", "containerStatuses": [ended("main", reason="OOMKilled")]}, False),
    "full disk": ({"phase": "Failed", "reason": "Evicted", "message": "ephemeral-storage"}, False),
    "drained": ({"phase": "Failed", "conditions": [DISRUPTION]}, True),
    "pressed": ({"phase": "Failed", "reason": "Evicted", "conditions": [DISRUPTION]}, False),
    "backstop": ({"phase": "Failed", "reason": "DeadlineExceeded"}, False),
    "deleted": ({"phase": "Failed"}, True),
    "node gone": ({"phase": "Failed", "conditions": [NODE_GONE]}, True),
    "no pod": None,
}
# What the agent told, or None when it died first.
POD: dict[str, dict[str, Any] | None] = {
    "exit 0": {"why": "exit", "exitCode": 0},
    "exit 0, a child out of memory": {"why": "exit", "exitCode": 0, "oomKills": 1},
    "exit 0, results too large": {"why": "exit", "exitCode": 0, "tooLarge": "5 GB"},
    "exit 0, results lost": {"why": "exit", "exitCode": 0, "resultsLost": "no store"},
    "exit 3": {"why": "exit", "exitCode": 3},
    "exit 3, results lost": {"why": "exit", "exitCode": 3, "resultsLost": "no store"},
    "exit 137, a child out of memory": {"why": "exit", "exitCode": 137, "oomKills": 1},
    "exit 137": {"why": "exit", "exitCode": 137},
    "deadline": {"why": "deadline", "exitCode": 143},
    "disk": {"why": "disk", "exitCode": 143},
    "told to stop": {"why": "terminated", "exitCode": 143},
    "died without a word": {"why": "lost"},
    "inputs missing": {"why": "inputs", "message": "404"},
    "inputs corrupt": {"why": "corrupt", "message": "sha256"},
    "network open": {"why": "network", "message": "canary"},
    "agent killed": None,
}
TABLE = """
row                              | runs | over | oom | full disk | drained | pressed | backstop | deleted | node gone | no pod
exit 0                           | Completed Succeeded
exit 0, a child out of memory    | Completed Succeeded
exit 0, results too large        | Failed ResultsTooLarge
exit 0, results lost             | Failed ResultsLost
exit 3                           | Failed NonZeroExit
exit 3, results lost             | Failed NonZeroExit
exit 137, a child out of memory  | Failed OOMKilled
exit 137                         | Failed NonZeroExit
deadline                         | Failed DeadlineExceeded
disk                             | Failed DiskLimitExceeded
inputs missing                   | Failed InputsMissing
inputs corrupt                   | Failed InputsCorrupted
network open                     | Failed NetworkNotIsolated
told to stop        | - | Failed AgentLost | Failed OOMKilled | Failed DiskLimitExceeded | Failed Evicted | Failed Evicted | Failed DeadlineExceeded | Failed PodDeleted | Failed NodeLost | Failed PodDeleted
died without a word | - | Failed AgentLost | Failed OOMKilled | Failed DiskLimitExceeded | Failed Evicted | Failed Evicted | Failed DeadlineExceeded | Failed PodDeleted | Failed NodeLost | Failed PodDeleted
agent killed        | delete | Failed AgentLost | Failed OOMKilled | Failed DiskLimitExceeded | Failed Evicted | Failed Evicted | Failed DeadlineExceeded | Failed AgentLost | Failed NodeLost | Failed PodDeleted
"""


def cells() -> list[tuple[str, str, str]]:
    header, *rows = ([c.strip() for c in line.split("|")] for line in TABLE.strip().splitlines())
    assert header[1:] == list(KUBELET)
    assert {name for name, *_ in rows} == set(POD)
    found = []
    for name, *ends in rows:
        # An agent that has told an end has the last word, whatever the kubelet says.
        ends = ends * len(KUBELET) if len(ends) == 1 else ends
        found += [(name, kubelet, end) for kubelet, end in zip(KUBELET, ends, strict=True)]
    return found


def decide(pod: str, kubelet: str, *, terminate: bool) -> str:
    """Return what gateway and operator make of it, as phase and reason."""
    told = POD[pod]
    if told is not None:
        outcome = from_report(Report.model_validate(told), terminate=terminate)
        if outcome is not None:
            return word(outcome)
    said = KUBELET[kubelet]
    job = running(spec={"terminate": terminate})
    if said is None:
        return word(steps.gone(job))
    status, deleted = said
    containers = [*status.get("containerStatuses", ()), *([KILLED] if told is None else [])]
    body = a_pod(status={**status, "containerStatuses": containers}, **(DELETED if deleted else {}))
    step = steps.next_step(
        steps.View(job, [body], 1, adopting=False, service=a_service().spec, now=0)
    )
    if isinstance(step, steps.Finish):
        return word(step.outcome)
    return "delete" if isinstance(step, steps.DeletePod) else "-"


def word(outcome: Outcome) -> str:
    return f"{outcome.phase} {outcome.reason}"


@pytest.mark.parametrize(("pod", "kubelet", "end"), cells())
def test_the_end_of_a_job(pod: str, kubelet: str, end: str) -> None:
    assert decide(pod, kubelet, terminate=False) == end


@pytest.mark.parametrize(("pod", "kubelet", "end"), cells())
def test_a_job_that_was_to_stop_is_killed_however_it_ended(
    pod: str, kubelet: str, end: str
) -> None:
    found = decide(pod, kubelet, terminate=True)
    # While it runs without a word from the agent, the pod is told to end.
    assert found == ("delete" if end == "delete" else "Killed Terminated")
