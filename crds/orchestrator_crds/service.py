"""OrchestratorService: what a service such as "docking" means on this cluster."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator_crds.meta import Column, Model, ObjectName, ReadyStatus, Resource

Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        description="A Kubernetes quantity, such as 500m, 2 or 4Gi.",
    ),
]


class EnvVar(Model):
    """One environment variable of run.sh."""

    name: str = Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Its name.")
    value: str = Field(max_length=4096, description="Its value, taken as it is.")


class ComputeResources(Model):
    """What one job gets: requested and limited alike, so that a job cannot disturb another."""

    cpu: Quantity = Field(default="1", description="CPU, in cores.")
    memory: Quantity = Field(default="1Gi", description="Memory, in bytes.")
    ephemeral_storage: Quantity = Field(
        default="4Gi", description="Disk for the working directory and its results, in bytes."
    )


class InputLimits(Model):
    """What an upload may be."""

    max_bytes: int = Field(default=400 * 1024 * 1024, ge=1, description="Largest upload, in bytes.")
    max_files: int = Field(default=1000, ge=1, le=1000, description="Most files in an upload.")


class ResultLimits(Model):
    """What a job may leave behind."""

    max_bytes: int = Field(default=4 * 1024**3, ge=1, description="Largest results.zip, in bytes.")


class ServiceSpec(Model):
    """How jobs of this service are run."""

    image: str = Field(
        min_length=1,
        max_length=512,
        description="Container image of run.sh. It needs sh, and bash for the default entrypoint.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="As in a pod."
    )
    entrypoint: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(
        default=("bash", "run.sh"),
        min_length=1,
        max_length=64,
        description="Command that is run in the working directory.",
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=128,
        description="Environment variables of the job.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    node_pools: tuple[ObjectName, ...] = Field(
        min_length=1,
        max_length=16,
        description="OrchestratorNodePools to run on; the first that exists is taken.",
    )
    resources: ComputeResources = Field(
        default=ComputeResources(), description="What one job gets."
    )
    deadline_seconds: int = Field(
        default=86400, ge=1, le=2592000, description="Longest that run.sh may run, in seconds."
    )
    grace_seconds: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="Time between SIGTERM and SIGKILL when a job is stopped, in seconds.",
    )
    upload_seconds: int = Field(
        default=600,
        ge=1,
        le=86400,
        description="Longest that saving the results may take after run.sh has ended, in seconds.",
    )
    inputs: InputLimits = Field(default=InputLimits(), description="What an upload may be.")
    results: ResultLimits = Field(
        default=ResultLimits(), description="What a job may leave behind."
    )
    network_isolation: Literal["Required", "BestEffort"] = Field(
        default="Required",
        description="Required: run.sh starts only once its pod was seen to be cut off the network.",
    )
    runtime_class_name: str | None = Field(
        default=None, max_length=253, description="RuntimeClass of the pods, such as gvisor."
    )


class OrchestratorService(Resource):
    """What a service such as "docking" means here: image, limits, where its jobs run."""

    plural = "orchestratorservices"
    short_names = ("osvc",)
    columns = (
        Column("Image", ".spec.image"),
        Column("Pools", ".spec.nodePools"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
    )
    # Pods are labelled with it.
    longest_name = 63

    spec: ServiceSpec = Field(description="How jobs of this service are run.")
    status: ReadyStatus = Field(default=ReadyStatus(), description="Whether it is usable.")
