"""OrchestratorNodePool: a set of nodes that jobs may run on."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator_crds.meta import Column, Model, ReadyStatus, Resource

LabelValue = Annotated[str, Field(max_length=63)]


class Toleration(Model):
    """A taint that pods of this pool put up with, as in a pod."""

    key: str | None = Field(default=None, max_length=317, description="Key of the taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How to compare.")
    value: str | None = Field(default=None, max_length=63, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; none means any."
    )


class NodePoolSpec(Model):
    """Which nodes belong to the pool."""

    node_selector: dict[str, LabelValue] = Field(
        min_length=1, max_length=16, description="Labels that a node of this pool has, all of them."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=16, description="Taints of the pool's nodes that jobs tolerate."
    )


class OrchestratorNodePool(Resource):
    """A set of nodes, by label, that services name as the place for their jobs."""

    plural = "orchestratornodepools"
    short_names = ("onp",)
    columns = (
        Column("Selector", ".spec.nodeSelector"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
    )

    # Pods are labelled with it.
    longest_name = 63

    spec: NodePoolSpec = Field(description="Which nodes belong to the pool.")
    status: ReadyStatus = Field(default=ReadyStatus(), description="Whether it is usable.")
