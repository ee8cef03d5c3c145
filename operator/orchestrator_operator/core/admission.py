"""Who runs next, where, and why not yet.

Users are served in turn: the next job is the oldest one of the user with the fewest running jobs
of that service, which is max-min fairness for jobs of equal size (Bertsekas and Gallager, "Data
Networks", 6.5.2). Every quota that matches a job applies to it; what a pass admits is charged
within the pass, so a later candidate sees it.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator_crds import QuotaSpec, Reason
from orchestrator_operator.core.snapshot import Held, Snapshot, Waiting


@dataclass(frozen=True)
class Admitted:
    """A job that runs now, and the pool it runs on."""

    job: Waiting
    pool: str


@dataclass(frozen=True)
class Blocked:
    """A job that waits, and why: a word for programs and a sentence for people."""

    job: Waiting
    reason: Reason
    message: str


@dataclass(frozen=True)
class Plan:
    """What one pass decided: the admitted in the order of their turns, and everyone else."""

    admitted: tuple[Admitted, ...]
    blocked: tuple[Blocked, ...]


@dataclass
class _Use:
    """Use of every quota, in all and per user; grows while a pass admits."""

    quotas: dict[str, QuotaSpec]
    total: Counter[str] = field(default_factory=Counter)
    per_user: Counter[tuple[str, str]] = field(default_factory=Counter)

    def matching(self, held: Held) -> Iterable[tuple[str, QuotaSpec]]:
        for name, quota in self.quotas.items():
            if quota.services and held.service not in quota.services:
                continue
            if quota.users and held.user not in quota.users:
                continue
            yield name, quota

    def charge(self, held: Held) -> None:
        for name, _ in self.matching(held):
            self.total[name] += 1
            self.per_user[name, held.user] += 1

    def blocker(self, held: Held) -> tuple[Reason, str] | None:
        """Return the first limit that is in the way, or None. Quotas come in order of name."""
        found = False
        for name, quota in self.matching(held):
            found = True
            used, own = self.total[name], self.per_user[name, held.user]
            if own >= quota.max_running_per_user:
                return Reason.USER_LIMIT, (
                    f"Quota {name} lets one user run {_jobs(quota.max_running_per_user)} at once; "
                    f"{own} of this user's are running. This one starts when one of them ends."
                )
            if used >= quota.max_running:
                return Reason.SERVICE_LIMIT, (
                    f"Quota {name} lets {_jobs(quota.max_running)} run at once; "
                    f"{used} are running. This one starts when its turn comes."
                )
        if not found:
            return Reason.NO_QUOTA, (
                f"No OrchestratorQuota matches service {held.service}; "
                "an administrator must make one."
            )
        return None


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def plan(snapshot: Snapshot) -> Plan:
    """Decide on every waiting job. Deterministic: equal snapshots give equal plans."""
    use = _Use(dict(sorted(snapshot.quotas.items())))
    running: Counter[Held] = Counter()
    for held in snapshot.held:
        use.charge(held)
        running[held] += 1
    queues: defaultdict[Held, deque[Waiting]] = defaultdict(deque)
    for job in sorted(snapshot.waiting, key=_age):
        queues[Held(job.service, job.user)].append(job)
    admitted: list[Admitted] = []
    blocked: list[Blocked] = []
    turns = [
        (running[held], *_age(queue[0]), held.service, held.user) for held, queue in queues.items()
    ]
    heapq.heapify(turns)
    while turns:
        _, _, _, service, user = heapq.heappop(turns)
        held = Held(service, user)
        queue = queues[held]
        pool, limit = _place(snapshot, service)
        limit = limit or use.blocker(held)
        if limit is not None:
            # Whatever stops the first of a user's jobs on a service stops all of them.
            blocked += [Blocked(job, *limit) for job in queue]
            continue
        admitted.append(Admitted(queue.popleft(), pool))
        use.charge(held)
        running[held] += 1
        if queue:
            heapq.heappush(turns, (running[held], *_age(queue[0]), service, user))
    return Plan(tuple(admitted), tuple(blocked))


def _age(job: Waiting) -> tuple[str, str]:
    return job.since, job.name


def _place(snapshot: Snapshot, service: str) -> tuple[str, tuple[Reason, str] | None]:
    """Return the pool that jobs of *service* go to, and what is in the way when there is none."""
    found = snapshot.services.get(service)
    if found is None:
        sentence = f"There is no OrchestratorService {service} now."
        return "", (Reason.SERVICE_NOT_READY, sentence)
    for pool in found.spec.node_pools:
        if pool in snapshot.pools:
            return pool, None
    sentence = (
        f"None of the node pools of service {service} exists: "
        f"{', '.join(found.spec.node_pools)}. An administrator must make one."
    )
    return "", (Reason.SERVICE_NOT_READY, sentence)
