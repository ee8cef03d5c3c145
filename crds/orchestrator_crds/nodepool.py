"""OrchestratorNodePool: a set of nodes that jobs may run on."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator_crds.meta import Column, Model, ReadyStatus, Resource
from orchestrator_crds.resources import MOST_RESOURCES, Amounts

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
    max_running: int | None = Field(
        default=None, ge=0, description="Most jobs that run in the pool at once; none is no cap."
    )
    max_resources: Amounts = Field(
        default={},
        max_length=MOST_RESOURCES,
        description="Most that the pool's jobs take up in all, by resource, such as cpu: 64.",
    )
    elastic: bool = Field(
        default=False,
        description="Whether an autoscaler adds nodes for pods that wait. Room on today's nodes "
        "then stops no job; caps do.",
    )


class PoolStatus(ReadyStatus):
    """Whether the pool is usable, what it has and what of it is taken."""

    nodes: int | None = Field(default=None, ge=0, description="Nodes that take jobs now.")
    allocatable: Amounts = Field(
        default={}, max_length=64, description="What these nodes have for pods, in all."
    )
    largest_node: Amounts = Field(
        default={},
        max_length=64,
        description="The most of each resource that a node of the pool was ever seen to have, "
        "since the selector was last changed. A job that asks for more will never fit.",
    )
    largest_for: dict[str, LabelValue] = Field(
        default={}, max_length=16, description="The selector that `largestNode` was seen with."
    )
    running: int | None = Field(default=None, ge=0, description="Jobs that run in the pool now.")
    in_use: Amounts = Field(
        default={}, max_length=64, description="What these jobs' pods take up, in all."
    )


class OrchestratorNodePool(Resource):
    """A set of nodes, by label, that services name as the place for their jobs."""

    plural = "orchestratornodepools"
    short_names = ("onp",)
    columns = (
        Column("Nodes", ".status.nodes", "integer"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("CPU", ".status.allocatable.cpu"),
        Column("Memory", ".status.allocatable.memory"),
        Column("Running", ".status.running", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Selector", ".spec.nodeSelector", wide=True),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
    )

    # Pods are labelled with it.
    longest_name = 63

    spec: NodePoolSpec = Field(description="Which nodes belong to the pool.")
    status: PoolStatus = Field(default=PoolStatus(), description="Whether it is usable.")
