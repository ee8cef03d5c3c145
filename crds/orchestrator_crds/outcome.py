"""How a job ended, decided from what was seen. The only place where an end's phase is chosen.

There are two witnesses: the agent, who holds the wrapper's exit record, and the kubelet, who is
asked when the agent is gone. An infrastructure failure is never put down to the user, nor the
reverse.
"""

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator_crds.lifecycle import Phase, Reason
from orchestrator_crds.meta import Model, seconds_of
from orchestrator_crds.text import Tame

OOM_EXIT = 137


@dataclass(frozen=True)
class Outcome:
    """The end of a job: its phase, the reason as a word, and the message as a sentence."""

    phase: Phase
    reason: Reason
    message: str
    exit_code: int | None = None


def killed(*, running: bool) -> Outcome:
    """Return the outcome of a job that was stopped on request."""
    when = "while it ran" if running else "before it started"
    return Outcome(Phase.KILLED, Reason.TERMINATED, f"The job was stopped on request {when}.")


class Report(Model):
    """What the agent tells at the end of an attempt."""

    # From the wrapper: exit, deadline, disk, terminated. From the agent: the others.
    why: Literal["exit", "deadline", "disk", "terminated", "inputs", "corrupt", "network", "lost"]
    exit_code: int | None = None
    oom_kills: int = 0
    message: Tame = ""
    # Why the results could not be kept, if they could not.
    too_large: Tame = ""
    results_lost: Tame = ""
    # The end of what run.sh printed.
    log_tail: Tame = ""
    # The last words of its progress.
    progress: Tame = ""
    # What the results leave out: how much, and the first names.
    skipped_count: int = 0
    skipped: tuple[Tame, ...] = ()


def from_report(report: Report, *, terminate: bool) -> Outcome | None:
    """Decide from the agent's report; None when only the kubelet can say how it ended."""
    code = report.exit_code
    if terminate:
        return Outcome(Phase.KILLED, Reason.TERMINATED, killed(running=True).message, code)
    if report.why in _BEFORE_THE_START:
        sentence = _infrastructure(report.message)
        return Outcome(Phase.FAILED, _BEFORE_THE_START[report.why], sentence)
    if code is None:
        return None
    if report.why == "terminated":
        return None  # told to stop by the kubelet, which alone knows why
    reason, sentence = _users_own(report, code)
    if report.results_lost:
        lost = f"its results could not be saved ({report.results_lost})"
        if reason is Reason.SUCCEEDED:
            return Outcome(Phase.FAILED, Reason.RESULTS_LOST, _infrastructure(lost), code)
        sentence += f" Besides, {lost}."
    if reason is Reason.SUCCEEDED:
        return Outcome(Phase.COMPLETED, reason, sentence, code)
    return Outcome(Phase.FAILED, reason, _with_log(sentence, report.log_tail), code)


_BEFORE_THE_START = {
    "inputs": Reason.INPUTS_MISSING,
    "corrupt": Reason.INPUTS_CORRUPTED,
    "network": Reason.NETWORK_NOT_ISOLATED,
}


def _users_own(report: Report, code: int) -> tuple[Reason, str]:
    ended = f"run.sh ended with exit code {code}"
    if report.why == "deadline":
        return Reason.DEADLINE_EXCEEDED, _TOO_LONG
    if report.why == "disk":
        return Reason.DISK_LIMIT_EXCEEDED, _TOO_MUCH_DISK
    if report.too_large:
        return Reason.RESULTS_TOO_LARGE, (
            f"{ended}, but its results are too large to be kept. Have it delete what nobody needs, "
            "or ask for more."
        )
    if code == 0:
        return Reason.SUCCEEDED, f"{ended}."
    if report.oom_kills:
        killed_for = "the kernel killed a process of it for want of memory"
        return Reason.OOM_KILLED, f"{ended} after {killed_for}."
    return Reason.NON_ZERO_EXIT, f"{ended}."


_TOO_LONG = (
    "The job ran longer than its service allows and was stopped. Have it do less at a time, or ask "
    "for a longer deadline."
)
_TOO_MUCH_DISK = (
    "The job used more disk than its service allows, or made folders in folders that are more than "
    "400 deep, and was stopped. Have it write less, or ask for more disk."
)


def _infrastructure(what: str) -> str:
    return f"Not the job's fault: {what}."


def _with_log(sentence: str, log_tail: str) -> str:
    tail = log_tail.strip()
    return f"{sentence} The last lines of its log: {tail}" if tail else sentence


