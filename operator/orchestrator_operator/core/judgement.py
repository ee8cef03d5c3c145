"""Whether what an administrator wrote can be in force: the Ready condition of each such kind."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator_crds import (
    OrchestratorNodePool,
    OrchestratorQuota,
    OrchestratorService,
    windows,
)
from orchestrator_operator.core.nodes import ClusterNode


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


def of_quota(quota: OrchestratorQuota, services: Collection[str], now: float) -> Verdict:
    """Judge a quota: what it names must exist, and what it plans must come to be.

    *now* is in seconds since 1970.
    """
    kept = (
        " The last version that was right stays in force."
        if quota.status.in_force is not None
        else " It is not in force."
    )
    missing = [name for name in quota.spec.services if name not in services]
    if missing:
        names = ", ".join(missing)
        sentence = f"spec.services: there is no service {names}."
        return Verdict(False, "UnknownService", sentence + kept)
    if found := windows.problem(quota.spec, now):
        field, sentence = found
        return Verdict(False, "InvalidSchedule", f"{field}: {sentence}{kept}")
    return Verdict(True, "Accepted", "")


def of_pool(pool: OrchestratorNodePool, nodes: Sequence[tuple[ClusterNode, bool]]) -> Verdict:
    """Judge a pool by its nodes: (a node, whether it takes the pool's pods now)."""
    usable = sum(1 for _, takes in nodes if takes)
    if usable or pool.spec.elastic:
        return Verdict(True, "Accepted", "")
    if nodes:
        sentence = (
            f"None of its {len(nodes)} nodes takes jobs now: each is cordoned, not ready, or has a "
            "taint that spec.tolerations does not name."
        )
        return Verdict(False, "NoUsableNode", sentence)
    labels = ", ".join(f"{key}={value}" for key, value in sorted(pool.spec.node_selector.items()))
    return Verdict(False, "NoNode", f"spec.nodeSelector: no node has the labels {labels}.")
