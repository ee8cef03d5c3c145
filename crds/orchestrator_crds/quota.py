"""OrchestratorQuota: who may run how much at once, and when."""

from typing import Annotated

from pydantic import Field

from orchestrator_crds.meta import Column, Model, ObjectName, ReadyStatus, Resource, Timestamp
from orchestrator_crds.resources import MOST_RESOURCES, Amounts

UserName = Annotated[str, Field(min_length=1, max_length=128)]
MOST_USERS = 2000
TOP_USERS = 10


class UserLimits(Model):
    """What holds for one user instead of the limits per user."""

    max_running: int | None = Field(default=None, ge=0, description="Most jobs that run at once.")
    max_queued: int | None = Field(default=None, ge=0, description="Most jobs that wait.")
    max_resources: Amounts = Field(
        default={}, max_length=MOST_RESOURCES, description="Most that running jobs take up."
    )
    weight: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Share of this user while several wait: 2 gets twice what 1 gets.",
    )


class Limits(Model):
    """Limits on jobs; what is not set is not limited here."""

    max_running: int | None = Field(
        default=None, ge=0, description="Most jobs that run at once, of all users together."
    )
    max_running_per_user: int | None = Field(
        default=None, ge=0, description="Most jobs that run at once for any one user."
    )
    max_queued_per_user: int | None = Field(
        default=None,
        ge=0,
        description="Most jobs that wait for any one user; further uploads are turned away (429).",
    )
    max_resources: Amounts = Field(
        default={},
        max_length=MOST_RESOURCES,
        description="Most that running jobs take up in all, by resource: cpu, memory, "
        "ephemeral-storage, nvidia.com/gpu.",
    )
    max_resources_per_user: Amounts = Field(
        default={},
        max_length=MOST_RESOURCES,
        description="Most that the running jobs of any one user take up, by resource.",
    )
    users: dict[str, UserLimits] = Field(
        default={},
        max_length=MOST_USERS,
        description="What holds for a user by name, instead of the limits per user.",
    )


class Window(Limits):
    """Other limits at certain times; what is not set stays as it is."""

    schedule: str = Field(
        min_length=1,
        max_length=128,
        description="When the window opens, as cron has it: minute hour day-of-month month "
        "day-of-week.",
    )
    duration_seconds: int = Field(
        ge=60, le=31 * 86400, description="How long it stays open, in seconds."
    )
    time_zone: str = Field(
        default="UTC", max_length=64, description="Zone of the schedule, such as Europe/Amsterdam."
    )


class Override(Limits):
    """Other limits until a date, after which the usual ones are back by themselves."""

    starts_at: Timestamp | None = Field(default=None, description="From when on; none is now.")
    ends_at: Timestamp = Field(description="Until when.")


class FairShare(Model):
    """How turns are given to users that wait."""

    half_life_seconds: int = Field(
        default=0,
        ge=0,
        le=31536000,
        description="What a user ran in the past counts against new turns, and half as much "
        "after each such time. 0: only what runs now counts.",
    )
    aging_seconds: int = Field(
        default=3600,
        ge=1,
        le=31536000,
        description="A user who got no turn for so long comes first; a job that waits so long "
        "gains one step of priority, and if it is too large for what is free, room is kept for it.",
    )


class QuotaSpec(Limits):
    """Limits on jobs. Every quota that matches a job applies to it."""

    services: tuple[ObjectName, ...] = Field(
        default=(),
        max_length=64,
        description="Services whose jobs are counted together; empty means every service.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    only_users: tuple[UserName, ...] = Field(
        default=(),
        max_length=1024,
        description="Users whose jobs are counted; empty means every user.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    max_running: int | None = Field(
        default=10, ge=0, description="Most jobs that run at once, of all users together."
    )
    max_running_per_user: int | None = Field(
        default=5, ge=0, description="Most jobs that run at once for any one user."
    )
    windows: dict[str, Window] = Field(
        default={},
        max_length=32,
        description="Other limits at certain times, by name. Of windows that are open at once, "
        "the later in order of name wins, limit by limit.",
    )
    overrides: dict[str, Override] = Field(
        default={},
        max_length=32,
        description="Other limits until a date, by name; they win over windows.",
    )
    fair_share: FairShare | None = Field(
        default=None,
        description="How turns are given. Of several quotas of a service that say so, the first "
        "in order of name counts.",
    )

    def counts(self, service: str) -> bool:
        """Return whether jobs of *service* are counted, be it only those of some users."""
        return not self.services or service in self.services

    def matches(self, service: str, user: str) -> bool:
        """Return whether jobs of *user* on *service* are counted."""
        return self.counts(service) and (not self.only_users or user in self.only_users)


class UserUse(Model):
    """What one user has of a quota."""

    user: str = Field(max_length=128, description="The user.")
    running: int = Field(default=0, ge=0, description="Jobs that run.")
    queued: int = Field(default=0, ge=0, description="Jobs that wait.")


class QuotaStatus(ReadyStatus):
    """Whether the quota is in force, and what of it is used."""

    in_force: QuotaSpec | None = Field(
        default=None,
        description="The limits that are in force: the last spec that was found to be right.",
    )
    open: tuple[str, ...] = Field(
        default=(),
        max_length=64,
        description="Windows and overrides that are open now.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    max_running: int | None = Field(
        default=None, ge=0, description="Most jobs that may run at once now."
    )
    running: int | None = Field(default=None, ge=0, description="Jobs that run now.")
    queued: int | None = Field(default=None, ge=0, description="Jobs that wait now.")
    in_use: Amounts = Field(
        default={}, max_length=64, description="What the running jobs take up, by resource."
    )
    top_users: tuple[UserUse, ...] = Field(
        default=(),
        max_length=TOP_USERS,
        description="The users with the most running and waiting jobs.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["user"]},
    )


class OrchestratorQuota(Resource):
    """How much may run at once, in all and per user; lowering it never stops a job."""

    plural = "orchestratorquotas"
    short_names = ("oq",)
    columns = (
        Column("Running", ".status.running", "integer"),
        Column("Max", ".status.maxRunning", "integer"),
        Column("Queued", ".status.queued", "integer"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Services", ".spec.services", wide=True),
        Column("Open", ".status.open", wide=True),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
    )

    spec: QuotaSpec = Field(description="Limits on running jobs.")
    status: QuotaStatus = Field(default=QuotaStatus(), description="Whether it is in force.")