def from_pod(pod: dict[str, Any], *, terminate: bool, started: bool = True) -> Outcome:
    """Decide from a terminal pod, as the kubelet left it, that no agent has reported on.

    *pod* is the object as the API server gives it; every field of it may be missing. *started*
    says whether run.sh may have begun.
    """
    status = pod.get("status") or {}
    if terminate:
        return killed(running=bool(status.get("startTime")))
    if disruption := _condition(status, "DisruptionTarget"):
        # Pod garbage collection ends the pods of a node whose object is gone.
        if disruption.get("reason") == "DeletionByPodGC":
            return Outcome(Phase.FAILED, Reason.NODE_LOST, _infrastructure("its node was lost"))
        return Outcome(
            Phase.FAILED, Reason.EVICTED, _infrastructure("the cluster took its node away")
        )
    if status.get("reason") == "Evicted":
        message = f"{_TOO_MUCH_DISK} ({status.get('message', '')})"
        return Outcome(Phase.FAILED, Reason.DISK_LIMIT_EXCEEDED, message)
    if not started:
        sentence = "its pod ended before run.sh could start"
        return _start_failure(status) or Outcome(
            Phase.FAILED, Reason.POD_REJECTED, _infrastructure(sentence)
        )
    if status.get("reason") == "DeadlineExceeded":
        return Outcome(Phase.FAILED, Reason.DEADLINE_EXCEEDED, _TOO_LONG)
    main = _terminated(status, "main")
    if main.get("reason") == "OOMKilled":
        sentence = (
            "The job used more memory than its service allows and was killed. Have it do less at a "
            "time, or ask for more memory."
        )
        return Outcome(Phase.FAILED, Reason.OOM_KILLED, sentence, OOM_EXIT)
    if failure := _start_failure(status):
        return failure
    agent = _terminated(status, "agent")
    deleted = (pod.get("metadata") or {}).get("deletionTimestamp")
    # An agent that ends after the deletion was asked for ended because of it.
    if deleted and not _agent_died_first(pod):
        return pod_gone(terminate=False)
    detail = f"exit code {agent.get('exitCode', 'unknown')}"
    sentence = f"the agent beside it ended without a report ({detail})"
    return Outcome(Phase.FAILED, Reason.AGENT_LOST, _infrastructure(sentence))


def _agent_died_first(pod: dict[str, Any]) -> bool:
    """Return whether the agent ended by itself, before anybody asked for the pod's deletion."""
    metadata = pod.get("metadata") or {}
    # The deletion's time is when the grace is over; it was asked for that much earlier.
    asked_at = seconds_of(metadata.get("deletionTimestamp")) - float(
        metadata.get("deletionGracePeriodSeconds") or 0
    )
    state = _terminated(pod.get("status") or {}, "agent")
    return bool(state.get("exitCode")) and 0 < seconds_of(state.get("finishedAt")) <= asked_at


def _start_failure(status: dict[str, Any]) -> Outcome | None:
    main = _terminated(status, "main")
    if main.get("reason") in _START_ERRORS:
        return _could_not_start(main)
    if status.get("reason"):
        sentence = f"its pod was refused ({status['reason']}: {status.get('message', '')})"
        return Outcome(Phase.FAILED, Reason.POD_REJECTED, _infrastructure(sentence))
    return None


def pod_gone(*, terminate: bool) -> Outcome:
    """Return the outcome of a job whose pod vanished without a report."""
    if terminate:
        return killed(running=True)
    return Outcome(Phase.FAILED, Reason.POD_DELETED, _infrastructure("its pod was deleted"))


_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_IMAGE = _HOPELESS | {"ErrImagePull", "ImagePullBackOff"}
_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_START_ERRORS = frozenset({"StartError", "ContainerCannotRun"})


def never_started(pod: dict[str, Any], *, patient: bool) -> Outcome | None:
    """Return the outcome of a pod that waits for what will not come, or None when it may start.

    The kubelet tries such things again for ever. While *patient*, what may yet come right, such
    as a registry that does not answer, is given its time.
    """
    status = pod.get("status") or {}
    if _terminated(status, "main").get("reason") in _START_ERRORS:
        return _could_not_start(_terminated(status, "main"))
    for entry in status.get("containerStatuses") or ():
        waiting = (entry.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if patient and reason not in _HOPELESS:
            continue
        if reason in _IMAGE:
            sentence = f"the image {entry.get('image', '')} could not be had ({message or reason})"
            return Outcome(Phase.FAILED, Reason.IMAGE_PULL_FAILED, _infrastructure(sentence))
        if reason in _CONTAINER:
            return _could_not_start({"message": message or reason})
    return None


def _could_not_start(state: dict[str, Any]) -> Outcome:
    sentence = f"the service's image could not be started ({state.get('message', '')})"
    return Outcome(Phase.FAILED, Reason.CONTAINER_START_FAILED, _infrastructure(sentence))


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    found = (c for c in conditions if c.get("type") == kind and c.get("status") == "True")
    return next(found, {})


def _terminated(status: dict[str, Any], container: str) -> dict[str, Any]:
    for entry in status.get("containerStatuses") or ():
        if entry.get("name") == container:
            found: dict[str, Any] = (entry.get("state") or {}).get("terminated") or {}
            return found
    return {}
