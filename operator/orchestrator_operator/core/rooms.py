"""Room on node pools: which pool has a node for a job now.

Where a pod goes is the scheduler's to decide. What is decided here is only whether it will find a
place, so that no claim holds quota while its pod waits for a node.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from orchestrator_crds.resources import beyond
from orchestrator_operator.core.meters import Charges, caps, charge, charges, full
from orchestrator_operator.core.snapshot import Demand, Held, Pool


class NodeRoom:
    """What is free on a node."""

    __slots__ = ("allocatable", "free", "kept", "name")

    def __init__(self, name: str, allocatable: Mapping[str, int]) -> None:
        self.name, self.allocatable = name, allocatable
        self.free = dict(allocatable)
        # Set when the node is drained for a large job: nobody else gets a place on it.
        self.kept = False

    def take(self, pod: Demand) -> None:
        """Count a pod."""
        free = self.free
        for resource, amount in pod.amounts:
            free[resource] = free.get(resource, 0) - amount

    def give(self, pod: Demand) -> None:
        """Count a pod no more."""
        for resource, amount in pod.amounts:
            self.free[resource] = self.free.get(resource, 0) + amount

    def fits(self, pod: Demand) -> bool:
        """Return whether there is room for a pod."""
        free = self.free
        for resource, amount in pod.amounts:  # noqa: SIM110  (all() takes three times as long)
            if free.get(resource, 0) < amount:
                return False
        return True


class Search:
    """The search for a node for pods of one size: up to which node there is no room for one."""

    __slots__ = ("nodes", "place", "pod")

    def __init__(self, nodes: Sequence[NodeRoom], pod: Demand) -> None:
        self.nodes, self.pod, self.place = nodes, pod, 0

    def first(self) -> NodeRoom | None:
        """Return the first node, in order of name, that has room."""
        nodes, pod = self.nodes, self.pod
        while self.place < len(nodes):
            node = nodes[self.place]
            if not node.kept and node.fits(pod):
                return node
            self.place += 1
        return None


class PoolRoom:
    """One pool in one pass."""

    def __init__(self, name: str, pool: Pool, nodes: list[NodeRoom]) -> None:
        self.name, self.pool, self.nodes = name, pool, nodes
        self._places = {node.name: place for place, node in enumerate(nodes)}
        self.caps = caps(name, pool.max_running, pool.max_resources)
        # Jobs whose pods wait here for a node: another of the kind would wait as well.
        self.stuck: list[Demand] = []
        self._charges: dict[Demand, Charges] = {}
        self._searches: dict[Demand, Search] = {}

    def charges(self, demand: Demand) -> Charges:
        """Return what a job adds to the pool's caps."""
        found = self._charges.get(demand)
        if found is None:
            found = self._charges[demand] = charges(self.caps, demand)
        return found

    def search(self, pod: Demand) -> Search:
        """Return the search for a node for *pod*."""
        found = self._searches.get(pod)
        if found is None:
            found = self._searches[pod] = Search(self.nodes, pod)
        return found

    def freed(self, node: NodeRoom) -> None:
        """Take note that there is more room on *node* than there was."""
        place = self._places.get(node.name)
        if place is not None:
            for search in self._searches.values():
                search.place = min(search.place, place)

    def crowded(self, demand: Demand) -> bool:
        """Return whether a pod that takes no more than *demand* already waits for a node here."""
        wanted = dict(demand.amounts)
        return any(
            all(amount <= wanted.get(resource, 0) for resource, amount in other.amounts)
            for other in self.stuck
        )

    def too_small_for(self, pod: Demand) -> str | None:
        """Return the resource of which no node here will ever have enough for *pod*, or None."""
        if self.pool.elastic or not self.pool.largest:
            return None
        wanted = {resource: amount for resource, amount in pod.amounts if resource != "pods"}
        return beyond(wanted, self.pool.largest)


class Door:
    """A pool, as jobs of one demand find it, whose pods take up *pod*."""

    __slots__ = ("charges", "crowded", "elastic", "pool", "search")

    def __init__(self, pool: PoolRoom, demand: Demand, pod: Demand) -> None:
        self.pool, self.elastic = pool, pool.pool.elastic
        self.charges, self.crowded = pool.charges(demand), pool.crowded(demand)
        self.search = pool.search(pod)


