"""Who runs next, and where.

Users take turns: the next job is that of the highest priority, and among those that of the user
with the smallest share (`fairshare`), of equal shares who had no turn for longer, and then oldest
first. Two rules keep anything from waiting for ever.
A user who got no turn for the aging time comes before all others, and a job's priority grows by
one step, up to the service's maximum, each time it has waited that long. And a job that waited as
long but is too large for what is free has room kept for it: on one node of a pool, and on the
resource limits of its quotas, as in conservative backfilling with a single reservation (Mu'alem
and Feitelson, IEEE TPDS 12(6), 2001). Younger jobs use what it leaves.

What a pass admits is charged within the pass, so a later candidate sees it.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator_operator.core.fairshare import Shares, Standing
from orchestrator_operator.core.meters import Charges, Meter, Meters, charge, full
from orchestrator_operator.core.rooms import Door, NodeRoom, Rooms
from orchestrator_operator.core.snapshot import Demand, Group, Service, Snapshot

# What comes before shares in the order of turns: whether the user had a turn lately, or since when
# not; and priority, upside down.
Rank = tuple[int, float, int]
# The order of turns: rank, share, last turn, age, name; then the number of the group and the user's
# turn. Without the last turn, one place for all would go to whoever sent most jobs first: between
# two of them nobody holds anything.
Place = tuple[Rank, int, float, float, str, int, int]


class Admitted(NamedTuple):
    """A job that runs now, and the pool it runs on."""

    name: str
    group: Group
    pool: str


class Refused(NamedTuple):
    """A job that asks for more of *resource* than any node of its service's pools will have."""

    name: str
    group: Group
    resource: str


@dataclass(frozen=True)
class Plan:
    """What one pass decided, and how full everything is after it."""

    snapshot: Snapshot
    admitted: Sequence[Admitted]
    refused: Sequence[Refused]
    meters: Meters
    rooms: Rooms
    shares: Shares
    # Whether the pass ended because it had admitted as many as it was to.
    cut: bool = False

    def reached(self, name: str) -> bool:
        """Return whether a pass that was to go on until it admits *name* did admit it."""
        return bool(self.admitted) and self.admitted[-1].name == name


