"""OrchestratorQuota: how many jobs may run at once."""

from typing import Annotated

from pydantic import Field

from orchestrator_crds.meta import Column, Model, ObjectName, ReadyStatus, Resource


class QuotaSpec(Model):
    """Limits on running jobs. Every quota that matches a job applies to it."""

    services: tuple[ObjectName, ...] = Field(
        default=(),
        max_length=64,
        description="Services whose jobs are counted together; empty means every service.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    users: tuple[Annotated[str, Field(max_length=128)], ...] = Field(
        default=(),
        max_length=1024,
        description="Users whose jobs are counted; empty means every user.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    max_running: int = Field(
        default=10, ge=0, description="Most jobs that run at once, of all users together."
    )
    max_running_per_user: int = Field(
        default=5, ge=0, description="Most jobs that run at once for any one user."
    )


class OrchestratorQuota(Resource):
    """How many jobs may run at once, in all and per user; lowering it never stops a job."""

    plural = "orchestratorquotas"
    short_names = ("oq",)
    columns = (
        Column("Services", ".spec.services"),
        Column("Max", ".spec.maxRunning", "integer"),
        Column("Max per user", ".spec.maxRunningPerUser", "integer"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
    )

    spec: QuotaSpec = Field(description="Limits on running jobs.")
    status: ReadyStatus = Field(default=ReadyStatus(), description="Whether it is in force.")
