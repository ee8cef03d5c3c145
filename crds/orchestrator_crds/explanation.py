"""Why a job waits, as the operator tells the API and the API tells its callers.

Numbers are jobs, nodes, or amounts of a resource in Kubernetes' base unit: cores, bytes, devices.
"""

from pydantic import Field

from orchestrator_crds.meta import Model, Timestamp

Number = int | float


class Blocker(Model):
    """One thing that keeps a job from starting."""

    code: str = Field(description="What it is, as one word for programs: UserLimit, PoolFull, …")
    message: str = Field(description="The same as a sentence for people.")
    kind: str = Field(default="", description="Kind of the object that it comes from.")
    name: str = Field(default="", description="Name of that object.")
    field: str = Field(default="", description="Where in that object the limit stands.")
    resource: str = Field(default="", description="What is limited; empty where jobs are counted.")
    limit: Number | None = Field(default=None, description="The limit.")
    used: Number | None = Field(default=None, description="What of it is taken, by all users.")
    yours: Number | None = Field(default=None, description="What of it this user's jobs take.")


class Change(Model):
    """One number that would be another."""

    kind: str = Field(description="Kind of the object to change.")
    name: str = Field(description="Name of that object.")
    field: str = Field(default="", description="The field; empty for the number of its nodes.")
    resource: str = Field(default="", description="What is limited; empty for jobs and nodes.")
    before: Number = Field(description="What it is now.")
    after: Number = Field(description="The least that would do.")


class Remedy(Model):
    """What would start the job now, all of it together."""

    message: str = Field(description="All of it as a sentence.")
    ends: int = Field(default=0, description="How many of the user's running jobs have to end.")
    changes: tuple[Change, ...] = Field(default=(), description="What has to be changed.")


class ExpectedStart(Model):
    """When the job is likely to start, if nobody else uploads anything."""

    earliest: Timestamp = Field(description="Hardly before this.")
    latest: Timestamp | None = Field(default=None, description="Hardly after this, if it is known.")


class Explanation(Model):
    """Everything that is known of why a job waits, at one moment."""

    as_of: Timestamp = Field(description="When this was so.")
    position: int | None = Field(
        default=None,
        description="Whose turn it is among the jobs that wait for the service, from 1; null when "
        "it is far back.",
    )
    waiting: int | None = Field(default=None, description="How many jobs wait for the service.")
    blockers: tuple[Blocker, ...] = Field(
        default=(),
        description="What is in the way, the nearest first; empty when it is only a matter of "
        "moments.",
    )
    remedies: tuple[Remedy, ...] = Field(
        default=(),
        description="The smallest changes that would start it now; each is enough by itself.",
    )
    expected_start: ExpectedStart | None = Field(
        default=None, description="Learned from how long jobs took; null when that is not known."
    )
