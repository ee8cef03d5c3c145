"""OrchestratorService: what a service such as "docking" means on this cluster."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orchestrator_crds.meta import (
    CallbackURL,
    Column,
    Model,
    ObjectName,
    ReadyStatus,
    Resource,
)
from orchestrator_crds.resources import ComputeResources, WantedResources


class EnvVar(Model):
    """One environment variable of run.sh."""

    name: str = Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Its name.")
    value: str = Field(max_length=4096, description="Its value, taken as it is.")


class EgressPort(Model):
    """A port, or a range of them, that jobs may reach."""

    port: int = Field(ge=1, le=65535, description="The port, or the first of a range.")
    end_port: int | None = Field(
        default=None, ge=1, le=65535, description="The last port of a range."
    )
    protocol: Literal["TCP", "UDP"] = Field(default="TCP", description="As in a NetworkPolicy.")


class EgressRule(Model):
    """Where jobs may connect to."""

    cidr: str = Field(
        max_length=43, description="A network such as 192.0.2.0/24, or one address with /32."
    )
    ports: tuple[EgressPort, ...] = Field(
        min_length=1, max_length=32, description="The ports there that jobs may reach."
    )


class InputLimits(Model):
    """What an upload may be."""

    max_bytes: int = Field(default=400 * 1024 * 1024, ge=1, description="Largest upload, in bytes.")
    max_files: int = Field(default=1000, ge=1, le=1000, description="Most files in an upload.")


class ResultLimits(Model):
    """What a job may leave behind."""

    max_bytes: int = Field(default=4 * 1024**3, ge=1, description="Largest results.zip, in bytes.")
    max_paced_snapshot_bytes: int = Field(
        default=1024**3,
        ge=0,
        description="Working directories up to this size, in bytes, are saved now and then while "
        "the job runs; larger ones only when partial results are asked for.",
    )


class Retries(Model):
    """How often a job is run again by itself."""

    infrastructure: int = Field(
        default=3,
        ge=0,
        le=20,
        description="Most new attempts after failures that are not the job's: a lost node, an "
        "image that could not be pulled, a file store that was away.",
    )
    user: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Most new attempts after run.sh itself failed.",
    )
    backoff_seconds: int = Field(
        default=10,
        ge=0,
        le=3600,
        description="Pause before a new attempt, in seconds. It doubles each time, up to 600.",
    )


class Retention(Model):
    """How long what is left of a job is kept after its end."""

    results_seconds: int = Field(
        default=864000,
        ge=0,
        description="Files of a job that completed, in seconds (10 days by default).",
    )
    failed_seconds: int = Field(
        default=864000,
        ge=0,
        description="Files of a job that failed, was killed or is invalid, in seconds.",
    )
    record_seconds: int = Field(
        default=31536000,
        ge=0,
        description="The record that says how a job ended, in seconds (a year by default).",
    )


class ServiceSpec(Model):
    """How jobs of this service are run."""

    spec_rules: ClassVar[tuple[dict[str, str], ...]] = (
        {
            "rule": "!has(self.egress) || self.egress.all(e, "
            "isCIDR(e.cidr) && cidr(e.cidr) == cidr(e.cidr).masked())",
            "message": "egress: each cidr is a network such as 192.0.2.0/24, with no bits set "
            "behind its length",
        },
        {
            "rule": "!has(self.egress) || self.egress.all(e, e.ports.all(p, "
            "!has(p.endPort) || p.endPort >= p.port))",
            "message": "egress: an endPort is not below its port",
        },
        {
            "rule": "!has(self.egress) || self.egress.all(e, e.ports.all(p, "
            "p.port > 8082 || (has(p.endPort) ? p.endPort : p.port) < 8082))",
            "message": "egress: port 8082 stays closed, since that it is proves the isolation; "
            "leave it out",
        },
    )

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
        description="OrchestratorNodePools to run on, the preferred one first. A job goes to "
        "the first that has room for it now.",
    )
    resources: ComputeResources = Field(
        default=ComputeResources(), description="What a job gets that asks for nothing else."
    )
    max_resources: WantedResources | None = Field(
        default=None,
        description="The most that a job may ask for; what is not named is as in `resources`.",
    )
    max_priority: int = Field(
        default=0, ge=0, le=100, description="Higher priorities of jobs count as this one."
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
    egress: tuple[EgressRule, ...] = Field(
        default=(),
        max_length=32,
        description="Where jobs may connect to beside the gateway. Nowhere, unless listed here. "
        "There is no name service, so name a proxy by its address where names are needed.",
    )
    retries: Retries = Field(
        default=Retries(), description="How often a job is run again by itself."
    )
    retention: Retention = Field(
        default=Retention(), description="How long what is left of a job is kept."
    )
    script_policy: Literal["Enforce", "Warn", "Off"] = Field(
        default="Warn",
        description="What to do with a run.sh that holds a suspicious command. Warn: note it in "
        "an uploaded job. Enforce: the job becomes Invalid, one made with kubectl when its turn "
        "has come. Pods are shut in either way.",
    )
    data: tuple[ObjectName, ...] = Field(
        default=(),
        max_length=16,
        description="PersistentVolumeClaims with reference data, in the jobs' namespace. Each is "
        "mounted read-only at /data/<name>.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    callback_url: CallbackURL | None = Field(
        default=None,
        alias="callbackURL",
        description="Where the end of a job is told, unless the job names another place.",
    )
    host_users: bool | None = Field(
        default=None,
        description="As in a pod: false gives each a user namespace of its own. Left out, they "
        "have one where every node of the pool offers it, unless `data` or `runtimeClassName` is "
        "set, which may not go with it.",
    )
    runtime_class_name: str | None = Field(
        default=None, max_length=253, description="RuntimeClass of the pods, such as gvisor."
    )


class ServiceStatus(ReadyStatus):
    """Whether the service is usable, and how busy it is."""

    running: int | None = Field(default=None, ge=0, description="Jobs that run now.")
    queued: int | None = Field(default=None, ge=0, description="Jobs that wait now.")


class OrchestratorService(Resource):
    """What a service such as "docking" means here: image, limits, where its jobs run."""

    plural = "orchestratorservices"
    short_names = ("osvc",)
    columns = (
        Column("Pools", ".spec.nodePools"),
        Column("Running", ".status.running", "integer"),
        Column("Queued", ".status.queued", "integer"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Image", ".spec.image", wide=True),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", wide=True),
    )
    # Pods are labelled with it.
    longest_name = 63

    spec: ServiceSpec = Field(description="How jobs of this service are run.")
    status: ServiceStatus = Field(default=ServiceStatus(), description="Whether it is usable.")
