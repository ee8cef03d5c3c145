"""What an admission pass looks at: jobs, use, limits and pools, frozen at one instant."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator_crds import OrchestratorService, QuotaSpec


@dataclass(frozen=True)
class Waiting:
    """A job that waits to be admitted. *since* is its creation time, as RFC 3339 text."""

    name: str
    service: str
    user: str
    since: str


@dataclass(frozen=True)
class Held:
    """What one live claim, or one pod that is not over yet, counts against."""

    service: str
    user: str


@dataclass(frozen=True)
class Snapshot:
    """Everything that one admission pass may know. Mappings are keyed by resource name."""

    waiting: tuple[Waiting, ...]
    held: tuple[Held, ...]
    quotas: Mapping[str, QuotaSpec]
    services: Mapping[str, OrchestratorService]
    pools: frozenset[str]