class Queue:
    """The waiting jobs of one group, in a pass."""

    __slots__ = (
        "aging",
        "charges",
        "door",
        "doors",
        "facts",
        "group",
        "jobs",
        "kept",
        "most_priority",
        "next",
        "node",
        "parts",
        "pod",
        "priority",
        "standing",
    )

    def __init__(
        self, group: Group, jobs: Sequence[tuple[float, str]], facts: Service, standing: Standing
    ) -> None:
        self.group, self.jobs, self.facts, self.standing = group, jobs, facts, standing
        self.aging, self.priority = facts.fair_share.aging_seconds, group.priority
        self.most_priority = facts.max_priority
        self.next = 0
        self.charges: Charges = []
        self.parts: list[tuple[int, int]] = []
        self.doors: Sequence[Door] = ()
        self.pod = group.demand
        # Where the last of them went, and what is kept for the next one.
        self.door: Door | None = None
        self.node: NodeRoom | None = None
        self.kept: Sequence[Meter | NodeRoom] = ()

    def place(self, number: int, now: float) -> Place:
        """Return the place of the head in the order of turns."""
        since, name = self.jobs[self.next]
        standing, aging, priority = self.standing, self.aging, self.priority
        waited = now - since
        if waited >= aging:
            priority += int(waited // aging)
            starved = max(since, standing.served)
            late = now - starved >= aging
        else:
            starved, late = 0.0, False
        if priority > self.most_priority:
            priority = self.most_priority
        if late:
            rank = (0, starved, -priority)
        elif priority == 0:
            rank = _USUAL
        else:
            rank = (1, 0.0, -priority)
        return (rank, standing.share, standing.served, since, name, number, standing.turn)

    def ages_at(self, now: float) -> float:
        """Return when, after *now*, the head's place changes though nothing else does."""
        since, _ = self.jobs[self.next]
        aging = self.aging
        steps = int((now - since) // aging)
        if steps < 1:
            return since + aging
        late_at = max(since, self.standing.served) + aging
        found = late_at if late_at > now else math.inf
        if self.priority + steps < self.most_priority:
            found = min(found, since + (steps + 1) * aging)
        return found


# One and the same object, so that comparing it takes no time.
_USUAL: Rank = (1, 0.0, 0)


def plan(snapshot: Snapshot, most: int | None = None, until: str = "") -> Plan:
    """Decide on the waiting jobs. Equal snapshots give equal plans.

    Admits at most *most*, and ends once it has admitted the job named *until*.
    """
    return Pass(snapshot).run(most, until)


class Pass:
    """A pass under way, as deep in its decisions as it has come."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.now = snapshot, snapshot.now
        self.meters = Meters(snapshot.rules)
        self.rooms = Rooms(snapshot.pools, snapshot.overhead)
        self.shares = Shares(snapshot)
        self.admitted: list[Admitted] = []
        self.refused: list[Refused] = []
        self._hold()

    def _hold(self) -> None:
        for held in self.snapshot.held:
            charge(self.meters.of(held.service, held.user, held.demand) or [])
            standing = self.shares.of(held.service, held.user)
            standing.add(self.shares.parts(held.service, held.demand))
            standing.served = max(standing.served, held.since)
        self.nodes = self.rooms.hold(self.snapshot.held)

    def run(self, most: int | None, until: str = "") -> Plan:
        """Admit until nothing more can be, *most* have been, or *until* is; ends the pass."""
        queues, now = self.queues(), self.now
        turns = [queue.place(number, now) for number, queue in enumerate(queues)]
        heapq.heapify(turns)
        calm = not self.snapshot.busy
        cut = False
        while turns:
            if most is not None and len(self.admitted) >= most:
                cut = True
                break
            if until and self.admitted and self.admitted[-1].name == until:
                cut = True
                break
            place = turns[0]
            queue = queues[place[5]]
            # If not, the user had a turn by another of its queues since.
            if place[6] == queue.standing.turn and not (
                self.serve(queue)
                and (queue.next < len(queue.jobs) if calm else self.skip_busy(queue))
            ):
                heapq.heappop(turns)
            else:
                heapq.heapreplace(turns, queue.place(place[5], now))
        return Plan(
            self.snapshot, self.admitted, self.refused, self.meters, self.rooms, self.shares, cut
        )

    def queues(self, *, shut_too: bool = False) -> list[Queue]:
        """Return the queues whose heads could be admitted, if there were room for them.

        Those that a limit on jobs stops from the start are left out, unless *shut_too*: in a pass
        use only grows, and nothing is kept for a job that lacks more than resources.
        """
        services, shares, meters = self.snapshot.services, self.shares, self.meters
        shut = {name for name in services if not shut_too and meters.shut(name)}
        asked: dict[tuple[str, Demand], str | None] = {}
        queues = []
        for group, jobs in self.snapshot.waiting.groups.items():
            service = group.service
            facts = services.get(service)
            if facts is None:
                continue
            shape = (service, group.demand)
            if shape not in asked:
                asked[shape] = self._never_fits(facts, group)
            if (resource := asked[shape]) is not None:
                self.refused += [Refused(name, group, resource) for _, name in jobs]
                continue
            if service in shut:
                continue
            charges = meters.of(service, group.user, group.demand)
            if charges is None or (not shut_too and _stopped(charges)):
                continue
            queue = Queue(group, jobs, facts, shares.of(service, group.user))
            queue.charges = charges
            queue.parts = shares.parts(service, group.demand)
            queue.doors = self.rooms.doors(facts.pools, group.demand)
            queue.pod = self.rooms.pod(group.demand)
            if self.skip_busy(queue):
                queues.append(queue)
        return queues

    def skip_busy(self, queue: Queue) -> bool:
        """Go on to the next job that can be admitted; returns whether there is one."""
        jobs, busy = queue.jobs, self.snapshot.busy
        while queue.next < len(jobs):
            if not busy or jobs[queue.next][1] not in busy:
                return True
            queue.next += 1
        return False

    def _never_fits(self, facts: Service, group: Group) -> str | None:
        """Return of what no node of the pools will ever have enough; None when one may."""
        pod, found = self.rooms.pod(group.demand), None
        for name in facts.pools:
            pool = self.rooms.pools.get(name)
            resource = pool.too_small_for(pod) if pool else None
            if resource is None:
                return None
            found = found or resource
        return found

    def serve(self, queue: Queue) -> bool:
        """Admit the head of *queue*; returns whether that was possible."""
        charges, group = queue.charges, queue.group
        for meter, amount in charges:
            if meter.used + meter.kept + amount > meter.limit:
                queue.kept = self._keep(queue)
                return False
        found = self.rooms.find(queue.doors)
        if found is None:
            queue.kept = self._keep(queue)
            return False
        door, node = queue.door, queue.node = found
        if door.charges:
            charge(door.charges)
        if node is not None:
            node.take(queue.pod)
        for meter, amount in charges:
            meter.used += amount
        standing = queue.standing
        standing.add(queue.parts)
        standing.served = self.now
        standing.turn += 1
        self.admitted.append(Admitted(queue.jobs[queue.next][1], group, door.pool.name))
        queue.next += 1
        return True

    def _keep(self, queue: Queue) -> Sequence[Meter | NodeRoom]:
        """Keep room for a job that has waited long enough, if room is all that it lacks.

        Returns what is kept for it.
        """
        since, _ = queue.jobs[queue.next]
        if self.now - since < queue.aging:
            return ()
        lacking = full(queue.charges)
        if any(not meter.resource or meter.kept for meter in lacking):
            return ()
        amounts = {id(meter): amount for meter, amount in queue.charges}
        if any(amounts[id(meter)] > meter.limit for meter in lacking):
            return ()
        for meter in lacking:
            meter.kept = amounts[id(meter)]
        if lacking:
            return lacking
        node = self.rooms.keep(queue.doors, queue.pod)
        return (node,) if node else ()


def _stopped(charges: Charges) -> bool:
    """Return whether a limit on jobs is reached."""
    for meter, amount in charges:
        if not meter.resource and meter.used + amount > meter.limit:
            return True
    return False
