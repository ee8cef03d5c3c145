"""Which waiting jobs are told why they wait: late, seldom, and a few at a time."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from orchestrator_crds import OrchestratorJob
from orchestrator_operator.core.admission import Plan
from orchestrator_operator.core.blockers import Blocker, blockers
from orchestrator_operator.core.snapshot import Backlog, Group

# A reason is worth a write only once the job has waited, and never at the cost of the rest.
AFTER_SECONDS = 10.0
PER_SECOND = 5
# How many jobs are looked at, of a long queue, for one that is to be told.
LOOKED_AT = 2000


@dataclass(frozen=True)
class Told:
    """A job, and the nearest reason for its waiting."""

    name: str
    blocker: Blocker


class Telling:
    """Hands out what is to be told now, and when to ask again."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._looked_at = 0.0
        # Where the round through each user's jobs is; whose turn comes next stands first.
        self._rounds: dict[str, Iterator[str]] = {}
        self._reasons: dict[Group, Blocker | None] = {}

    def due(
        self, plan: Plan, jobs: Mapping[str, OrchestratorJob], busy: Collection[str]
    ) -> tuple[list[Told], float | None]:
        """Return (what to tell now, seconds until there may be more to tell, or None).

        A job is told again only when the reason's word changes: numbers in a message go stale.
        """
        now, waiting = self._clock(), plan.snapshot.waiting
        if now - self._looked_at < 1.0:
            return [], 1.0
        self._looked_at = now
        self._reasons = {}
        told: list[Told] = []
        soonest: float | None = None
        looked_at: set[str] = set()
        for name in self._names(waiting):
            job, item = jobs.get(name), waiting.get(name)
            again = name in looked_at
            looked_at.add(name)
            if job is not None and item is not None and name not in busy and not again:
                left = item.since + AFTER_SECONDS - now
                if left > 0:
                    soonest = left if soonest is None else min(soonest, left)
                    continue
                blocker = self._reason(plan, item.group)
                if blocker is not None and job.status.reason != blocker.code:
                    told.append(Told(name, blocker))
            if len(told) == PER_SECOND or len(looked_at) == LOOKED_AT:
                break
        if told or len(looked_at) == LOOKED_AT:
            soonest = 1.0 if soonest is None else min(soonest, 1.0)
        return told, soonest

    def _names(self, waiting: Backlog) -> Iterator[str]:
        """Go on with each user's round, a job of each in turn; a round begins anew once.

        Whoever has one job hears of it however many others have.
        """
        groups: dict[str, list[Group]] = {}
        for group in waiting.groups:
            groups.setdefault(group.user, []).append(group)
        known = {user: names for user, names in self._rounds.items() if user in groups}
        self._rounds = known | {user: iter(()) for user in groups if user not in known}
        turns, begun = deque(self._rounds), set[str]()
        while turns:
            user = turns.popleft()
            name = next(self._rounds[user], None)
            if name is not None:
                self._rounds[user] = self._rounds.pop(user)
                yield name
            elif user in begun:
                continue
            else:
                begun.add(user)
                every = [name for group in groups[user] for _, name in waiting.groups[group]]
                self._rounds[user] = iter(every)
            turns.append(user)

    def _reason(self, plan: Plan, group: Group) -> Blocker | None:
        if group not in self._reasons:
            self._reasons[group] = next(iter(blockers(plan, group)), None)
        return self._reasons[group]
