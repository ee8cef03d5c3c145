"""The phase table: every phase a job can be in, every move it can make, every reason it can have.

All that decides whether a move is legal stands in this file. A phase is also the REST status
word, so the spelling is part of the contract with portals.
"""

from enum import StrEnum


class Phase(StrEnum):
    """Where a job is on its way."""

    QUEUED = "Queued"
    SUBMITTED = "Submitted"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    INVALID = "Invalid"
    KILLED = "Killed"
    CLEANED = "Cleaned"


LIVE = frozenset({Phase.QUEUED, Phase.SUBMITTED, Phase.RUNNING})
TERMINAL = frozenset(Phase) - LIVE
# Field selectors, since Kubernetes has no OR: all but the phases that are not meant.
LIVE_SELECTOR = ",".join(f"status.phase!={phase}" for phase in sorted(TERMINAL))
ENDED_SELECTOR = ",".join(f"status.phase!={phase}" for phase in sorted(LIVE))

MOVES: dict[Phase, frozenset[Phase]] = {
    # Invalid is what can never run: its service, script or files are missing or wrong.
    Phase.QUEUED: frozenset({Phase.SUBMITTED, Phase.INVALID, Phase.KILLED}),
    # Back to Queued is an infrastructure retry, never the user's doing. A job may fail or be
    # found complete without having been seen Running: the watch may skip a state.
    Phase.SUBMITTED: frozenset({Phase.RUNNING, Phase.QUEUED, Phase.FAILED, Phase.KILLED}),
    Phase.RUNNING: frozenset({Phase.COMPLETED, Phase.FAILED, Phase.KILLED, Phase.QUEUED}),
    Phase.COMPLETED: frozenset({Phase.CLEANED}),
    Phase.FAILED: frozenset({Phase.CLEANED}),
    Phase.INVALID: frozenset({Phase.CLEANED}),
    Phase.KILLED: frozenset({Phase.CLEANED}),
    Phase.CLEANED: frozenset(),
}


class IllegalTransition(ValueError):  # noqa: N818  (named for what happened, as h11 does)
    """A move that the phase table does not have; nothing was changed."""

    def __init__(self, old: Phase, new: Phase) -> None:
        allowed = ", ".join(sorted(MOVES[old])) or "nothing"
        super().__init__(f"A job that is {old} cannot become {new}; it can become {allowed}.")


def advance(old: Phase, new: Phase) -> Phase:
    """Return *new* when the table has the move from *old*; raise IllegalTransition otherwise."""
    if new not in MOVES[old]:
        raise IllegalTransition(old, new)
    return new


class Reason(StrEnum):
    """Why a job is where it is, as one word for programs."""

    # Waiting.
    SERVICE_LIMIT = "ServiceLimit"
    USER_LIMIT = "UserLimit"
    RESOURCE_LIMIT = "ResourceLimit"
    USER_RESOURCE_LIMIT = "UserResourceLimit"
    RESERVED = "Reserved"
    NO_QUOTA = "NoQuota"
    POOL_FULL = "PoolFull"
    POOL_NOT_READY = "PoolNotReady"
    SERVICE_NOT_READY = "ServiceNotReady"
    UNSCHEDULABLE = "Unschedulable"
    POD_STARTS_SLOWLY = "PodStartsSlowly"
    NODE_UNREACHABLE = "NodeUnreachable"
    # Over, and it is the user's own.
    SUCCEEDED = "Succeeded"
    NON_ZERO_EXIT = "NonZeroExit"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    OOM_KILLED = "OOMKilled"
    DISK_LIMIT_EXCEEDED = "DiskLimitExceeded"
    RESULTS_TOO_LARGE = "ResultsTooLarge"
    TERMINATED = "Terminated"
    UNKNOWN_SERVICE = "UnknownService"
    INVALID_SPEC = "InvalidSpec"
    SCRIPT_REFUSED = "ScriptRefused"
    BEYOND_SERVICE = "BeyondService"
    NEVER_FITS = "NeverFits"
    # Over, and it is the infrastructure's.
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_START_FAILED = "ContainerStartFailed"
    NODE_LOST = "NodeLost"
    EVICTED = "Evicted"
    POD_DELETED = "PodDeleted"
    POD_REJECTED = "PodRejected"
    INPUTS_MISSING = "InputsMissing"
    INPUTS_CORRUPTED = "InputsCorrupted"
    RESULTS_LOST = "ResultsLost"
    AGENT_LOST = "AgentLost"
    NETWORK_NOT_ISOLATED = "NetworkNotIsolated"


INFRASTRUCTURE = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.CONTAINER_START_FAILED,
        Reason.NODE_LOST,
        Reason.EVICTED,
        Reason.POD_DELETED,
        Reason.POD_REJECTED,
        Reason.INPUTS_MISSING,
        Reason.INPUTS_CORRUPTED,
        Reason.RESULTS_LOST,
        Reason.AGENT_LOST,
        Reason.NETWORK_NOT_ISOLATED,
    }
)
# Another attempt cannot mend these.
HOPELESS = frozenset({Reason.INPUTS_MISSING, Reason.INPUTS_CORRUPTED})
