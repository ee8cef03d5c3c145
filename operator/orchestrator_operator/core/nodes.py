"""What the operator reads in a node."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator_crds.amounts import vector
from orchestrator_crds.meta import Metadata
from orchestrator_crds.nodepool import Toleration

# Taints that keep new pods away.
_REPELLING = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True)
class ClusterNode:
    """A node as last seen: only what decides which jobs it can take."""

    metadata: Metadata
    allocatable: Mapping[str, int]
    taints: tuple[tuple[str, str, str], ...]
    cordoned: bool
    ready: bool
    # Whether its own runtime can give a pod a user namespace.
    user_namespaces: bool = False

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "ClusterNode":
        """Read a node; raises ValidationError when its metadata is no metadata."""
        spec, status = _part(body, "spec"), _part(body, "status")
        conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or ()}
        taints = tuple(
            (str(t.get("key", "")), str(t.get("value") or ""), str(t.get("effect", "")))
            for t in spec.get("taints") or ()
        )
        return cls(
            metadata=Metadata.model_validate(body.get("metadata")),
            allocatable=vector(_part(status, "allocatable")),
            taints=taints,
            cordoned=bool(spec.get("unschedulable")),
            ready=conditions.get("Ready") == "True",
            user_namespaces=_user_namespaces(status),
        )

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.metadata.name

    def is_like(self, other: "ClusterNode") -> bool:
        """Return whether the node takes just the jobs that *other*, an earlier look at it, took."""
        same = replace(self, metadata=other.metadata) == other
        mine, old = self.metadata, other.metadata
        return same and (mine.labels, mine.deletion_timestamp) == (
            old.labels,
            old.deletion_timestamp,
        )

    def has(self, selector: Mapping[str, str]) -> bool:
        """Return whether the node has all of these labels."""
        labels = self.metadata.labels
        return all(labels.get(key) == value for key, value in selector.items())

    def takes(self, tolerations: Collection[Toleration]) -> bool:
        """Return whether new pods with *tolerations* can come here now."""
        if self.cordoned or not self.ready or self.metadata.deletion_timestamp is not None:
            return False
        return all(
            effect not in _REPELLING or any(_puts_up(t, key, value, effect) for t in tolerations)
            for key, value, effect in self.taints
        )


def _puts_up(toleration: Toleration, key: str, value: str, effect: str) -> bool:
    """Return whether a toleration covers a taint, as the scheduler sees it."""
    if toleration.effect and toleration.effect != effect:
        return False
    if toleration.key and toleration.key != key:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == value


def _user_namespaces(status: dict[str, Any]) -> bool:
    """Return what the node says of the handler that pods of no runtime class get."""
    handlers = status.get("runtimeHandlers")
    own = [
        handler
        for handler in (handlers if isinstance(handlers, list) else ())
        if isinstance(handler, dict) and not handler.get("name")
    ]
    return bool(own) and _part(own[0], "features").get("userNamespaces") is True


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    return part if isinstance(part, dict) else {}
