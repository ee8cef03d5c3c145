"""How busy quotas, services and pools are, as parts of their statuses."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator_crds import OrchestratorNodePool, OrchestratorQuota, QuotaSpec, windows
from orchestrator_crds.amounts import exact
from orchestrator_crds.quota import TOP_USERS
from orchestrator_operator.core import facts
from orchestrator_operator.core.nodes import ClusterNode
from orchestrator_operator.core.snapshot import Demand, Held, Snapshot


def of_quota(quota: OrchestratorQuota, snapshot: Snapshot) -> dict[str, Any]:
    """Return use and limits of *quota* now, and the users who have the most of it."""
    spec = quota.status.in_force
    if spec is None:
        return {"maxRunning": None, "open": [], "running": None, "queued": None}
    now = windows.in_force(spec, snapshot.now)
    held = [item for item in snapshot.held if spec.matches(item.service, item.user)]
    queued = _queued(spec, snapshot)
    running = Counter(item.user for item in held)
    busiest = sorted({*running, *queued}, key=lambda user: (-running[user], -queued[user], user))
    top = [
        {"user": user, "running": running[user], "queued": queued[user]}
        for user in busiest[:TOP_USERS]
    ]
    return {
        "maxRunning": now.limits.max_running,
        "open": list(now.open),
        "running": len(held),
        "queued": queued.total(),
        "inUse": _sum(item.demand for item in held),
        "topUsers": top,
    }


def _queued(spec: QuotaSpec, snapshot: Snapshot) -> Counter[str]:
    queued: Counter[str] = Counter()
    for group, jobs in snapshot.waiting.groups.items():
        if spec.matches(group.service, group.user):
            queued[group.user] += len(jobs)
    return queued


def of_services(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Return how many jobs of every service run and wait."""
    running = Counter(item.service for item in snapshot.held)
    queued: Counter[str] = Counter()
    for group, jobs in snapshot.waiting.groups.items():
        queued[group.service] += len(jobs)
    return {name: {"running": running[name], "queued": queued[name]} for name in snapshot.services}


def of_pool(
    pool: OrchestratorNodePool, nodes: Sequence[tuple[ClusterNode, bool]], held: Iterable[Held]
) -> dict[str, Any]:
    """Return what *pool* has and what of it is taken; *nodes* are (node, if it is usable)."""
    here = [item for item in held if item.pool == pool.metadata.name]
    allocatable: Counter[str] = Counter()
    for node, usable in nodes:
        if usable:
            allocatable.update(node.allocatable)
    return {
        "nodes": sum(1 for _, usable in nodes if usable),
        "allocatable": _amounts(allocatable),
        "largestNode": _amounts(facts.largest(pool, [node for node, _ in nodes])),
        "largestFor": dict(pool.spec.node_selector),
        "running": len(here),
        "inUse": _sum(item.demand for item in here),
    }


def _sum(demands: Iterable[Demand]) -> dict[str, str]:
    total: Counter[str] = Counter()
    for demand in demands:
        total.update(dict(demand.amounts))
    return _amounts(total)


def _amounts(amounts: Mapping[str, int]) -> dict[str, str]:
    named = {name: exact(name, value) for name, value in sorted(amounts.items()) if value}
    # A status holds no more names than this; a node may have any number of devices.
    return dict(list(named.items())[:64])
