"""What the sweep does with a job: nothing, let it go, or own up that its files are lost."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.lifecycle import LIVE
from orchestrator_crds.meta import seconds_of
from orchestrator_crds.record import is_expired


class Fate(Enum):
    """What is to be done with a job."""

    KEEP = auto()
    EXPIRE = auto()
    RESULTS_LOST = auto()
    INPUTS_LOST = auto()


@dataclass(frozen=True)
class Stock:
    """The folders that the store had, and when they were listed, in seconds since 1970."""

    folders: Collection[str]
    listed_at: float
    # What was made this long before the list, in seconds, the list must have.
    slack: float = 120.0


def fate(job: OrchestratorJob, stock: Stock, now: float) -> Fate:
    """Return what is to be done with *job* at *now*, in seconds since 1970."""
    status = job.status
    live = status.phase in LIVE
    if not live and is_expired(job, now):
        return Fate.EXPIRE
    since = job.metadata.creation_timestamp if live else status.finished_at
    if not stock.folders:
        return Fate.KEEP  # a whole store that is empty is more likely the wrong one
    fresh = seconds_of(since) > stock.listed_at - stock.slack
    if fresh or job.folder in stock.folders:
        return Fate.KEEP
    if status.phase is Phase.QUEUED and job.spec.inputs is not None:
        return Fate.INPUTS_LOST
    if status.results is not None and not live and status.phase is not Phase.CLEANED:
        return Fate.RESULTS_LOST
    return Fate.KEEP
