"""What would start a waiting job now: the smallest changes, found by planning again with each."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestrator_crds import Limits
from orchestrator_crds.amounts import exact, readable
from orchestrator_crds.quota import UserLimits
from orchestrator_operator.core.admission import Plan, plan
from orchestrator_operator.core.meters import POOL, QUOTA, Meter
from orchestrator_operator.core.snapshot import Group, Held, Node, Pool, Rule, Snapshot, Waiting

# How much is looked at for one remedy: users, claims and decisions of all plans that it takes.
EFFORT = 1_000_000
# More nodes than this are no small change.
MOST_NODES = 64
ROUNDS = 16
# No limit at all.
FAR = 10**18
L = TypeVar("L", Limits, UserLimits)


@dataclass(frozen=True)
class Change:
    """One number that would be another: a limit, or how many nodes a pool has.

    Numbers are jobs, nodes, or thousandths of *resource*.
    """

    kind: str
    name: str
    field: str
    before: int
    after: int
    resource: str = ""


@dataclass(frozen=True)
class Remedy:
    """What would start the job now. *ends* is how many of the user's own jobs would have to end."""

    message: str
    ends: int = 0
    changes: tuple[Change, ...] = ()


def remedies(snapshot: Snapshot, name: str) -> list[Remedy]:
    """Return what would start a waiting job in the next pass; each alone is enough, if any is."""
    job = snapshot.waiting.get(name)
    if job is None or job.group.service not in snapshot.services:
        return []
    found = []
    for search in (_own_ends, _raised):
        with suppress(_TooMuch):
            found.append(search(snapshot, job, _Trials(job)))
    return [remedy for remedy in found if remedy is not None]


class _TooMuch(Exception):  # noqa: N818  (no error: nothing is told)
    """It takes too long to find out."""


class _Trials:
    """Plans that go on until they admit one job; raises `_TooMuch` when they took too much."""

    def __init__(self, job: Waiting) -> None:
        self._job, self._left = job, EFFORT

    def plan(self, snapshot: Snapshot) -> Plan:
        if self._left < 0:
            raise _TooMuch
        found = plan(snapshot, until=self._job.name)
        self._left -= len(snapshot.waiting.groups) + len(snapshot.held) + len(found.admitted)
        return found

    def admits(self, snapshot: Snapshot) -> bool:
        return self.plan(snapshot).reached(self._job.name)


