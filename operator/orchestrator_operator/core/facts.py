"""What resources mean for admission: each kind of object as a part of a snapshot."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from orchestrator_crds import (
    OrchestratorJob,
    OrchestratorNodePool,
    OrchestratorQuota,
    OrchestratorService,
    QuotaSpec,
    ServiceSpec,
    windows,
)
from orchestrator_crds.amounts import vector
from orchestrator_crds.meta import seconds_of
from orchestrator_crds.quota import FairShare
from orchestrator_crds.resources import ComputeResources, demand, unlisted
from orchestrator_operator.core import snapshot
from orchestrator_operator.core.nodes import ClusterNode
from orchestrator_operator.core.pods import Pod
from orchestrator_operator.core.snapshot import Demand, Group, Held, Rule, Waiting

# A claim is written a moment after it was decided, so it must also be right then: limits that
# change within this time, in seconds, count already, beside those of now.
AHEAD_SECONDS = 5.0


def resources_of(job: OrchestratorJob, service: ServiceSpec) -> ComputeResources:
    """Return what an attempt at *job* gets: what its claim says, or else what its service gives."""
    claim = job.status.claim
    if claim is not None and claim.resources is not None:
        return claim.resources
    return demand(service.resources, job.spec.resources)


def demand_of(resources: ComputeResources) -> Demand:
    """Return *resources* as quotas count them."""
    return _demand(tuple(resources.amounts().items()))


@lru_cache(maxsize=4096)
def _demand(amounts: tuple[tuple[str, str], ...]) -> Demand:
    return Demand.of(vector(dict(amounts)))


def waiting(job: OrchestratorJob, service: ServiceSpec | None) -> Waiting:
    """Return a queued job as it waits; one whose service is not there takes up nothing.

    Nor does one that asks for what its service does not have, which ends before it is its turn.
    """
    size, wanted = Demand(), job.spec.resources
    if service and not unlisted(service.resources, service.max_resources, wanted):
        size = demand_of(demand(service.resources, wanted))
    group = Group(job.spec.service, job.spec.user_id, job.spec.priority, size)
    return Waiting(seconds_of(job.metadata.creation_timestamp), job.metadata.name, group)


def held_by_claim(job: OrchestratorJob, service: ServiceSpec | None, pod: Pod | None) -> Held:
    """Return what the live claim of *job* holds; *pod* is that of its attempt, if it is seen."""
    claim = job.status.claim
    known = resources_of(job, service) if service else claim and claim.resources
    return Held(
        service=job.spec.service,
        user=job.spec.user_id,
        demand=demand_of(known) if known else Demand(),
        pool=claim.pool if claim else "",
        node=pod.node if pod else "",
        stuck=bool(pod and pod.unschedulable and not pod.node),
        since=seconds_of(job.status.submitted_at),
    )


def held_by_pod(pod: Pod) -> Held:
    """Return what a pod holds that is not over, whatever became of its job."""
    return Held(
        service=pod.service,
        user=pod.user,
        demand=_demand(tuple(pod.requests.items())),
        pool=pod.pool,
        node=pod.node,
        stuck=bool(pod.unschedulable and not pod.node),
        since=pod.created,
    )


def specs_in_force(quota: OrchestratorQuota, *, ready: bool) -> list[tuple[QuotaSpec, bool]]:
    """Return the specs of *quota* that hold now, each with whether it may let anything start.

    What is in force stands in its status, and changes by one write there. Until an edit is
    acknowledged so, the old and the new limits both apply; so a claim that is decided meanwhile
    is right under either. A new quota lets nothing start before. *ready* says whether the spec
    as it is now is right; a wrong one leaves the last right one in force.
    """
    known = quota.status.in_force
    specs = [(known, True)] if known is not None else []
    if ready and quota.spec != known:
        specs.append((quota.spec, False))
    return specs


class Limits:
    """The rules of all quotas at a moment; remembers them until the next window opens or closes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[QuotaSpec, windows.InForce]] = {}

    def rules(
        self, quotas: Iterable[tuple[OrchestratorQuota, bool]], now: float
    ) -> tuple[list[Rule], float | None]:
        """Return the rules at *now*, and when they change by themselves, if they do."""
        rules, changes, used = [], [], set()
        for quota, ready in quotas:
            name = quota.metadata.name
            for number, (spec, grants) in enumerate(specs_in_force(quota, ready=ready)):
                key = (name, number)
                used.add(key)
                current = self._at(key, spec, now)
                rules.append(_rule(name, spec, current, grants=grants))
                if current.until is not None:
                    changes.append(current.until)
                    if current.until <= now + AHEAD_SECONDS:
                        soon = windows.in_force(spec, now + AHEAD_SECONDS)
                        rules.append(_rule(name, spec, soon, grants=False))
        self._known = {key: value for key, value in self._known.items() if key in used}
        return rules, min(changes, default=None)

    def _at(self, key: tuple[str, int], spec: QuotaSpec, now: float) -> windows.InForce:
        known = self._known.get(key)
        if known is not None and known[0] is spec and now < (known[1].until or now + 1):
            return known[1]
        found = windows.in_force(spec, now)
        self._known[key] = (spec, found)
        return found


def _rule(name: str, spec: QuotaSpec, at: windows.InForce, *, grants: bool) -> Rule:
    services, users = frozenset(spec.services), frozenset(spec.only_users)
    return Rule(name, at.limits, services, users, grants, at.origins)


def service(found: OrchestratorService, quotas: Iterable[OrchestratorQuota]) -> snapshot.Service:
    """Return what admission needs to know of a service."""
    spec = found.spec
    return snapshot.Service(
        pools=spec.node_pools,
        usual=demand_of(spec.resources),
        max_priority=spec.max_priority,
        fair_share=fair_share(found.metadata.name, quotas),
    )


def fair_share(service: str, quotas: Iterable[OrchestratorQuota]) -> FairShare:
    """Return how turns are given on *service*: as the first quota by name says that says so."""
    for quota in sorted(quotas, key=lambda quota: quota.metadata.name):
        spec = quota.status.in_force
        if spec and spec.fair_share and spec.counts(service):
            return spec.fair_share
    return FairShare()


def nodes_of(
    pool: OrchestratorNodePool, nodes: Mapping[str, ClusterNode]
) -> list[tuple[ClusterNode, bool]]:
    """Return the nodes with the pool's labels, each with whether it takes pods of the pool now."""
    spec = pool.spec
    return [
        (node, node.takes(spec.tolerations))
        for _, node in sorted(nodes.items())
        if node.has(spec.node_selector)
    ]


def pool(found: OrchestratorNodePool, nodes: Mapping[str, ClusterNode]) -> snapshot.Pool:
    """Return what admission needs to know of a node pool."""
    spec, members = found.spec, nodes_of(found, nodes)
    return snapshot.Pool(
        nodes=tuple(snapshot.Node(n.name, n.allocatable, usable=ok) for n, ok in members),
        elastic=spec.elastic,
        largest=largest(found, [node for node, _ in members]),
        max_running=spec.max_running,
        max_resources=vector(spec.max_resources),
    )


def largest(pool: OrchestratorNodePool, nodes: Iterable[ClusterNode]) -> dict[str, int]:
    """Return the most of each resource that a node of the pool was ever seen to have.

    Nodes come and go; what the pool's status remembers counts for as long as its selector stays.
    """
    status = pool.status
    known = vector(status.largest_node) if status.largest_for == pool.spec.node_selector else {}
    for node in nodes:
        for resource, amount in node.allocatable.items():
            known[resource] = max(known.get(resource, 0), amount)
    return known
