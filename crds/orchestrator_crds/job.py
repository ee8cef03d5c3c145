"""OrchestratorJob: one run of one user's files on one service."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orchestrator_crds.lifecycle import Phase
from orchestrator_crds.meta import (
    CallbackURL,
    Column,
    Condition,
    Model,
    ObjectName,
    Resource,
    Timestamp,
)
from orchestrator_crds.names import folder_of_key
from orchestrator_crds.resources import ComputeResources, WantedResources

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex.")]
ObjectKey = Annotated[str, Field(min_length=1, max_length=512)]

MAX_FILES = 1000
LONGEST_TAIL = 4096
MAX_FINDINGS = 20
MAX_SKIPPED = 20
_IMMUTABLE = (
    "id",
    "service",
    "userID",
    "inputs",
    "script",
    "callbackURL",
    "resources",
    "activeDeadlineSeconds",
)


# Steps done of all steps, or percent.
_STEPS = re.compile(r"([0-9]{1,9}) *(?:/ *([0-9]{1,9})\b|%)")


class InputFile(Model):
    """One uploaded file."""

    name: str = Field(min_length=1, max_length=255, description="Its name, without any folder.")
    size_bytes: int = Field(ge=0, description="Its size in bytes.")


class Inputs(Model):
    """Where the uploaded files lie, and what they are."""

    key: ObjectKey = Field(description="Key of the zip in the object store's bucket.")
    size_bytes: int = Field(ge=0, description="Size of the zip in bytes.")
    sha256: Sha256
    files: tuple[InputFile, ...] = Field(
        default=(),
        max_length=MAX_FILES,
        description="The files in the zip, in upload order; of many with long names the first.",
    )
    file_count: int | None = Field(default=None, ge=0, description="How many files it holds.")
    etag: str = Field(
        default="", max_length=128, description="Its ETag; the job gets just this one."
    )
    findings: tuple[Annotated[str, Field(max_length=512)], ...] = Field(
        default=(),
        max_length=MAX_FINDINGS,
        description="Suspicious commands that run.sh holds, each with its line.",
    )


class JobSpec(Model):
    """What is to be run, for whom. Only `terminate` and `priority` can be changed later."""

    id: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="The job's number in the REST API. Set by the API alone.",
    )
    service: ObjectName = Field(description="Name of the OrchestratorService to run on.")
    user_id: str = Field(
        alias="userID",
        min_length=1,
        max_length=128,
        description="Who the job is for, as the portal names them. Quotas count by it.",
    )
    inputs: Inputs | None = Field(
        default=None, description="The uploaded files. Set by the API alone; else use `script`."
    )
    script: str | None = Field(
        default=None,
        min_length=1,
        max_length=65536,
        description="The text of run.sh, for jobs made with kubectl instead of an upload.",
    )
    callback_url: CallbackURL | None = Field(
        default=None,
        alias="callbackURL",
        description="Where the job's end is told, by a signed POST. Needs an administrator's "
        "leave for its host.",
    )
    priority: int = Field(
        default=0,
        ge=-100,
        le=100,
        description="Jobs of a higher priority start first, as far as quotas let them; the "
        "service says how high it may be.",
    )
    resources: WantedResources | None = Field(
        default=None, description="Amounts that differ from the service's, within its maximum."
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2592000,
        description="Longest that run.sh may run, in seconds, within what the service allows.",
    )
    terminate: bool = Field(
        default=False, description="Set to true to stop the job. Cannot be taken back."
    )

    spec_rules: ClassVar[tuple[dict[str, str], ...]] = (
        {
            "rule": "has(self.inputs) != has(self.script)",
            "message": "give either inputs (set by the API) or script, and not both",
        },
        {
            "rule": " && ".join(
                f"has(self.{f}) == has(oldSelf.{f}) && (!has(self.{f}) || self.{f} == oldSelf.{f})"
                for f in _IMMUTABLE
            ),
            "message": "only terminate and priority can be changed after a job is made; "
            "make a new job instead",
        },
        {
            "rule": "!oldSelf.terminate || self.terminate",
            "message": "terminate cannot be taken back; make a new job instead",
        },
    )


class Claim(Model):
    """The operator's promise to run one attempt."""

    epoch: int = Field(ge=0, description="Lease term of the operator that made the claim.")
    pool: str = Field(max_length=63, description="Name of the OrchestratorNodePool chosen.")
    resources: ComputeResources | None = Field(
        default=None, description="What the attempt gets, and what quotas count."
    )


class PodReference(Model):
    """The pod of the current attempt."""

    name: str = Field(max_length=253, description="Its name, in the job's namespace.")
    uid: str = Field(max_length=64, description="Its uid. Only this pod may report results.")
    node: str = Field(default="", max_length=253, description="The node that it runs on.")


class StoredObject(Model):
    """A zip in the object store, with what is needed to know it again."""

    key: ObjectKey = Field(description="Its key in the bucket.")
    size_bytes: int = Field(ge=0, description="Its size in bytes.")
    sha256: Sha256
    etag: str = Field(max_length=128, description="Its ETag; downloads ask for just this one.")
    updated_at: Timestamp


