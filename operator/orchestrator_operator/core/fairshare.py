"""Whose turn it is: weighted shares of users, by dominant resource, with decayed past use.

A user's share is the largest part that it holds of any resource of the service's pools, over its
weight: weighted dominant resource fairness (Ghodsi et al., NSDI 2011), which for jobs of equal
size is max-min fairness of their number. What a user ran in the past counts as the mean number of
jobs that it ran at once, each moment weighing half as much after a half-life (as in Slurm's
multifactor plugin and HTCondor's user priorities).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from orchestrator_operator.core.snapshot import Demand, Service, Snapshot, User

# Shares are whole numbers, so that sums do not depend on their order: parts of the whole.
WHOLE = 10**12
JOBS = "jobs"
# A user whose past use has come down to this many jobs is forgotten.
FORGOTTEN = 0.001


class Standing:
    """How one user of one service stands in a pass."""

    __slots__ = ("key", "loads", "past", "served", "share", "turn", "weight")

    def __init__(self, key: User, weight: int, past: int, served: float, width: int) -> None:
        self.key, self.weight, self.past, self.served = key, weight, past, served
        self.loads = [0] * width
        self.share = past // weight
        # Grows with every turn, so that a place in the order can be told to be old.
        self.turn = 0

    def add(self, parts: list[tuple[int, int]]) -> None:
        """Count a job that holds *parts*: (number of the resource, part of the whole)."""
        loads, most = self.loads, 0
        if len(loads) == 1:
            most = loads[0] = loads[0] + parts[0][1]
            self.share = (most + self.past) // self.weight
            return
        for resource, part in parts:
            loads[resource] += part
        for load in loads:
            if load > most:
                most = load
        self.share = (most + self.past) // self.weight


class Shares:
    """How the users of every service stand in one pass."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._scales: dict[str, _Scale] = {}
        self._standings: dict[User, Standing] = {}
        self._demands: dict[str, set[Demand]] = {}
        for group in snapshot.waiting.groups:
            self._demands.setdefault(group.service, set()).add(group.demand)
        for held in snapshot.held:
            self._demands.setdefault(held.service, set()).add(held.demand)
        self._weights = {service: self._weights_of(service) for service in self._demands}

    def of(self, service: str, user: str) -> Standing:
        """Return how *user* stands on *service*."""
        key = (service, user)
        found = self._standings.get(key)
        if found is None:
            scale = self._scale(service)
            past = int(self._snapshot.past.get(key, 0.0) * scale.usual)
            found = self._standings[key] = Standing(
                key,
                self._weight(service, user),
                past,
                self._snapshot.served.get(key, 0.0),
                scale.width,
            )
        return found

    def parts(self, service: str, demand: Demand) -> list[tuple[int, int]]:
        """Return which parts of the whole a job holds."""
        return self._scale(service).parts(demand)

    def size(self, service: str, demand: Demand) -> float:
        """Return how many usual jobs of *service* one with this demand is worth."""
        scale = self._scale(service)
        return max(part for _, part in scale.parts(demand)) / scale.usual

    def _scale(self, service: str) -> "_Scale":
        found = self._scales.get(service)
        if found is None:
            facts = self._snapshot.services.get(service, Service(()))
            demands = self._demands.get(service, ())
            found = self._scales[service] = _Scale(facts, demands, self._snapshot)
        return found

    def _weight(self, service: str, user: str) -> int:
        for only, weights in self._weights.get(service, ()):
            weight = weights.get(user)
            if weight is not None and (not only or user in only):
                return weight
        return 1

    def _weights_of(self, service: str) -> list[tuple[Collection[str], dict[str, int]]]:
        found: list[tuple[Collection[str], dict[str, int]]] = []
        for rule in sorted(self._snapshot.rules, key=lambda rule: rule.name):
            if rule.counts(service):
                named = {u: own.weight for u, own in rule.limits.users.items() if own.weight}
                if named:
                    found.append((rule.only_users, named))
        return found


class _Scale:
    """The whole of every resource, as one service sees it, and the demands that its jobs make."""

    def __init__(self, service: Service, demands: Collection[Demand], snapshot: Snapshot) -> None:
        self._whole: dict[str, int] = {}
        pools = [snapshot.pools[name] for name in service.pools if name in snapshot.pools]
        for node in {node.name: node for pool in pools for node in pool.nodes}.values():
            for resource, amount in node.allocatable.items():
                self._whole[resource] = self._whole.get(resource, 0) + amount
        # Without nodes to go by, a usual job is the measure.
        self._usual = dict(service.usual.amounts)
        # Jobs are counted, too, in case that they ask for nothing at all.
        self._numbers = {JOBS: 0}
        for resource in sorted({name for demand in demands for name, _ in demand.amounts}):
            self._numbers[resource] = len(self._numbers)
        self._known: dict[Demand, list[tuple[int, int]]] = {}
        self.usual = max(part for _, part in self._all(service.usual))
        # Where all jobs are alike, only what they have most of can matter.
        self.alike = len(demands) <= 1
        self.width = 1 if self.alike else len(self._numbers)

    def parts(self, demand: Demand) -> list[tuple[int, int]]:
        found = self._known.get(demand)
        if found is None:
            found = self._all(demand)
            if self.alike:
                found = [(0, max(part for _, part in found))]
            self._known[demand] = found
        return found

    def _all(self, demand: Demand) -> list[tuple[int, int]]:
        found = [(0, 1)]
        for resource, amount in demand.amounts:
            whole = self._whole.get(resource) or self._usual.get(resource)
            if whole and amount:
                found.append((self._numbers.get(resource, 0), amount * WHOLE // whole))
        return found


@dataclass
class Ledger:
    """What users ran lately: (service, user) -> decayed mean of jobs at once, at a given time.

    A plain value, advanced in steps; the operator keeps it across restarts.
    """

    at: float
    means: dict[User, float] = field(default_factory=dict)
    served: dict[User, float] = field(default_factory=dict)

    def advance(
        self,
        now: float,
        running: Mapping[User, float],
        half_lives: Mapping[str, float],
        oldest: Mapping[str, float],
    ) -> None:
        """Move to *now*, during which *running* (in usual jobs) ran all the time.

        *half_lives* are seconds, by service; a service without one has no past. Turns before
        *oldest*, by service, are forgotten.
        """
        elapsed = now - self.at
        self.at = now
        if elapsed <= 0:
            return  # a clock that was put back adds nothing
        self.served = {key: at for key, at in self.served.items() if at > oldest.get(key[0], now)}
        kept: dict[User, float] = {}
        for key in {*self.means, *running}:
            half_life = half_lives.get(key[0], 0.0)
            if half_life <= 0:
                continue
            left = math.exp2(-elapsed / half_life)
            mean = self.means.get(key, 0.0) * left + running.get(key, 0.0) * (1 - left)
            if mean > FORGOTTEN:
                kept[key] = mean
        self.means = kept

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON can hold it."""
        return {
            "at": self.at,
            "means": [[*key, value] for key, value in sorted(self.means.items())],
            "served": [[*key, value] for key, value in sorted(self.served.items())],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Ledger":
        """Return what `to_dict` gave; raises ValueError or TypeError for anything else."""
        parts = [
            {(str(s), str(u)): float(value) for s, u, value in data.get(name) or ()}  # type: ignore[attr-defined]
            for name in ("means", "served")
        ]
        return cls(float(data["at"]), *parts)  # type: ignore[arg-type]
