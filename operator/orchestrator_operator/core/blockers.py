"""Why a job waits: everything that is in its way after a pass, each as a sentence.

Of other users' jobs only numbers are told.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator_crds.amounts import readable
from orchestrator_crds.lifecycle import Reason
from orchestrator_operator.core.admission import Plan
from orchestrator_operator.core.meters import Meter
from orchestrator_operator.core.rooms import PoolRoom
from orchestrator_operator.core.snapshot import Group


@dataclass(frozen=True)
class Blocker:
    """One thing in a job's way: a word for programs, the limit that it is, and a sentence.

    Numbers are jobs, or amounts of *resource* in thousandths. *yours* is what the user's own jobs
    have of *used*.
    """

    code: Reason
    message: str
    kind: str = ""
    name: str = ""
    field: str = ""
    resource: str = ""
    limit: int | None = None
    used: int | None = None
    yours: int | None = None


def blockers(plan: Plan, group: Group) -> list[Blocker]:
    """Return what keeps jobs of *group* from starting, the nearest reason first.

    Empty when nothing does: such a job is only waiting for its turn in the next pass.
    """
    service = plan.snapshot.services.get(group.service)
    if service is None:
        sentence = f"There is no OrchestratorService {group.service} now."
        return [Blocker(Reason.SERVICE_NOT_READY, sentence, "OrchestratorService", group.service)]
    charges = plan.meters.of(group.service, group.user, group.demand)
    if charges is None:
        sentence = (
            f"No OrchestratorQuota that is in force matches service {group.service} and this user; "
            "an administrator must make one."
        )
        return [Blocker(Reason.NO_QUOTA, sentence)]
    found = [
        _limit(plan, group, meter, amount)
        for meter, amount in charges
        if meter.used + meter.kept + amount > meter.limit
    ]
    rooms = plan.rooms
    if rooms.find(rooms.doors(service.pools, group.demand)) is None:
        found += _pools(plan, group, service.pools)
    return found


def _limit(plan: Plan, group: Group, meter: Meter, amount: int) -> Blocker:
    name, resource = meter.name, meter.resource
    yours = meter.used if meter.user else _own(plan, group, meter)
    code, message = _sentence(meter, amount, f"Quota {name}")
    return Blocker(
        code,
        message,
        meter.kind,
        name,
        f"spec.{meter.field}",
        resource,
        meter.limit,
        meter.used,
        yours,
    )


def _sentence(meter: Meter, amount: int, who: str) -> tuple[Reason, str]:
    own, resource = bool(meter.user), meter.resource
    if not resource:
        if meter.limit == 0:
            whom = "this user run no job" if own else "no job run"
            return (
                Reason.USER_LIMIT if own else Reason.SERVICE_LIMIT,
                f"{who} lets {whom} now; an administrator can raise the limit.",
            )
        if own:
            return Reason.USER_LIMIT, (
                f"{who} lets one user run {jobs(meter.limit)} at once; {meter.used} of this user's "
                "are running. This one starts when one of them ends."
            )
        return Reason.SERVICE_LIMIT, (
            f"{who} lets {jobs(meter.limit)} run at once; {meter.used} are running. "
            "This one starts when its turn comes."
        )
    code = Reason.USER_RESOURCE_LIMIT if own else Reason.RESOURCE_LIMIT
    holder = "one user" if own else "its jobs"
    limit, used, wanted = (readable(resource, n) for n in (meter.limit, meter.used, amount))
    allows = f"{who} allows {holder} {limit} of {resource} at once"
    if amount > meter.limit:
        return (
            code,
            f"{allows}, and this job alone asks for {wanted}; an administrator can raise it.",
        )
    if meter.used + amount <= meter.limit:
        return Reason.RESERVED, (
            f"{allows}; what is free of it is kept for a larger job that has waited longer."
        )
    return code, f"{allows}; {used} are taken, and this job asks for {wanted}."


def _own(plan: Plan, group: Group, meter: Meter) -> int:
    """Return what of *meter* the user's own jobs take up."""
    own = 0
    for held in plan.snapshot.held:
        if held.user != group.user:
            continue
        for charged, amount in plan.meters.of(held.service, held.user, held.demand) or ():
            if charged is meter:
                own += amount
    return own


def _pools(plan: Plan, group: Group, names: Iterable[str]) -> list[Blocker]:
    return [_pool(plan, group, name, plan.rooms.pools.get(name)) for name in names]


def _pool(plan: Plan, group: Group, name: str, pool: PoolRoom | None) -> Blocker:
    kind = "OrchestratorNodePool"
    if pool is None:
        sentence = f"There is no node pool {name}; an administrator must make it."
        return Blocker(Reason.POOL_NOT_READY, sentence, kind, name)
    for meter, amount in pool.charges(group.demand):
        if meter.used + amount > meter.limit:
            return _cap(plan, group, meter)
    if not pool.nodes:
        known = len(pool.pool.nodes)
        sentence = (
            f"None of the {known} nodes of pool {name} takes jobs now: each is cordoned, not ready "
            "or tainted."
            if known
            else f"Pool {name} has no nodes now."
        )
        return Blocker(Reason.POOL_NOT_READY, sentence, kind, name)
    pod = plan.rooms.pod(group.demand)
    if (resource := pool.too_small_for(pod)) is not None:
        return Blocker(Reason.NEVER_FITS, too_large(plan, group, resource, name), kind, name)
    if any(node.kept and node.fits(pod) for node in pool.nodes):
        sentence = f"What is free on pool {name} is kept for a larger job that has waited longer."
        return Blocker(Reason.RESERVED, sentence, kind, name)
    sentence = f"No node of pool {name} has room for this job now ({_asks(group)})."
    return Blocker(Reason.POOL_FULL, sentence, kind, name)


def _cap(plan: Plan, group: Group, meter: Meter) -> Blocker:
    own = sum(
        dict(held.demand.amounts).get(meter.resource, 0) if meter.resource else 1
        for held in plan.snapshot.held
        if held.pool == meter.name and held.user == group.user
    )
    if meter.resource:
        limit, used = (readable(meter.resource, n) for n in (meter.limit, meter.used))
        sentence = f"Pool {meter.name} takes {limit} of {meter.resource} at once; {used} are taken."
    else:
        sentence = f"Pool {meter.name} takes {jobs(meter.limit)} at once; {meter.used} run there."
    field = f"spec.{meter.field}"
    return Blocker(
        Reason.POOL_FULL,
        sentence,
        meter.kind,
        meter.name,
        field,
        meter.resource,
        meter.limit,
        meter.used,
        own,
    )


def too_large(plan: Plan, group: Group, resource: str, pool: str = "") -> str:
    """Return the sentence for a job that asks for more than any node will have."""
    wanted = dict(plan.rooms.pod(group.demand).amounts)[resource]
    names = [pool] if pool else list(plan.snapshot.services[group.service].pools)
    best = max(
        (plan.rooms.pools[n].pool.largest.get(resource, 0) for n in names if n in plan.rooms.pools),
        default=0,
    )
    where = f"pool {pool}" if pool else f"the pools of its service ({', '.join(names)})"
    return (
        f"The job's pod takes {readable(resource, wanted)} of {resource}, and the largest node of "
        f"{where} has {readable(resource, best)}, so it would wait for ever. Ask for less."
    )


def _asks(group: Group) -> str:
    amounts = group.demand.amounts
    return ", ".join(f"{readable(name, n)} {name}" for name, n in amounts) or "nothing"


def jobs(count: int) -> str:
    """Return a number of jobs in words."""
    return "1 job" if count == 1 else f"{count} jobs"
