"""What an admission pass looks at: jobs, use, limits and pools, frozen at one instant.

Amounts are whole thousandths (`orchestrator_crds.amounts`), times are seconds since 1970.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator_crds import Limits
from orchestrator_crds.quota import FairShare


class Demand(NamedTuple):
    """What one job takes up: (name of the resource, amount), in order of name."""

    amounts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, amounts: Mapping[str, int]) -> "Demand":
        """Return the demand with these amounts."""
        return cls(tuple(sorted(amounts.items())))


NOTHING = Demand()


class Group(NamedTuple):
    """Waiting jobs that differ in nothing but their age."""

    service: str
    user: str
    priority: int
    demand: Demand


class Waiting(NamedTuple):
    """A job that waits to be admitted, since when, and with which others."""

    since: float
    name: str
    group: Group


@dataclass(frozen=True)
class Held:
    """What one live claim, or one pod that is not over yet, counts against.

    *node* is empty until the scheduler has chosen one; *stuck* is set when it found none.
    """

    service: str
    user: str
    demand: Demand = NOTHING
    pool: str = ""
    node: str = ""
    stuck: bool = False
    # When its attempt was admitted.
    since: float = 0.0


class Backlog:
    """All waiting jobs: in groups, oldest first. Kept up to date job by job, not built anew."""

    def __init__(self, jobs: Iterable[Waiting] = ()) -> None:
        self.groups: dict[Group, list[tuple[float, str]]] = {}
        self._known: dict[str, Waiting] = {}
        for job in jobs:
            self.put(job)

    def __len__(self) -> int:
        return len(self._known)

    def names(self) -> Iterable[str]:
        """Return the names of the waiting jobs."""
        return self._known

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._known.values())

    def get(self, name: str) -> Waiting | None:
        """Return a waiting job, or None when no job of this name waits."""
        return self._known.get(name)

    def copy(self) -> "Backlog":
        """Return what it is now; nothing done to the one changes the other."""
        found = Backlog()
        found.groups = {group: list(jobs) for group, jobs in self.groups.items()}
        found._known = dict(self._known)
        return found

    def of_service(self, service: str) -> "Backlog":
        """Return those that wait for *service*."""
        found = Backlog()
        found.groups = {g: list(jobs) for g, jobs in self.groups.items() if g.service == service}
        found._known = {n: job for n, job in self._known.items() if job.group.service == service}
        return found

    def count(self, service: str) -> int:
        """Return how many wait for *service*."""
        return sum(len(jobs) for group, jobs in self.groups.items() if group.service == service)

    def put(self, job: Waiting) -> None:
        """Take in a job, in place of what was known of it."""
        if self._known.get(job.name) == job:
            return
        self.drop(job.name)
        self._known[job.name] = job
        insort(self.groups.setdefault(job.group, []), (job.since, job.name))

    def drop(self, name: str) -> None:
        """Take a job out; one that does not wait is no error."""
        job = self._known.pop(name, None)
        if job is None:
            return
        jobs = self.groups[job.group]
        del jobs[bisect_left(jobs, (job.since, name))]
        if not jobs:
            del self.groups[job.group]


@dataclass(frozen=True)
class Rule:
    """One quota at this moment. Two of the same name both apply."""

    name: str
    limits: Limits
    services: Collection[str] = ()
    only_users: Collection[str] = ()
    # A quota that is not in force yet limits already, but lets nothing start.
    grants: bool = True
    # Which limits come from a window or override: path -> what stands before it (`windows`).
    origins: Mapping[str, str] = field(default_factory=dict)

    def counts(self, service: str) -> bool:
        """Return whether jobs of *service* are counted, be it only those of some users."""
        return not self.services or service in self.services


USUAL_TURNS = FairShare()


@dataclass(frozen=True)
class Service:
    """What admission needs to know of a service."""

    pools: tuple[str, ...]
    # What a job of it takes up that asks for nothing else.
    usual: Demand = NOTHING
    max_priority: int = 0
    fair_share: FairShare = USUAL_TURNS


@dataclass(frozen=True)
class Node:
    """A node of a pool. *usable* is False while it is cordoned or not ready."""

    name: str
    allocatable: Mapping[str, int]
    usable: bool = True


@dataclass(frozen=True)
class Pool:
    """A node pool: its nodes, its caps, and the largest node it was ever seen to have."""

    nodes: tuple[Node, ...] = ()
    # Room on its nodes stops no job: they are not known, or more come when pods wait.
    elastic: bool = False
    largest: Mapping[str, int] = field(default_factory=dict)
    max_running: int | None = None
    max_resources: Mapping[str, int] = field(default_factory=dict)


User = tuple[str, str]


@dataclass(frozen=True)
class Snapshot:
    """Everything that one admission pass may know. Mappings are keyed by resource name."""

    waiting: Backlog
    held: Sequence[Held]
    rules: Sequence[Rule]
    services: Mapping[str, Service]
    pools: Mapping[str, Pool]
    now: float
    # What a pod takes up on its node beside its job.
    overhead: Mapping[str, int] = field(default_factory=dict)
    # Jobs that cannot be admitted this time, since something is being written for them.
    busy: Collection[str] = ()
    # (service, user) -> jobs that it ran at once lately, as a decayed mean in usual jobs.
    past: Mapping[User, float] = field(default_factory=dict)
    # (service, user) -> when it last got a turn.
    served: Mapping[User, float] = field(default_factory=dict)
