"""Bodies of the REST contract; field names and spelling are what portals read."""

from typing import Literal

from pydantic import BaseModel, Field

from orchestrator_crds import OrchestratorJob, Phase
from orchestrator_crds.explanation import Explanation
from orchestrator_crds.lifecycle import LIVE


class JobAnswer(BaseModel):
    """How a job is doing."""

    id: int = Field(description="The job's number.")
    status: str = Field(description="Queued, Submitted, Running, Completed, Failed, …; or Unknown.")
    message: str = Field(description="A sentence for people.")


class Refusal(BaseModel):
    """What could not be done, and why."""

    id: Literal[0] = 0
    status: Literal["Unknown"] = "Unknown"
    message: str = Field(description="What went wrong, and what to do.")


class Health(BaseModel):
    """Whether the API can do its work."""

    status: Literal["ok", "error"]
    database: str = Field(description="ok, or what cannot be reached.")


class Pong(BaseModel):
    """The answer of the root path."""

    message: Literal["pong"] = "pong"


class JobExplanation(Explanation):
    """Why a job waits, or how it is doing if it does not."""

    id: int = Field(description="The job's number.")
    status: str = Field(description="Queued, Submitted, Running, …")
    reason: str = Field(description="The nearest reason, as one word; empty when there is none.")
    message: str = Field(description="The same as a sentence for people.")
    complete: bool = Field(
        description="False when the operator, which knows all but reason and message, could not "
        "be asked. Ask again."
    )


_WORDS = {
    Phase.QUEUED: "The job waits for its turn.",
    Phase.SUBMITTED: "The job was given a node and is starting.",
    Phase.RUNNING: "The job is running.",
}


def phase_for_rest(job: OrchestratorJob) -> Phase:
    """Return the phase as REST tells it: a job asked to stop counts as stopped at once."""
    if job.spec.terminate and job.status.phase in LIVE:
        return Phase.KILLED
    return job.status.phase


def answer(job: OrchestratorJob) -> JobAnswer:
    """Return what a poll of *job* is answered."""
    phase = phase_for_rest(job)
    message = job.status.message or _WORDS.get(phase, "")
    if phase is Phase.RUNNING and job.status.progress is not None and not job.status.reason:
        message = f"The job is running: {job.status.progress.text}"
    if phase is Phase.KILLED and job.status.phase in LIVE:
        message = "The job is being stopped, as was asked."
    elif phase in {Phase.FAILED, Phase.KILLED} and job.status.results is not None:
        # On a line of its own, since what stands before may be the job's log.
        message += f"\nWhat it left is at /download_partial/{job.spec.id}."
    return JobAnswer(id=job.spec.id or 0, status=str(phase), message=message)