def _least(enough: Callable[[int], bool], most: int) -> int:
    """Return a number from 1 to *most* that is enough when one less is not; *most* is enough."""
    high = 1
    while high < most and not enough(high):
        high = min(high * 2, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _own_ends(snapshot: Snapshot, job: Waiting, trials: _Trials) -> Remedy | None:
    """Return how many of the user's own running jobs would have to end, the largest first."""
    user = job.group.user
    own = [item for item in snapshot.held if item.user == user]
    own.sort(key=lambda item: (item.service != job.group.service, _size(item), item.since))
    others = [item for item in snapshot.held if item.user != user]

    def enough(count: int) -> bool:
        return trials.admits(replace(snapshot, held=others + own[count:]))

    if not own or not enough(len(own)):
        return None
    count = _least(enough, len(own))
    what = "one of this user's running jobs ends"
    if count > 1:
        what = f"{count} of this user's running jobs end"
    return Remedy(f"It starts when {what}.", ends=count)


def _size(item: Held) -> list[int]:
    return sorted((-amount for _, amount in item.demand.amounts))


NODES = "nodes"


@dataclass(frozen=True)
class _Knob:
    """A number that can be turned up."""

    kind: str
    name: str
    field: str
    user: str
    resource: str
    now: int

    @classmethod
    def of(cls, meter: Meter) -> "_Knob":
        # A user's limit is raised for this user, not for everybody.
        part = "Resources" if meter.resource else "Running"
        own = f"users.{meter.user}.max{part}"
        field = meter.field if not meter.user or meter.field.endswith(own) else own
        return cls(meter.kind, meter.name, field, meter.user, meter.resource, meter.limit)

    @property
    def counts_nodes(self) -> bool:
        return self.field == NODES

    def is_like(self, other: "_Knob") -> bool:
        """Return whether both are the same number, whatever it is now."""
        return replace(self, now=0) == replace(other, now=0)


def _raised(snapshot: Snapshot, job: Waiting, trials: _Trials) -> Remedy | None:
    """Return which limits would have to be raised, and which pool would need more nodes."""
    turned: dict[_Knob, int] = {}
    for _ in range(ROUNDS):
        found = trials.plan(_with(snapshot, turned))
        if found.reached(job.name):
            break
        missing = [k for k in _knobs(found, job.group) if not any(map(k.is_like, turned))]
        if not missing:
            return None
        turned |= {knob: knob.now + MOST_NODES if knob.counts_nodes else FAR for knob in missing}
    else:
        return None
    for _ in range(ROUNDS):
        # With less of one, less of another may do as well.
        before = dict(turned)
        for knob in before:
            turned[knob] = _lowest(snapshot, turned, knob, job, trials)
            if turned[knob] == knob.now:
                del turned[knob]
        if turned == before:
            break
    # What is kept for others can be in the way of what was tried: nothing is told but what holds.
    holds = trials.admits(_with(snapshot, turned))
    if not turned or not holds or not all(knob.now < n < FAR for knob, n in turned.items()):
        return None
    changes = tuple(
        Change(
            knob.kind,
            knob.name,
            "" if knob.counts_nodes else f"spec.{knob.field}",
            knob.now,
            after,
            knob.resource,
        )
        for knob, after in turned.items()
    )
    return Remedy(f"It would start now if {_and([_words(c) for c in changes])}.", 0, changes)


def _lowest(
    snapshot: Snapshot, turned: Mapping[_Knob, int], knob: _Knob, job: Waiting, trials: _Trials
) -> int:
    """Return how little *knob* needs to be turned up when all else is as in *turned*."""

    def at(value: int) -> Plan:
        return trials.plan(_with(snapshot, {**turned, knob: value}))

    def enough_at(value: int) -> bool:
        return at(value).reached(job.name)

    if enough_at(knob.now):
        return knob.now
    if knob.counts_nodes:
        # Never beyond what is known to be enough: more nodes may let in a larger job, and not this.
        return knob.now + _least(lambda n: enough_at(knob.now + n), turned[knob] - knob.now)
    step = dict(job.group.demand.amounts)[knob.resource] if knob.resource else 1
    enough = _used(at(turned[knob]), knob, job)
    steps = max(-(-(enough - knob.now) // step), 1)
    value = knob.now + step * _least(lambda n: enough_at(knob.now + n * step), steps)
    found = at(value)
    if not found.reached(job.name):
        # A little more room can let in a larger job that comes first; just as much does not.
        return enough if enough_at(enough) else turned[knob]
    # A whole job's step may be more than what was missing.
    return _used(found, knob, job) if knob.resource else value


def _used(found: Plan, knob: _Knob, job: Waiting) -> int:
    """Return how much of *knob* is taken after a pass."""
    group = job.group
    charges = found.meters.of(group.service, group.user, group.demand) or []
    if knob.kind == POOL:
        charges = found.rooms.pools[knob.name].charges(group.demand)
    return max(meter.used for meter, _ in charges if _Knob.of(meter).is_like(knob))


def _knobs(found: Plan, group: Group) -> list[_Knob]:
    """Return what keeps jobs of *group* back after a pass, as numbers to turn up."""
    service = found.snapshot.services[group.service]
    charges = found.meters.of(group.service, group.user, group.demand) or []
    knobs = [_Knob.of(m) for m, amount in charges if m.used + m.kept + amount > m.limit]
    if knobs:
        return knobs
    rooms = found.rooms
    for name in service.pools:
        pool = rooms.pools.get(name)
        if pool is None or pool.too_small_for(rooms.pod(group.demand)) is not None:
            continue
        capped = [m for m, n in pool.charges(group.demand) if m.used + m.kept + n > m.limit]
        if capped:
            return [_Knob.of(meter) for meter in capped]
        usable = sum(node.usable for node in pool.pool.nodes)
        if pool.pool.largest:
            return [_Knob(POOL, name, NODES, "", "", usable)]
    return []


def _with(snapshot: Snapshot, turned: Mapping[_Knob, int]) -> Snapshot:
    """Return *snapshot* as it would be with other numbers."""
    rules, pools = list(snapshot.rules), dict(snapshot.pools)
    for knob, value in turned.items():
        if knob.kind == QUOTA:
            rules = [
                _raise(rule, knob, value) if rule.name == knob.name else rule for rule in rules
            ]
        elif knob.counts_nodes:
            pools[knob.name] = _grown(pools[knob.name], value - knob.now)
        elif knob.resource:
            more = {**pools[knob.name].max_resources, knob.resource: value}
            pools[knob.name] = replace(pools[knob.name], max_resources=more)
        else:
            pools[knob.name] = replace(pools[knob.name], max_running=value)
    return replace(snapshot, rules=rules, pools=pools)


def _grown(pool: Pool, count: int) -> Pool:
    new = tuple(Node(f"+{number}", dict(pool.largest)) for number in range(count))
    return replace(pool, nodes=(*pool.nodes, *new))


def _raise(rule: Rule, knob: _Knob, value: int) -> Rule:
    limits = rule.limits
    if knob.user:
        own = _turn_up(limits.users.get(knob.user, UserLimits()), knob, value)
        limits = limits.model_copy(update={"users": {**limits.users, knob.user: own}})
    else:
        limits = _turn_up(limits, knob, value)
    return replace(rule, limits=limits)


def _turn_up(limits: L, knob: _Knob, value: int) -> L:
    """Return *limits* with one of them at *value*."""
    if not knob.resource:
        return limits.model_copy(update={"max_running": value})
    amounts = {**limits.max_resources, knob.resource: exact(knob.resource, value)}
    return limits.model_copy(update={"max_resources": amounts})


def _words(change: Change) -> str:
    if not change.field:
        missing = change.after - change.before
        return f"pool {change.name} had {missing} more {'node' if missing == 1 else 'nodes'}"
    who = "pool" if change.kind == POOL else "quota"
    before, after = (
        (readable(change.resource, n) if change.resource else str(n))
        for n in (change.before, change.after)
    )
    of = f" of {change.resource}" if change.resource else ""
    return f"{change.field}{of} of {who} {change.name} were {after} instead of {before}"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
