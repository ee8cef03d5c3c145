"""Where a waiting job stands in line, and when it is likely to start.

The line is let move on from a snapshot, event by event, with the rules of `admission`: running jobs
end after times drawn from what jobs of their service took before, and whoever is next starts. Done
several times, this gives a range. It knows nothing of uploads to come, nor of limits that change.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from orchestrator_crds import Limits
from orchestrator_operator.core.admission import Pass, Place, Queue, plan
from orchestrator_operator.core.durations import Durations, draws
from orchestrator_operator.core.fairshare import Standing
from orchestrator_operator.core.meters import Charges, Meter, charge
from orchestrator_operator.core.rooms import NodeRoom
from orchestrator_operator.core.snapshot import (
    Demand,
    Group,
    Held,
    Pool,
    Rule,
    Snapshot,
)

# How many times the line is let move on, how much is looked at in all (`Line.effort`), and how many
# starts each time.
TIMES = 16
EFFORT = 200_000
MOST_STARTS = 5_000

# (service, how long the job has run already, in seconds) -> how much longer it runs, in seconds.
Lasts = Callable[[str, float], float]


class Start(NamedTuple):
    """A job that would start, and when, in seconds since 1970."""

    at: float
    name: str
    group: Group


class Expected(NamedTuple):
    """When a job is likely to start, in seconds since 1970; nothing later than *earliest* is
    known when *latest* is None.
    """

    earliest: float
    latest: float | None


def position(snapshot: Snapshot, name: str, most: int) -> int | None:
    """Return which turn among the waiting jobs of its service is the job's, counted from 1.

    That is, if places became free one after another and no limit kept any of them back. None when
    it is beyond *most*, or when its service has no node pool.
    """
    job = snapshot.waiting.get(name)
    if job is None:
        return None
    service = job.group.service
    alone = replace(
        snapshot,
        waiting=snapshot.waiting.of_service(service),
        # The last one lets every job through.
        rules=[
            *(replace(rule, limits=_only_weights(rule.limits)) for rule in snapshot.rules),
            Rule("~", Limits()),
        ],
        pools={name: Pool(pool.nodes, elastic=True) for name, pool in snapshot.pools.items()},
    )
    found = plan(alone, most, until=name)
    return len(found.admitted) if found.reached(name) else None


def expected(snapshot: Snapshot, name: str, past: Durations) -> Expected | None:
    """Return when a waiting job is likely to start: in about nine of ten cases in that range.

    None when nothing is known of how long jobs take, or when it would never start as things are.
    """
    if not past.known or name not in snapshot.waiting:
        return None
    found: list[float] = []
    effort, beyond = 0, math.inf
    for number in range(TIMES):
        if number and effort * (number + 1) / number > EFFORT:
            break
        drawn = draws(number)
        line = Line(snapshot, lambda service, age: past.lasts(service, age, next(drawn)))  # noqa: B023
        for count, start in enumerate(line, 1):
            if start.name == name:
                found.append(start.at)
                break
            if count == MOST_STARTS or line.effort > EFFORT:
                beyond = min(beyond, start.at)
                break
        effort += line.effort
    if not found:
        return Expected(beyond, None) if beyond < math.inf else None
    found.sort()
    spared = len(found) // 20
    latest = found[-1 - spared] if beyond == math.inf else None
    return Expected(min(found[spared], beyond), latest)


def _only_weights(limits: Limits) -> Limits:
    users = {
        user: own.model_copy(update={"max_running": None, "max_resources": {}})
        for user, own in limits.users.items()
    }
    return Limits.model_construct(users=users)


class _Running(NamedTuple):
    """What has to be given back when a job ends."""

    standing: Standing
    charges: Charges
    parts: list[tuple[int, int]]
    pool_charges: Charges
    node: NodeRoom | None
    pod: Demand


# What keeps a queue from going on: a meter and how much of it the job takes, or room in pools.
_Stop = tuple[object, ...]
_NEW: _Stop = ()


class Line:
    """The starts that follow from a snapshot, in order, if jobs last as long as *lasts* says."""

    def __init__(self, snapshot: Snapshot, lasts: Lasts) -> None:
        # A pod that found no node will have one once others end.
        held = [replace(item, stuck=False) for item in snapshot.held]
        self._lasts = lasts
        self._pass = Pass(replace(snapshot, held=held))
        self._queues = self._pass.queues(shut_too=True)
        self._stops: dict[_Stop, list[Place]] = {}
        # Queue number -> its place that counts, and where it stands; other places are old.
        self._places: dict[int, tuple[Place, _Stop]] = {}
        self._of_user: dict[int, list[int]] = {}
        self._amounts: dict[int, set[_Stop]] = {}
        self._rooms: set[_Stop] = set()
        self._keeping: set[int] = set()
        self._ends: list[tuple[float, int, _Running]] = []
        # When places change by themselves; those that are old by then do not count.
        self._ages: list[tuple[float, int, Place]] = []
        self._count = 0
        # How much has been looked at so far.
        self.effort = 0
        for number, queue in enumerate(self._queues):
            self._of_user.setdefault(id(queue.standing), []).append(number)
            self._stand(number, _NEW)
        for item, node in zip(held, self._pass.nodes, strict=True):
            self._hold(item, node)

    def __iter__(self) -> Iterator[Start]:
        yield from self._turns({_NEW})
        while self._ends:
            self._pass.now = max(self._ends[0][0], self._pass.now)
            freed: set[_Stop] = set()
            while self._ends and self._ends[0][0] <= self._pass.now:
                freed |= self._end(heapq.heappop(self._ends)[2])
            freed |= self._age()
            yield from self._turns(freed)

    def _hold(self, held: Held, node: NodeRoom | None) -> None:
        """Take in a job that runs already."""
        now, run = self._pass.now, self._pass
        service, user, demand = held.service, held.user, held.demand
        room = run.rooms.pools.get(held.pool)
        running = _Running(
            run.shares.of(service, user),
            run.meters.of(service, user, demand) or [],
            run.shares.parts(service, demand),
            room.charges(demand) if room else [],
            node,
            run.rooms.pod(demand),
        )
        self._ends_at(now + self._lasts(service, now - held.since if held.since else 0.0), running)

    def _ends_at(self, moment: float, running: _Running) -> None:
        self._count += 1
        heapq.heappush(self._ends, (moment, self._count, running))

    def _end(self, running: _Running) -> set[_Stop]:
        """Give back what a job held; returns which stops that may open."""
        charge(running.charges, -1)
        self._pass.rooms.release(running.pool_charges, running.node, running.pod)
        standing = running.standing
        standing.add([(resource, -part) for resource, part in running.parts])
        standing.turn += 1
        for number in self._of_user.get(id(standing), ()):
            if number in self._places:
                self._stand(number, self._places[number][1])
        freed = set(self._rooms)
        for meter, _ in running.charges:
            freed |= self._amounts.get(id(meter), set())
        # What was kept for a job is kept anew, unless it can start.
        for number in self._keeping:
            queue = self._queues[number]
            for kept in queue.kept:
                if isinstance(kept, Meter):
                    kept.kept = 0
                    freed |= self._amounts.get(id(kept), set())
                else:
                    kept.kept = False
                    self._pass.rooms.freed(kept)
            freed.add(self._places[number][1])
        self._keeping = set()
        return freed

    def _age(self) -> set[_Stop]:
        """Give those a new place who have waited long by now; returns where they stand."""
        now, ages = self._pass.now, self._ages
        found = set()
        while ages and ages[0][0] <= now:
            _, number, place = heapq.heappop(ages)
            current, stop = self._places.get(number, (None, _NEW))
            if current is place:
                self._stand(number, stop)
                # Not since there is room: since room may be kept for it from now on.
                found.add(stop)
        return found

    def _stand(self, number: int, stop: _Stop) -> None:
        """Put a queue in line at *stop*."""
        queue, now = self._queues[number], self._pass.now
        place = queue.place(number, now)
        self._places[number] = (place, stop)
        heapq.heappush(self._stops.setdefault(stop, []), place)
        if (ages_at := queue.ages_at(now)) < math.inf:
            heapq.heappush(self._ages, (max(ages_at, now + 1), number, place))
        self.effort += 1

    def _first(self, stop: _Stop) -> Place | None:
        """Return the place of whoever is first at *stop*."""
        line = self._stops.get(stop, [])
        while line:
            place = line[0]
            number = place[5]
            current, _ = self._places.get(number, (None, stop))
            if current is not place:
                heapq.heappop(line)
            elif place[6] != self._queues[number].standing.turn:
                # Had a turn by another of the user's queues since.
                heapq.heappop(line)
                self._stand(number, stop)
            else:
                return place
        return None

    def _turns(self, stops: set[_Stop]) -> Iterator[Start]:
        """Let whoever can start now start, of those who stand at *stops*."""
        firsts: list[tuple[Place, _Stop]] = []

        def line_up(stop: _Stop) -> None:
            if stop in stops and (place := self._first(stop)) is not None:
                heapq.heappush(firsts, (place, stop))

        for stop in stops:
            line_up(stop)
        self.effort += len(stops)
        while firsts:
            place, stop = heapq.heappop(firsts)
            if stop not in stops:
                continue
            if self._first(stop) is not place:
                # Its user had a turn since. No turn makes a place better, so none is missed.
                line_up(stop)
                continue
            number = place[5]
            queue = self._queues[number]
            del self._places[number]
            if self._pass.serve(queue):
                started = self._pass.admitted[-1]
                self._started(queue)
                if self._pass.skip_busy(queue):
                    self._stand(number, stop)
                line_up(stop)
                yield Start(self._pass.now, started.name, started.group)
                continue
            if queue.kept:
                self._keeping.add(number)
            # All who stand where this one stands now are kept back like it.
            shut = self._stop_of(queue)
            self._stand(number, shut)
            stops = stops - {shut}
            line_up(stop)

    def _started(self, queue: Queue) -> None:
        assert queue.door is not None  # noqa: S101  (it was served)
        group = queue.group
        running = _Running(
            queue.standing, queue.charges, queue.parts, queue.door.charges, queue.node, queue.pod
        )
        self._ends_at(self._pass.now + self._lasts(group.service, 0.0), running)

    def _stop_of(self, queue: Queue) -> _Stop:
        for meter, amount in queue.charges:
            if meter.used + meter.kept + amount > meter.limit:
                stop: _Stop = (id(meter), amount)
                self._amounts.setdefault(id(meter), set()).add(stop)
                return stop
        stop = (queue.facts.pools, queue.group.demand)
        self._rooms.add(stop)
        return stop
