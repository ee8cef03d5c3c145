"""The line as it moves on, against a history in which every step is planned anew."""

import heapq
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_operator.core.admission import plan
from orchestrator_operator.core.durations import KEPT, Durations, draws
from orchestrator_operator.core.forecast import Line, expected, position
from orchestrator_operator.core.rooms import Rooms
from orchestrator_operator.core.snapshot import Backlog, Held, Snapshot
from tests.support.builders import a_quota
from tests.support.world import (
    BIG,
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
    world,
)

TWO = size(cpu="2", memory="1Gi")
SERVICES = ("example", "docking")
limits = st.integers(1, 4)


def far_aging() -> dict[str, Any]:
    return {name: a_facts(aging_seconds=10**6) for name in SERVICES}


quotas = st.builds(
    lambda name, chosen, total, own, cpu, weight: a_quota(
        name,
        services=sorted(chosen),
        maxRunning=total,
        maxRunningPerUser=own,
        maxResources={"cpu": str(cpu)},
        users={"b": {"weight": weight}},
    ),
    st.sampled_from("pqr"),
    st.sets(st.sampled_from(SERVICES)),
    limits,
    limits,
    st.integers(2, 6),
    st.integers(1, 3),
)
asked = st.lists(
    st.tuples(
        st.sampled_from(SERVICES),
        st.sampled_from("abc"),
        st.sampled_from([SMALL, TWO]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda found: [
        job(f"j{n:02}", user, service=service, demand=demand, priority=priority, since=NOW - 99 + n)
        for n, (service, user, demand, priority) in enumerate(found)
    ]
)
holders = st.lists(
    st.builds(
        lambda service, user, demand: held(
            user, service=service, demand=demand, since=NOW - 5, node="n1"
        ),
        st.sampled_from(SERVICES),
        st.sampled_from("abc"),
        st.sampled_from([SMALL, TWO]),
    ),
    max_size=4,
)
nodes = st.lists(st.integers(2, 4), min_size=1, max_size=3).map(
    lambda found: {"cpu": pool(*(node(f"n{i}", cpu=str(cpu)) for i, cpu in enumerate(found, 1)))}
)


def anew(snapshot: Snapshot, lasts: Iterator[float]) -> Iterator[tuple[float, str]]:
    """Yield every start, from a whole plan after each end; slow, and without any short cut."""
    holding = list(snapshot.held)
    ends: list[tuple[float, int]] = []
    running: dict[int, Held] = {}
    served = dict(snapshot.served)
    now = snapshot.now

    def run(item: Held) -> None:
        number = len(running)
        running[number] = item
        user = (item.service, item.user)
        served[user] = max(served.get(user, 0.0), item.since)
        heapq.heappush(ends, (now + next(lasts), number))

    for item in holding:
        run(item)
    waiting = snapshot.waiting.copy()
    while True:
        on = [running[number] for _, number in sorted(ends, key=lambda end: end[1])]
        found = plan(replace(snapshot, held=on, waiting=waiting.copy(), now=now, served=served))
        for admitted, place in zip(
            found.admitted, nodes_of(found.admitted, snapshot, on), strict=True
        ):
            group = admitted.group
            waiting.drop(admitted.name)
            run(Held(group.service, group.user, group.demand, admitted.pool, place, since=now))
            yield now, admitted.name
        if not ends:
            return
        now = ends[0][0]
        while ends and ends[0][0] <= now:
            heapq.heappop(ends)


def nodes_of(admitted: Any, snapshot: Snapshot, on: list[Held]) -> list[str]:
    """Return the node that each job goes to: the first with room, as the engine has it."""
    rooms = Rooms(snapshot.pools, snapshot.overhead)
    rooms.hold(on)
    out = []
    for one in admitted:
        pod = rooms.pod(one.group.demand)
        found = rooms.find(rooms.doors(("cpu",), one.group.demand))
        assert found is not None
        assert found[1] is not None
        found[1].take(pod)
        out.append(found[1].name)
    return out


@given(
    asked,
    st.lists(quotas, min_size=1, max_size=2, unique_by=lambda q: q.metadata.name),
    holders,
    nodes,
)
@settings(max_examples=400, deadline=None)
def test_the_line_moves_as_the_engine_would_have_it(
    waiting: Any, rules: Any, holding: Any, pools: Any
) -> None:
    services = {name: replace(facts, max_priority=1) for name, facts in far_aging().items()}
    snapshot = world(waiting, *rules, holding=holding, services=services, pools=pools)
    lengths, again = count(3.0, 1.37), count(3.0, 1.37)
    line = Line(snapshot, lambda _service, _age: next(again))
    assert [(round(s.at, 6), s.name) for s in line] == [
        (round(at, 6), name) for at, name in anew(snapshot, lengths)
    ]


counted = st.builds(
    lambda total, own: a_quota("q", maxRunning=total, maxRunningPerUser=own), limits, limits
)


@given(asked, counted, holders)
@settings(max_examples=400, deadline=None)
def test_who_waits_in_line_grows_older(waiting: Any, rule: Any, holding: Any) -> None:
    """Where no room is kept for anybody, to the second; jobs wait for up to 99 s already."""
    services = {name: a_facts(aging_seconds=60, max_priority=3) for name in SERVICES}
    pools = {"cpu": pool(node("n1", cpu="99"))}
    snapshot = world(waiting, rule, holding=holding, services=services, pools=pools)
    lengths, again = count(3.0, 7.37), count(3.0, 7.37)
    line = Line(snapshot, lambda _service, _age: next(again))
    assert [(round(s.at, 6), s.name) for s in line] == [
        (round(at, 6), name) for at, name in anew(snapshot, lengths)
    ]


def test_a_starved_user_starts_as_soon_as_it_has_waited_long_enough() -> None:
    many = [job(f"a{n:02}", since=NOW - 20, priority=1) for n in range(40)]
    rules = [a_quota("q", maxRunning=1)]
    holding = [held("b", since=NOW - 15)]
    snapshot = world(
        [*many, job("late", "b", since=NOW - 10)],
        *rules,
        holding=holding,
        services={"example": replace(a_facts(aging_seconds=60), max_priority=1)},
    )
    starts = {s.name: s.at for s in Line(snapshot, lambda _s, _age: 10.0)}
    # Its hour comes at +50; then the next place that becomes free is its own.
    assert starts["late"] == NOW + 50


@given(asked, holders)
@settings(max_examples=100, deadline=None)
def test_positions_are_the_order_of_turns(waiting: Any, holding: Any) -> None:
    rules = [a_quota("q", maxRunning=1, maxRunningPerUser=1)]
    snapshot = world(waiting, *rules, holding=holding, services=far_aging())
    for service in SERVICES:
        own = [one for one in waiting if one.group.service == service]
        free = replace(
            snapshot,
            waiting=Backlog(own),
            rules=world([], a_quota("q", maxRunning=99, maxRunningPerUser=99)).rules,
        )
        order = names(plan(free))
        assert [position(snapshot, name, 99) for name in order] == list(range(1, len(own) + 1))


def test_a_position_far_back_is_not_told() -> None:
    snapshot = world(jobs(*"aaaa"), a_quota(maxRunning=0))
    assert position(snapshot, "j003", 3) is None
    assert position(snapshot, "j002", 3) == 3
    assert position(snapshot, "nothing", 3) is None


def test_a_user_with_many_jobs_does_not_stand_before_a_user_with_one() -> None:
    snapshot = world([*jobs(*"a" * 50), job("late", "b", since=NOW)], a_quota(maxRunning=0))
    assert position(snapshot, "late", 99) == 2


def a_past(*seconds: float, service: str = "example") -> Durations:
    past = Durations()
    for one in seconds:
        past.add(service, one)
    return past


def test_a_start_is_expected_when_the_one_before_ends() -> None:
    holding = [held(since=NOW - 40)]
    snapshot = world([job("next")], a_quota(maxRunning=1), holding=holding)
    assert expected(snapshot, "next", a_past(100.0)) == (NOW + 60, NOW + 60)


def test_nothing_is_expected_when_nothing_has_ended_yet() -> None:
    snapshot = world([job("next")], a_quota(maxRunning=1), holding=[held()])
    assert expected(snapshot, "next", Durations()) is None


def test_nothing_is_expected_of_a_job_that_cannot_start_as_things_are() -> None:
    snapshot = world([job("next")], a_quota(maxRunning=0))
    assert expected(snapshot, "next", a_past(1.0)) is None


def test_a_job_that_outlived_all_others_may_last_as_long_again() -> None:
    past = a_past(10.0)
    assert past.lasts("example", 30.0, 0.5) == 15.0
    assert past.lasts("example", 0.0, 0.99) == 10.0
    assert past.lasts("unknown", 4.0, 0.0) == 6.0


def test_a_large_job_for_which_room_is_kept_starts_before_the_small_ones_run_out() -> None:
    small = [job(f"s{n:03}", f"u{n}", since=NOW - 10) for n in range(60)]
    services = {"example": a_facts(aging_seconds=50)}
    pools = {"cpu": pool(node(cpu="8"))}
    holding = [held(f"h{n}", since=NOW - 10, node="n1") for n in range(8)]
    snapshot = world(
        [job("large", demand=BIG, since=NOW - 45), *small],
        a_quota(maxRunning=99),
        holding=holding,
        services=services,
        pools=pools,
    )
    starts = {s.name: s.at for s in Line(snapshot, lambda _s, age: 20.0 - age)}
    assert starts["large"] <= NOW + 50
    assert max(starts.values()) > NOW + 100


def test_only_the_last_durations_count() -> None:
    past = a_past(*(float(n) for n in range(KEPT + 5)))
    assert past.lasts("example", 0.0, 0.0) == 5.0
    again = Durations.from_dict(past.to_dict())
    assert again.to_dict() == past.to_dict()
    copy = past.copy()
    past.add("example", 1.0)
    assert copy.to_dict() == again.to_dict()


def test_draws_are_even_and_repeat() -> None:
    for seed in range(16):
        drawn = draws(seed)
        first = [next(drawn) for _ in range(2000)]
        again = draws(seed)
        assert first == [next(again) for _ in range(2000)]
        assert 0.0 <= min(first) < 0.01
        assert 0.99 < max(first) < 1.0
        assert abs(sum(first) / 2000 - 0.5) < 0.03


def test_about_nine_of_ten_starts_come_within_the_range_that_was_told() -> None:
    """Histories with drawn durations; what is told at the beginning, against what came."""
    random = Random(7)
    right = asked_for = 0
    for _ in range(30):
        past = a_past(*(random.lognormvariate(4, 0.8) for _ in range(200)))
        users = [random.choice("aaaabbc") for _ in range(30)]
        holding = [held(random.choice("abc"), since=NOW) for _ in range(4)]
        quota = a_quota(maxRunning=4, maxRunningPerUser=3)
        snapshot = world(jobs(*users), quota, holding=holding, services=far_aging())
        lasts = (random.lognormvariate(4, 0.8) for _ in count())
        came = {name: at for at, name in anew(snapshot, lasts)}
        for name in list(came)[::5]:
            told = expected(snapshot, name, past)
            assert told is not None
            assert told.latest is not None
            asked_for += 1
            right += told.earliest - 1 <= came[name] <= told.latest + 1
    assert right / asked_for > 0.8


def test_a_position_does_not_follow_the_weights_of_another_service() -> None:
    other = a_quota("a-other", services=["docking"], users={"b": {"weight": 1000}})
    snapshot = world(jobs(*"ababab"), other, a_quota("q", maxRunning=0))
    assert position(snapshot, "j005", 99) == 6
    assert position(snapshot, "j001", 99) == 2
