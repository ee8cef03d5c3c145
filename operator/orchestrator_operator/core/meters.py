"""Use against limits: one meter for each limit of each quota, in all and per user."""

from collections.abc import Iterable, Mapping

from orchestrator_crds.amounts import vector
from orchestrator_operator.core.snapshot import Demand, Rule

ONE = 1


class Meter:
    """One limit, what of it is used, and what is kept for a job that has waited long.

    *field* is where the limit stands in the object's spec; *resource* is empty where jobs are
    counted, and *user* where all users are counted together.
    """

    __slots__ = ("field", "kept", "kind", "limit", "name", "resource", "used", "user")

    def __init__(
        self, kind: str, name: str, field: str, limit: int, *, resource: str = "", user: str = ""
    ) -> None:
        self.kind, self.name, self.field, self.limit = kind, name, field, limit
        self.resource, self.user = resource, user
        self.used = self.kept = 0

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} {self.field}: {self.used}+{self.kept} of {self.limit}>"


# What one job adds to each meter that it counts on.
Charges = list[tuple[Meter, int]]


class _Quota:
    """The meters of one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        limits = rule.limits
        self.total = self._meters(limits.max_running, vector(limits.max_resources), "max{}", "")
        self._per_user = vector(limits.max_resources_per_user)
        self._users: dict[str, list[Meter]] = {}

    def covers(self, user: str) -> bool:
        return not self.rule.only_users or user in self.rule.only_users

    def of(self, user: str) -> list[Meter]:
        """Return the meters that count *user* alone."""
        found = self._users.get(user)
        if found is not None:
            return found
        limits = self.rule.limits
        own = limits.users.get(user)
        jobs, amounts, field = limits.max_running_per_user, self._per_user, "max{}PerUser"
        if own is None:
            found = self._meters(jobs, amounts, field, user)
        else:
            named, own_amounts = f"users.{user}.max{{}}", vector(own.max_resources)
            if own.max_running is not None:
                found = self._meters(own.max_running, {}, named, user)
            else:
                found = self._meters(jobs, {}, field, user)
            rest = {name: n for name, n in amounts.items() if name not in own_amounts}
            found += self._meters(None, own_amounts, named, user)
            found += self._meters(None, rest, field, user)
        self._users[user] = found
        return found

    def _meters(
        self, jobs: int | None, amounts: Mapping[str, int], field: str, user: str
    ) -> list[Meter]:
        name, origins = self.rule.name, self.rule.origins
        meters = []
        if jobs is not None:
            where = field.format("Running")
            where = origins.get(where, "") + where
            meters.append(Meter(QUOTA, name, where, jobs, user=user))
        for resource, limit in sorted(amounts.items()):
            where = field.format("Resources")
            where = origins.get(f"{where}.{resource}", "") + where
            meters.append(Meter(QUOTA, name, where, limit, resource=resource, user=user))
        return meters


QUOTA = "OrchestratorQuota"
POOL = "OrchestratorNodePool"


class Meters:
    """The meters of all quotas in one pass."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._quotas = [_Quota(rule) for rule in sorted(rules, key=lambda rule: rule.name)]
        self._by_service: dict[str, list[_Quota]] = {}
        self._charges: dict[tuple[str, str, Demand], Charges | None] = {}

    def of(self, service: str, user: str, demand: Demand) -> Charges | None:
        """Return what a job adds to which meters, or None when no quota matches it."""
        key = (service, user, demand)
        try:
            return self._charges[key]
        except KeyError:
            found = self._charges[key] = self._find(service, user, demand)
            return found

    def _find(self, service: str, user: str, demand: Demand) -> Charges | None:
        quotas = [quota for quota in self._of_service(service) if quota.covers(user)]
        if not any(quota.rule.grants for quota in quotas):
            return None
        # A user's own limit is the nearer reason, so it comes first.
        return charges(
            [meter for quota in quotas for meter in (*quota.of(user), *quota.total)], demand
        )

    def shut(self, service: str) -> bool:
        """Return whether a limit on jobs of all users together stops every job of *service*."""
        return any(
            meter.used >= meter.limit
            for quota in self._of_service(service)
            if not quota.rule.only_users
            for meter in quota.total
            if not meter.resource
        )

    def _of_service(self, service: str) -> list[_Quota]:
        found = self._by_service.get(service)
        if found is None:
            found = self._by_service[service] = [q for q in self._quotas if q.rule.counts(service)]
        return found


def caps(name: str, max_running: int | None, max_resources: Mapping[str, int]) -> list[Meter]:
    """Return the meters of a node pool's caps."""
    found = []
    if max_running is not None:
        found.append(Meter(POOL, name, "maxRunning", max_running))
    for resource, limit in sorted(max_resources.items()):
        found.append(Meter(POOL, name, "maxResources", limit, resource=resource))
    return found


def charges(meters: Iterable[Meter], demand: Demand) -> Charges:
    """Return what a job with *demand* adds to those of *meters* that it counts on."""
    amounts = dict(demand.amounts)
    found = []
    for meter in meters:
        amount = amounts.get(meter.resource, 0) if meter.resource else ONE
        if amount:
            found.append((meter, amount))
    return found


def charge(charges: Charges, times: int = 1) -> None:
    """Count one job more, or with -1 one less."""
    for meter, amount in charges:
        meter.used += amount * times


def full(charges: Charges) -> list[Meter]:
    """Return the meters that have no room for one more such job."""
    return [m for m, amount in charges if m.used + m.kept + amount > m.limit]