class Progress(Model):
    """How far run.sh says it is."""

    text: str = Field(max_length=200, description="Its own words, such as `3/10 refining`.")
    done: int | None = Field(default=None, ge=0, description="Steps done, if it gave a number.")
    total: int | None = Field(default=None, ge=0, description="Steps in all, if it gave a number.")
    updated_at: Timestamp

    @classmethod
    def read(cls, text: str, now: str) -> "Progress | None":
        """Return what a line such as `3/10 refining` or `40%` says; None when it says nothing."""
        clean = "".join(c for c in text if c.isprintable()).strip()[:200]
        if not clean:
            return None
        found = _STEPS.match(clean)
        done, total = (int(found[1]), int(found[2] or 100)) if found else (None, None)
        return cls(text=clean, done=done, total=total, updated_at=now)


class Skipped(Model):
    """What the results leave out: links, sockets, devices, and what could not be read."""

    count: int = Field(ge=0, description="How many.")
    names: tuple[Annotated[str, Field(max_length=512)], ...] = Field(
        default=(), max_length=MAX_SKIPPED, description="The first of them."
    )


class Callback(Model):
    """Whether the end of the job was told to its callback."""

    url: str = Field(default="", max_length=2048, description="Where.")
    state: Literal["Pending", "Delivered", "Failed", "Refused"] = Field(
        description="Refused: the administrator does not allow the host. Failed: given up."
    )
    attempts: int = Field(default=0, ge=0, description="How often it was tried.")
    message: str = Field(default="", max_length=512, description="What came back at the last try.")
    updated_at: Timestamp


class JobStatus(Model):
    """What became of the job so far. Written by operator and gateway only."""

    observed_generation: int = Field(
        default=-1, description="The generation of the spec that was acted on."
    )
    phase: Phase = Field(
        default=Phase.QUEUED, description="Where the job is; the REST status word."
    )
    reason: str = Field(default="", max_length=64, description="Why, as one word for programs.")
    message: str = Field(default="", max_length=8192, description="Why, as a sentence for people.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="Admitted, Finished (wait for this one), Succeeded, Stalled (failed).",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    attempt: int = Field(default=0, ge=0, description="How often a pod was claimed for the job.")
    claim: Claim | None = Field(default=None, description="Set while an attempt is under way.")
    pod: PodReference | None = Field(default=None, description="Set once the attempt has started.")
    exit_code: int | None = Field(default=None, description="Exit code of run.sh, if it ended.")
    submitted_at: Timestamp | None = Field(default=None, description="When it was admitted.")
    started_at: Timestamp | None = Field(default=None, description="When its pod got the inputs.")
    finished_at: Timestamp | None = Field(default=None, description="When it reached its end.")
    expires_at: Timestamp | None = Field(
        default=None, description="When its files are deleted, and this resource with them."
    )
    infrastructure_retries: int = Field(
        default=0, ge=0, description="New attempts so far for failures that were not the job's."
    )
    user_retries: int = Field(
        default=0, ge=0, description="New attempts so far after run.sh itself failed."
    )
    not_before: Timestamp | None = Field(
        default=None, description="A job that is to be run again waits at least until then."
    )
    progress: Progress | None = Field(default=None, description="How far run.sh says it is.")
    snapshots: Literal["Paced", "OnRequest"] = Field(
        default="Paced",
        description="Partial results are saved now and then, or, when they are large, only once "
        "somebody asks for them.",
    )
    snapshot_wanted_at: Timestamp | None = Field(
        default=None, description="When partial results were last asked for, if on request."
    )
    results: StoredObject | None = Field(
        default=None, description="The working directory as run.sh left it."
    )
    skipped: Skipped | None = Field(default=None, description="What the results leave out.")
    log_tail: str = Field(
        default="", max_length=LONGEST_TAIL, description="The end of what run.sh printed."
    )
    callback: Callback | None = Field(
        default=None, description="Whether the job's end was told to its callback."
    )


class OrchestratorJob(Resource):
    """A user's files, to be run once by a service; made by REST upload or kubectl."""

    plural = "orchestratorjobs"
    short_names = ("oj",)
    columns = (
        Column("Service", ".spec.service"),
        Column("User", ".spec.userID"),
        Column("Phase", ".status.phase"),
        Column("Reason", ".status.reason"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Pool", ".status.claim.pool", wide=True),
        Column("Node", ".status.pod.node", wide=True),
        Column("Started", ".status.startedAt", "date", wide=True),
        Column("Finished", ".status.finishedAt", "date", wide=True),
        Column("Exit", ".status.exitCode", "integer", wide=True),
        Column("Message", ".status.message", wide=True),
    )
    # Room for the number that its pods' names add, within the 63 that a label's value may have.
    longest_name = 52
    selectable = (
        ".spec.service",
        ".spec.userID",
        ".status.phase",
        ".status.claim.pool",
        ".status.callback.state",
    )
    rules = (
        {
            # Not `name == 'job-' + string(id)`: the server deems that too dear to compute.
            "rule": "!has(self.spec.id) || (self.metadata.name.startsWith('job-')"
            " && self.metadata.name.substring(4) == string(self.spec.id))",
            "message": "a job with an id must be named job-<id>",
        },
    )
    status_default = {"observedGeneration": -1, "phase": "Queued"}  # noqa: RUF012

    spec: JobSpec = Field(description="What is to be run, for whom.")
    status: JobStatus = Field(default=JobStatus(), description="What became of it so far.")

    @property
    def folder(self) -> str:
        """Return the job's folder in the object store; ValueError when `inputs.key` is no key."""
        return folder_of_key(self.spec.inputs.key) if self.spec.inputs else self.metadata.uid
