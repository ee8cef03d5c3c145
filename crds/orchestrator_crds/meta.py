"""What all our custom resources share: group, version, metadata, conditions."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "orchestrator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# A generated schema says `format: date-time`; the models keep the string, since the cluster's
# own timestamps are strings and nothing here does arithmetic on them.
Timestamp = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC.")
]
LONGEST_NAME, OBJECT_NAME = 63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
ObjectName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=OBJECT_NAME)]
LONGEST_URL = 2048
CALLBACK_PATTERN = re.compile(r"^https?://[^/?#@\s]+([/?][^#\s]*)?$")
CallbackURL = Annotated[str, Field(max_length=LONGEST_URL, pattern=CALLBACK_PATTERN.pattern)]


def later(moment: str, seconds: float) -> str:
    """Return the RFC 3339 time that is *seconds* after *moment*; raises ValueError for no time."""
    when = datetime.fromisoformat(moment).astimezone(UTC)
    try:
        when += timedelta(seconds=seconds)
    except OverflowError:
        when = datetime.max.replace(tzinfo=UTC)
    return written(when)


def written(when: datetime) -> str:
    """Return a moment in UTC as Kubernetes writes it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(moment: object) -> float:
    """Return an RFC 3339 time as seconds since 1970, or 0 when there is none that can be read."""
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return 0.0


class Model(BaseModel):
    """A part of a resource: camelCase in YAML, unknown fields ignored, immutable here."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the part as Kubernetes wants it: camelCase, and no nulls, which it rejects."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Owner(Model):
    """A reference to the object that owns another."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class Metadata(Model):
    """The part of Kubernetes' object metadata that we read."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()

    @property
    def version(self) -> int:
        """Return the resourceVersion as a number; they grow (KEP-5504). 0 when it is none."""
        text = self.resource_version
        return int(text) if text.isascii() and text.isdigit() else 0


class Condition(Model):
    """One observation of a resource, in the shape that `kubectl wait` and kstatus read."""

    type: str = Field(description="What is observed, in CamelCase.", max_length=64)
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(description="Why, as one CamelCase word for programs.", max_length=64)
    message: str = Field(default="", description="Why, as a sentence for people.", max_length=4096)
    last_transition_time: Timestamp = Field(description="When `status` last changed.")
    observed_generation: int | None = Field(
        default=None, description="The generation of the spec that was observed."
    )


def set_condition(conditions: tuple[Condition, ...], new: Condition) -> tuple[Condition, ...]:
    """Return *conditions* with *new* in place of its namesake, sorted by type.

    The old transition time is kept where `status` has not changed, as Kubernetes' API
    conventions ask.
    """
    old = next((c for c in conditions if c.type == new.type), None)
    if old is not None and old.status == new.status:
        new = new.model_copy(update={"last_transition_time": old.last_transition_time})
    others = [c for c in conditions if c.type != new.type]
    return tuple(sorted([*others, new], key=lambda c: c.type))


class ReadyStatus(Model):
    """Status of a resource that an administrator writes and the operator judges."""

    observed_generation: int = Field(
        default=-1, description="The generation of the spec that the operator has judged."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="`Ready` says whether the spec is in force, and if not, why.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; `wide` ones show with `-o wide`."""

    name: str
    path: str
    type: Literal["string", "integer", "date", "boolean"] = "string"
    wide: bool = False
    description: str = ""


class Resource(Model):
    """A whole custom resource, and what its CustomResourceDefinition says beside the schema."""

    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[Column, ...]]
    longest_name: ClassVar[int] = 253
    selectable: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[tuple[dict[str, str], ...]] = ()
    status_default: ClassVar[dict[str, Any]] = {"observedGeneration": -1}

    metadata: Metadata

    @classmethod
    def parse(cls, body: object) -> Self:
        """Read a resource from the cluster's JSON; raises ValidationError when it is no such."""
        return cls.model_validate(body)
