"""One admission pass: the mirror as a snapshot → the core's plan."""

from collections.abc import Collection, Mapping

from orchestrator_operator.core import facts
from orchestrator_operator.core.admission import Plan, plan
from orchestrator_operator.core.durations import Durations
from orchestrator_operator.core.fairshare import Ledger, Shares
from orchestrator_operator.core.podspec import OVERHEAD
from orchestrator_operator.core.snapshot import Held, Pool, Service, Snapshot, User
from orchestrator_operator.mirror import Mirror


class Admission:
    """Makes snapshots of the mirror, and remembers between passes what costs time to find out."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._limits = facts.Limits()
        self._services: dict[str, Service] = {}
        self._pools: dict[str, Pool] = {}
        self.ledger = Ledger(at=0.0)
        self.durations = Durations()
        self._holding: dict[str, Held] = {}
        # Which quotas are right as they stand.
        self.right: Collection[str] = frozenset()
        # When limits change by themselves, in seconds since 1970, if they do.
        self.changes_at: float | None = None

    def refresh(self) -> None:
        """Look again at services, pools and nodes, since one of them has changed."""
        mirror = self._mirror
        quotas = list(mirror.quotas.values())
        self._services = {
            name: facts.service(found, quotas) for name, found in mirror.services.items()
        }
        self._pools = {
            name: facts.pool(found, mirror.nodes) for name, found in mirror.pools.items()
        }

    def snapshot(self, claimed: Mapping[str, Held], busy: Collection[str], now: float) -> Snapshot:
        """Return everything as it is *now*, in seconds since 1970.

        *claimed* are the claims under way (job uid -> what they hold), which no watch has echoed
        yet; *busy* are the jobs that something is being written for.
        """
        holding = self._mirror.held()
        self._learn(holding, now)
        held = list((holding | dict(claimed)).values())
        quotas = [(quota, name in self.right) for name, quota in self._mirror.quotas.items()]
        rules, self.changes_at = self._limits.rules(quotas, now)
        snapshot = Snapshot(
            waiting=self._mirror.backlog,
            held=held,
            rules=rules,
            services=self._services,
            pools=self._pools,
            now=now,
            overhead=OVERHEAD,
            busy=busy,
            past=self.ledger.means,
            served=self.ledger.served,
        )
        self._account(snapshot)
        return snapshot

    def decide(self, snapshot: Snapshot, most: int) -> Plan:
        """Return the plan for *snapshot*, which admits at most *most* jobs."""
        decided = plan(snapshot, most)
        for admitted in decided.admitted:
            group = admitted.group
            self.ledger.served[group.service, group.user] = snapshot.now
        return decided

    def absorb(self, books: Ledger, durations: Durations) -> None:
        """Add what an operator before has booked and learned.

        Every use decays by itself, so that sums are right; and what has run on meanwhile counts.
        """
        durations.append(self.durations)
        self.durations = durations
        if not self.ledger.at:
            self.ledger = books
            return
        books.advance(self.ledger.at, {}, self._half_lives(), {})
        for key, mean in books.means.items():
            self.ledger.means[key] = self.ledger.means.get(key, 0.0) + mean

    def _learn(self, holding: dict[str, Held], now: float) -> None:
        """Take in how long those held their places that hold none any more."""
        gone = {uid: held for uid, held in self._holding.items() if uid not in holding}
        if gone:
            # A claim that was put back, or an attempt that is to be tried again, says nothing.
            live = {job.metadata.uid for job in self._mirror.jobs.values()}
            for uid, held in gone.items():
                if uid not in live and 0 < held.since < now:
                    self.durations.add(held.service, now - held.since)
        self._holding = holding

    def _half_lives(self) -> dict[str, float]:
        return {
            name: service.fair_share.half_life_seconds for name, service in self._services.items()
        }

    def _account(self, snapshot: Snapshot) -> None:
        """Book what ran since the last time."""
        self.ledger.at = self.ledger.at or snapshot.now
        half_lives = self._half_lives()
        running: dict[User, float] = {}
        if any(half_lives.values()):
            shares = Shares(snapshot)
            for held in snapshot.held:
                key = (held.service, held.user)
                size = shares.size(held.service, held.demand)
                running[key] = running.get(key, 0.0) + size
        oldest = {
            name: snapshot.now - service.fair_share.aging_seconds
            for name, service in self._services.items()
        }
        self.ledger.advance(snapshot.now, running, half_lives, oldest)
