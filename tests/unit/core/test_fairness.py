"""Turns: the engine against an oracle that tries everything, equal shares, and no starving."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_crds import OrchestratorQuota
from orchestrator_crds.amounts import vector
from orchestrator_operator.core.admission import plan
from orchestrator_operator.core.fairshare import Ledger
from orchestrator_operator.core.snapshot import Held, Snapshot, Waiting
from tests.support.builders import a_quota
from tests.support.world import (
    NOW,
    SMALL,
    a_facts,
    held,
    job,
    jobs,
    names,
    node,
    pool,
    size,
    users,
    world,
)

NAMES = "abcd"
SERVICES = ("example", "docking")
TWO = size(cpu="2", memory="1Gi")
limit = st.integers(0, 4)
quotas = st.builds(
    lambda name, chosen, total, own, cpu, users: a_quota(
        name,
        services=sorted(chosen),
        maxRunning=total,
        maxRunningPerUser=own,
        maxResources={"cpu": str(cpu)},
        users={u: {"maxRunning": n, "weight": w} for u, (n, w) in users.items()},
    ),
    st.sampled_from("pqr"),
    st.sets(st.sampled_from(SERVICES)),
    limit,
    limit,
    st.integers(1, 6),
    st.dictionaries(st.sampled_from(NAMES), st.tuples(limit, st.integers(1, 3)), max_size=2),
)
asked = st.lists(
    st.tuples(
        st.sampled_from(SERVICES),
        st.sampled_from(NAMES),
        st.sampled_from([SMALL, TWO]),
        st.integers(0, 2),
    ),
    max_size=14,
).map(
    lambda found: [
        job(f"j{n:02}", user, service=service, demand=demand, priority=priority, since=NOW - 99 + n)
        for n, (service, user, demand, priority) in enumerate(found)
    ]
)
holders = st.lists(
    st.builds(
        lambda service, user, demand, ago: held(
            user, service=service, demand=demand, since=NOW - ago
        ),
        st.sampled_from(SERVICES),
        st.sampled_from(NAMES),
        st.sampled_from([SMALL, TWO]),
        st.integers(0, 3),
    ),
    max_size=6,
)


class Oracle:
    """Tries every waiting job in every step; slow, and written from the README alone."""

    def __init__(self, found: list[Waiting], given_quotas: list[OrchestratorQuota], on: list[Held]):
        self.waiting, self.quotas, self.on = list(found), given_quotas, list(on)

    def run(self) -> list[str]:
        out = []
        while free := [one for one in self.waiting if self.allowed(one)]:
            best = min(free, key=self.turn)
            self.waiting.remove(best)
            group = best.group
            self.on.append(held(group.user, service=group.service, demand=group.demand, since=NOW))
            out.append(best.name)
        return out

    def allowed(self, one: Waiting) -> bool:
        group = one.group
        matching = [q.spec for q in self.quotas if q.spec.matches(group.service, group.user)]
        for spec in matching:
            counted = [h for h in self.on if spec.matches(h.service, h.user)]
            own = spec.users.get(group.user)
            most = own.max_running if own else spec.max_running_per_user
            cpu = sum(dict(h.demand.amounts)["cpu"] for h in counted)
            if (
                len(counted) >= (spec.max_running or 0)
                or sum(h.user == group.user for h in counted) >= (most or 0)
                or cpu + dict(group.demand.amounts)["cpu"] > vector(spec.max_resources)["cpu"]
            ):
                return False
        return bool(matching)

    def turn(self, one: Waiting) -> tuple[int, int, float, float, str]:
        group = one.group
        mine = [h for h in self.on if (h.service, h.user) == (group.service, group.user)]
        whole = {"cpu": 1_000_000, "memory": 1000 * 1024**3 * 1000}
        loads = [
            sum(dict(h.demand.amounts)[name] * 10**12 // whole[name] for h in mine)
            for name in whole
        ]
        weights = [
            q.spec.users[group.user].weight
            for q in self.quotas
            if (not q.spec.services or group.service in q.spec.services)
            and group.user in q.spec.users
        ]
        share = max(*loads, len(mine)) // ((weights or [1])[0] or 1)
        last = max((h.since for h in mine), default=0.0)
        return -min(group.priority, 1), share, last, one.since, one.name


def see(found: list[Waiting], given_quotas: list[OrchestratorQuota], on: list[Held]) -> Snapshot:
    services = {name: a_facts(max_priority=1) for name in SERVICES}
    return world(found, *given_quotas, holding=on, services=services)


@given(asked, st.lists(quotas, max_size=3, unique_by=lambda q: q.metadata.name), holders)
@settings(max_examples=300, deadline=None)
def test_the_engine_decides_as_one_that_tries_everything(
    found: list[Waiting], given_quotas: list[OrchestratorQuota], on: list[Held]
) -> None:
    by_name = sorted(given_quotas, key=lambda quota: quota.metadata.name)
    wanted = Oracle(found, by_name, on).run()
    assert names(plan(see(found, given_quotas, on))) == wanted
    # The order in which jobs became known makes no difference.
    assert names(plan(see(found[::-1], given_quotas[::-1], on[::-1]))) == wanted


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=30), st.integers(0, 12))
def test_equal_users_get_equal_shares(waiting: list[str], room: int) -> None:
    got = Counter(
        users(plan(world(jobs(*waiting), a_quota(maxRunning=room, maxRunningPerUser=room))))
    )
    left = Counter(waiting) - got
    for one in got | left:
        for other in left:
            assert got[one] <= got[other] + 1, (got, left)


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=30))
def test_one_place_for_all_goes_round(waiting: list[str]) -> None:
    """Nobody gets two turns in a row while another waits, however long a line somebody sent first.

    Shares say nothing there: whenever the place is free, nobody holds anything.
    """
    left, served, last = jobs(*waiting), dict[tuple[str, str], float](), ""
    for turn in range(len(waiting)):
        snapshot = world(left, a_quota(maxRunning=1), served=served)
        [admitted] = plan(replace(snapshot, now=NOW + turn)).admitted
        assert admitted.group.user != last or {one.group.user for one in left} == {last}
        last = admitted.group.user
        served["example", last] = NOW + turn
        left = [one for one in left if one.name != admitted.name]


# A slot is taken for this long, and a user without a turn for so long comes first.
LASTS, AGING, SLOTS = 10, 100, 2


def turns(present: int, arrivals: list[int], **service: int) -> Iterator[tuple[float, str]]:
    """Yield (time, user) of each turn while newcomers with a higher priority arrive all the time."""
    quota = a_quota(maxRunning=SLOTS, maxRunningPerUser=SLOTS)
    facts = a_facts(max_priority=9, **service)
    waiting = [job("victim", "victim", since=NOW)]
    waiting += [job(f"p{n}", f"p{n}", since=NOW) for n in range(present)]
    ends: list[tuple[float, Held]] = []
    served: dict[tuple[str, str], float] = {}
    past = {("example", "victim"): 50.0}
    number = 0
    for step in range(4 * AGING // LASTS + present):
        moment = NOW + step * LASTS
        for _ in range(arrivals[step % len(arrivals)]):
            number += 1
            waiting.append(job(f"n{number}", f"n{number}", since=moment, priority=9))
        ends = [(end, one) for end, one in ends if end > moment]
        snapshot = world(
            waiting, quota, holding=[one for _, one in ends], services={"example": facts},
            past=past, served=served, pools={"cpu": pool(node())},
        )  # fmt: skip
        for admitted in plan(replace(snapshot, now=moment)).admitted:
            yield moment, admitted.group.user
            served["example", admitted.group.user] = moment
            waiting = [one for one in waiting if one.name != admitted.name]
            ends.append((moment + LASTS, held(admitted.group.user, since=moment)))


def waited(present: int, arrivals: list[int], **service: int) -> float:
    """Return how long the victim waited, which everything else speaks against."""
    for moment, user in turns(present, arrivals, **service):
        if user == "victim":
            return moment - NOW
    return float("inf")


def bound(present: int) -> float:
    # Late after the aging time; then those who are late as well, each in a slot, go before it.
    return AGING + LASTS * (present // SLOTS + 2)


@given(st.integers(0, 6), st.lists(st.integers(2, 4), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_nobody_starves_within_the_bound_of_aging(present: int, arrivals: list[int]) -> None:
    assert waited(present, arrivals, aging_seconds=AGING) <= bound(present)


def test_without_aging_somebody_does() -> None:
    assert waited(3, [3], aging_seconds=31536000) > bound(3)


LIVES = {"example": 100.0}


class TestLedger:
    def test_a_mean_comes_up_to_what_runs_and_halves_when_it_does_not(self) -> None:
        ledger, key = Ledger(at=0.0), ("example", "a")
        ledger.advance(100.0, {key: 4.0}, LIVES, {})
        assert ledger.means[key] == pytest.approx(2.0)
        ledger.advance(300.0, {}, LIVES, {})
        assert ledger.means[key] == pytest.approx(0.5)

    @given(st.lists(st.floats(0.1, 500), min_size=1, max_size=8))
    def test_steps_make_no_difference(self, steps: list[float]) -> None:
        key = ("example", "a")
        one, many = Ledger(at=0.0), Ledger(at=0.0)
        one.advance(sum(steps), {key: 3.0}, LIVES, {})
        for n in range(len(steps)):
            many.advance(sum(steps[: n + 1]), {key: 3.0}, LIVES, {})
        assert many.means.get(key, 0.0) == pytest.approx(one.means.get(key, 0.0), abs=0.01)

    def test_without_a_half_life_there_is_no_past(self) -> None:
        ledger = Ledger(at=0.0)
        ledger.advance(100.0, {("example", "a"): 4.0}, {"example": 0.0}, {})
        assert not ledger.means

    def test_a_clock_that_is_put_back_adds_nothing(self) -> None:
        ledger, key = Ledger(at=1000.0), ("example", "a")
        ledger.advance(500.0, {key: 4.0}, LIVES, {})
        assert not ledger.means
        ledger.advance(600.0, {key: 4.0}, LIVES, {})
        assert ledger.means[key] == pytest.approx(2.0)

    def test_it_is_the_same_after_it_was_kept(self) -> None:
        ledger = Ledger(1.0, {("example", "a"): 1.5}, {("example", "b"): 7.0})
        assert Ledger.from_dict(ledger.to_dict()) == ledger
