"""Snapshots for tests of the core, in a line or two."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator_crds import OrchestratorQuota, windows
from orchestrator_crds.amounts import vector
from orchestrator_crds.quota import FairShare
from orchestrator_operator.core.admission import Plan
from orchestrator_operator.core.blockers import Blocker, blockers
from orchestrator_operator.core.snapshot import (
    Backlog,
    Demand,
    Group,
    Held,
    Node,
    Pool,
    Rule,
    Service,
    Snapshot,
    Waiting,
)

NOW = 10_000.0
SMALL = Demand.of(vector({"cpu": "1", "memory": "1Gi"}))
BIG = Demand.of(vector({"cpu": "8", "memory": "8Gi"}))


def size(**amounts: str) -> Demand:
    return Demand.of(vector(amounts))


def job(
    name: str,
    user: str = "a",
    *,
    service: str = "example",
    since: float = NOW - 100,
    priority: int = 0,
    demand: Demand = SMALL,
) -> Waiting:
    return Waiting(since, name, Group(service, user, priority, demand))


def jobs(*users: str, service: str = "example", **more: Any) -> list[Waiting]:
    """Return one job for each of *users*, each a little younger than the one before."""
    return [
        job(f"j{n:03}", user, service=service, since=NOW - 100 + n / 100, **more)
        for n, user in enumerate(users)
    ]


def held(user: str = "a", *, service: str = "example", demand: Demand = SMALL, **more: Any) -> Held:
    return Held(service, user, demand, **{"pool": "cpu", **more})


def rule(quota: OrchestratorQuota, now: float = NOW) -> Rule:
    at, spec = windows.in_force(quota.spec, now), quota.spec
    name = quota.metadata.name
    return Rule(name, at.limits, spec.services, spec.only_users, origins=at.origins)


def node(name: str = "n1", *, usable: bool = True, **amounts: Any) -> Node:
    return Node(name, vector({"cpu": "1000", "memory": "1000Gi", **amounts}), usable=usable)


def pool(*nodes: Node, **more: Any) -> Pool:
    largest: dict[str, int] = {}
    for one in nodes:
        for resource, amount in one.allocatable.items():
            largest[resource] = max(largest.get(resource, 0), amount)
    return Pool(nodes=nodes, **{"largest": largest, **more})


def world(
    waiting: Sequence[Waiting],
    *quotas: OrchestratorQuota,
    holding: Sequence[Held] = (),
    services: Mapping[str, Service] | None = None,
    pools: Mapping[str, Pool] | None = None,
    **more: Any,
) -> Snapshot:
    return Snapshot(
        waiting=Backlog(waiting),
        held=tuple(holding),
        rules=[rule(quota) for quota in quotas],
        services={"example": a_facts()} if services is None else services,
        pools={"cpu": pool(node())} if pools is None else pools,
        **{"now": NOW, **more},
    )


def a_facts(*pools: str, **fair: int) -> Service:
    max_priority = fair.pop("max_priority", 0)
    return Service(pools or ("cpu",), SMALL, max_priority, FairShare(**fair))


def users(plan: Plan) -> list[str]:
    return [admitted.group.user for admitted in plan.admitted]


def names(plan: Plan) -> list[str]:
    return [admitted.name for admitted in plan.admitted]


def codes(plan: Plan) -> dict[str, list[str]]:
    """Return why each job that was not admitted waits: name -> words."""
    out = set(names(plan)) | {refused.name for refused in plan.refused}
    return {
        waiting.name: [str(blocker.code) for blocker in blockers(plan, waiting.group)]
        for waiting in plan.snapshot.waiting
        if waiting.name not in out
    }


def why(plan: Plan, name: str) -> Blocker:
    """Return the nearest reason why a job waits."""
    found = plan.snapshot.waiting.get(name)
    assert found is not None
    return blockers(plan, found.group)[0]