class Rooms:
    """All pools in one pass. Nodes may belong to several."""

    def __init__(self, pools: Mapping[str, Pool], overhead: Mapping[str, int]) -> None:
        self._overhead, self._pods = overhead, dict[Demand, Demand]()
        self._doors: dict[tuple[tuple[str, ...], Demand], list[Door]] = {}
        self._nodes: dict[str, NodeRoom] = {}
        self.pools: dict[str, PoolRoom] = {}
        for name, pool in sorted(pools.items()):
            for node in pool.nodes:
                if node.name not in self._nodes:
                    self._nodes[node.name] = NodeRoom(node.name, node.allocatable)
            usable = [
                self._nodes[n.name] for n in sorted(pool.nodes, key=attrgetter("name")) if n.usable
            ]
            self.pools[name] = PoolRoom(name, pool, usable)

    def pod(self, demand: Demand) -> Demand:
        """Return what a pod takes up on its node: its job, and what comes with every pod."""
        found = self._pods.get(demand)
        if found is None:
            amounts = dict(demand.amounts)
            for resource, amount in self._overhead.items():
                amounts[resource] = amounts.get(resource, 0) + amount
            found = self._pods[demand] = Demand.of(amounts)
        return found

    def hold(self, held: Sequence[Held]) -> list[NodeRoom | None]:
        """Count what runs already: first what has its node, then what will find one.

        Returns the node of each, or None where it is not known.
        """
        later, found = [], [self._nodes.get(item.node) for item in held]
        for number, item in enumerate(held):
            pool = self.pools.get(item.pool)
            if pool is not None:
                charge(pool.charges(item.demand))
            node = found[number]
            if node is not None:
                node.take(self.pod(item.demand))
            elif pool is not None and not item.node:
                if item.stuck:
                    pool.stuck.append(item.demand)
                else:
                    later.append((number, pool, self.pod(item.demand)))
        for number, pool, pod in later:
            if (room := pool.search(pod).first()) is not None:
                room.take(pod)
                found[number] = room
        return found

    def release(self, charges: Charges, node: NodeRoom | None, pod: Demand) -> None:
        """Count a pod no more: neither on its pool's caps nor on its node."""
        charge(charges, -1)
        if node is not None:
            node.give(pod)
            self.freed(node)

    def freed(self, node: NodeRoom) -> None:
        """Take note that there is more room on *node* than there was."""
        for pool in self.pools.values():
            pool.freed(node)

    def doors(self, pools: Iterable[str], demand: Demand) -> list[Door]:
        """Return those of *pools* that exist, as jobs with *demand* find them."""
        key = (tuple(pools), demand)
        found = self._doors.get(key)
        if found is None:
            rooms = [self.pools[name] for name in key[0] if name in self.pools]
            pod = self.pod(demand)
            found = self._doors[key] = [Door(room, demand, pod) for room in rooms]
        return found

    @staticmethod
    def find(doors: Iterable[Door]) -> tuple[Door, NodeRoom | None] | None:
        """Return the first of *doors* behind which there is room, and the node that has it."""
        for door in doors:
            if door.charges and full(door.charges):
                continue
            if door.elastic:
                return door, None
            if not door.crowded and (node := door.search.first()) is not None:
                return door, node
        return None

    @staticmethod
    def keep(doors: Iterable[Door], pod: Demand) -> NodeRoom | None:
        """Keep room for a job that has waited long, behind the first of *doors* that could take it.

        The node that has the most room for it is drained; returns it, or None when there is none,
        or when in that pool one is kept for another already.
        """
        for door in doors:
            pool = door.pool
            if door.elastic or full(door.charges):
                continue
            able = [n for n in pool.nodes if beyond(dict(pod.amounts), n.allocatable) is None]
            if not able:
                continue
            if any(node.kept for node in pool.nodes):
                return None
            chosen = min(able, key=lambda node: (_missing(node, pod), node.name))
            chosen.kept = True
            return chosen
        return None


def _missing(node: NodeRoom, pod: Demand) -> float:
    """Return how much of *pod* has no room on *node*, as the largest part of any resource."""
    return max(
        (
            (amount - node.free.get(resource, 0)) / amount
            for resource, amount in pod.amounts
            if amount
        ),
        default=0.0,
    )
