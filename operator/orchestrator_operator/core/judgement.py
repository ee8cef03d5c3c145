"""Whether what an administrator wrote can be in force: the Ready condition of each such kind."""

from collections.abc import Collection
from dataclasses import dataclass

from orchestrator_crds import OrchestratorNodePool, OrchestratorQuota, OrchestratorService


@dataclass(frozen=True)
class Verdict:
    """Ready or not, as a word for programs and a sentence for people."""

    ready: bool
    reason: str
    message: str


def of_service(service: OrchestratorService, pools: Collection[str]) -> Verdict:
    """Judge a service: it is ready when at least one of its pools exists."""
    missing = [name for name in service.spec.node_pools if name not in pools]
    if len(missing) == len(service.spec.node_pools):
        names = ", ".join(missing)
        return Verdict(False, "UnknownNodePool", f"spec.nodePools: none of these exists: {names}.")
    if missing:
        names = ", ".join(missing)
        return Verdict(
            True, "SomeNodePoolsUnknown", f"spec.nodePools: not used, since unknown: {names}."
        )
    return Verdict(True, "Accepted", "")


def of_quota(quota: OrchestratorQuota, services: Collection[str]) -> Verdict:
    """Judge a quota: every service that it names must exist, or a typing error goes unseen."""
    missing = [name for name in quota.spec.services if name not in services]
    if missing:
        names = ", ".join(missing)
        return Verdict(False, "UnknownService", f"spec.services: there is no service {names}.")
    return Verdict(True, "Accepted", "")


def of_pool(_: OrchestratorNodePool) -> Verdict:
    """Judge a pool: the schema has checked all there is to check."""
    return Verdict(True, "Accepted", "")
