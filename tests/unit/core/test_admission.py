"""Who runs next, where, and why not yet."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator_operator.core.admission import plan
from tests.support.builders import a_quota
from tests.support.world import (
    BIG,
    NOW,
    a_facts,
    codes,
    held,
    job,
    jobs,
    names,
    node,
    pool,
    size,
    users,
    why,
    world,
)

WIDE = a_quota(maxRunning=1000, maxRunningPerUser=1000)
BOTH = {"example": a_facts(), "docking": a_facts()}


def test_all_run_while_there_is_room() -> None:
    assert users(plan(world(jobs("a", "b", "a"), a_quota()))) == ["a", "b", "a"]


def test_max_running_holds_the_rest_back() -> None:
    result = plan(world(jobs("a", "b", "c"), a_quota(maxRunning=2)))
    assert users(result) == ["a", "b"]
    assert codes(result) == {"j002": ["ServiceLimit"]}


def test_what_runs_already_counts() -> None:
    result = plan(world(jobs("a", "b"), a_quota(maxRunning=2), holding=[held("z")]))
    assert users(result) == ["a"]


def test_max_running_per_user_holds_that_user_back_only() -> None:
    result = plan(world(jobs("a", "a", "b"), a_quota(maxRunningPerUser=1)))
    assert users(result) == ["a", "b"]
    assert codes(result) == {"j001": ["UserLimit"]}


def test_users_are_served_in_turn() -> None:
    result = plan(world(jobs(*"aaaabbc"), a_quota(maxRunning=6, maxRunningPerUser=6)))
    assert users(result) == ["a", "b", "c", "a", "b", "a"]


def test_a_user_with_nothing_running_comes_before_one_who_has_waited_longer() -> None:
    result = plan(world(jobs("a", "b"), a_quota(maxRunning=2), holding=[held("a")]))
    assert users(result) == ["b"]


def test_a_user_with_ten_thousand_jobs_does_not_slow_a_user_with_one() -> None:
    many = [job(f"m{n:05}", "hoarder", since=NOW - 90_000 + n) for n in range(10_000)]
    late = job("one", "guest", since=NOW - 1)
    services = {"example": a_facts(aging_seconds=3600)}
    served = {("example", "hoarder"): NOW - 5}
    busy = [held("hoarder") for _ in range(4)]
    result = plan(
        world([*many, late], a_quota(maxRunning=5), holding=busy, services=services, served=served)
    )
    assert names(result) == ["one"]


def test_every_matching_quota_applies() -> None:
    wide, narrow = a_quota("wide", maxRunning=10), a_quota("narrow", maxRunning=1)
    assert users(plan(world(jobs("a", "b"), wide, narrow))) == ["a"]


def test_a_quota_of_another_service_does_not_apply() -> None:
    other = a_quota("other", services=["docking"], maxRunning=0)
    assert users(plan(world(jobs("a"), a_quota(), other))) == ["a"]


def test_a_quota_for_one_user_does_not_apply_to_others() -> None:
    strict = a_quota("strict", onlyUsers=["a"], maxRunning=0)
    assert users(plan(world(jobs("a", "b"), a_quota(), strict))) == ["b"]


def test_a_quota_over_two_services_counts_them_together() -> None:
    waiting = [*jobs("a"), job("k", "b", service="docking")]
    assert len(plan(world(waiting, a_quota(maxRunning=1), services=BOTH)).admitted) == 1


def test_without_a_quota_nothing_runs_and_the_reason_says_so() -> None:
    assert codes(plan(world(jobs("a")))) == {"j000": ["NoQuota"]}


def test_a_service_that_is_gone_is_a_reason() -> None:
    assert codes(plan(world(jobs("a"), WIDE, services={}))) == {"j000": ["ServiceNotReady"]}


def test_a_blocked_service_does_not_stop_another() -> None:
    waiting = [*jobs("a"), job("k", "b", service="docking")]
    none = a_quota("none", services=["example"], maxRunning=0)
    assert users(plan(world(waiting, a_quota(), none, services=BOTH))) == ["b"]


def test_the_message_names_quota_limit_and_use() -> None:
    result = plan(world(jobs("a"), a_quota(maxRunning=1), holding=[held("z")]))
    blocker = why(result, "j000")
    assert blocker.message == (
        "Quota default lets 1 job run at once; 1 are running. This one starts when its turn comes."
    )
    assert (blocker.field, blocker.limit, blocker.used, blocker.yours) == (
        "spec.maxRunning",
        1,
        1,
        0,
    )


def test_every_limit_in_the_way_is_told_the_users_own_first() -> None:
    result = plan(
        world(jobs("a"), a_quota(maxRunning=2, maxRunningPerUser=2), holding=[held(), held()])
    )
    assert codes(result) == {"j000": ["UserLimit", "ServiceLimit"]}


def test_no_more_than_asked_for_are_admitted_and_the_rest_have_no_reason() -> None:
    result = plan(world(jobs(*"abc"), WIDE), most=2)
    assert (users(result), result.cut) == (["a", "b"], True)
    assert codes(result) == {"j002": []}


def test_a_job_that_is_being_written_is_passed_over() -> None:
    assert names(plan(world(jobs("a", "a", "b"), WIDE, busy={"j000"}))) == ["j001", "j002"]


class TestUsersOwnLimits:
    def test_more_for_one_user(self) -> None:
        quota = a_quota(maxRunningPerUser=1, users={"a": {"maxRunning": 2}})
        assert users(plan(world(jobs(*"aaabb"), quota))) == ["a", "b", "a"]

    def test_less_for_one_user(self) -> None:
        quota = a_quota(users={"a": {"maxRunning": 0}})
        result = plan(world(jobs("a", "b"), quota))
        assert users(result) == ["b"]
        assert why(result, "j000").field == "spec.users.a.maxRunning"

    def test_what_is_not_set_stays_as_it_is_for_all(self) -> None:
        quota = a_quota(maxRunningPerUser=1, users={"a": {"weight": 5}})
        assert users(plan(world(jobs("a", "a"), quota))) == ["a"]

    @pytest.mark.parametrize("own", ["2", "4"])
    def test_resources(self, own: str) -> None:
        quota = a_quota(
            maxRunning=50,
            maxRunningPerUser=50,
            maxResourcesPerUser={"cpu": "3"},
            users={"a": {"maxResources": {"cpu": own}}},
        )
        got = users(plan(world(jobs(*"aaaaaabbbbbb"), quota)))
        assert (got.count("a"), got.count("b")) == (int(own), 3)


class TestResources:
    def test_in_all(self) -> None:
        quota = a_quota(maxRunning=50, maxRunningPerUser=50, maxResources={"memory": "3Gi"})
        result = plan(world(jobs(*"abcd"), quota))
        assert users(result) == ["a", "b", "c"]
        blocker = why(result, "j003")
        assert (blocker.code, blocker.resource) == ("ResourceLimit", "memory")
        assert "allows its jobs 3Gi of memory at once; 3Gi are taken" in blocker.message

    def test_devices(self) -> None:
        quota = a_quota(maxRunningPerUser=50, maxResourcesPerUser={"nvidia.com/gpu": "1"})
        gpu = size(cpu="1", **{"nvidia.com/gpu": "1"})
        waiting = [job("g1", demand=gpu), job("g2", demand=gpu), job("c1")]
        more: Any = {"nvidia.com/gpu": "8"}
        pools = {"cpu": pool(node(**more))}
        result = plan(world(waiting, quota, pools=pools))
        assert set(names(result)) == {"g1", "c1"}
        assert codes(result) == {"g2": ["UserResourceLimit"]}

    def test_a_job_larger_than_its_limit_is_told_so(self) -> None:
        quota = a_quota(maxResources={"cpu": "4"})
        result = plan(world([job("big", demand=BIG)], quota))
        assert "this job alone asks for 8" in why(result, "big").message

    def test_small_jobs_pass_a_big_one_that_has_not_waited_long(self) -> None:
        quota = a_quota(maxRunning=50, maxRunningPerUser=50, maxResources={"cpu": "8"})
        waiting = [job("big", "a", demand=BIG), *jobs(*"bbb")]
        result = plan(world(waiting, quota, holding=[held("z")]))
        assert users(result) == ["b", "b", "b"]

    def test_a_big_one_that_waited_for_long_has_room_kept(self) -> None:
        quota = a_quota(maxRunning=50, maxRunningPerUser=50, maxResources={"cpu": "8"})
        waiting = [job("big", "a", demand=BIG, since=NOW - 4000), *jobs(*"bbb")]
        result = plan(world(waiting, quota, holding=[held("z")]))
        assert users(result) == []
        assert why(result, "j001").code == "Reserved"
        assert "kept for a larger job" in why(result, "j001").message

    def test_room_is_kept_for_one_at_a_time(self) -> None:
        quota = a_quota(maxRunning=50, maxRunningPerUser=50, maxResources={"cpu": "20"})
        waiting = [
            job("big1", "a", demand=BIG, since=NOW - 5000),
            job("big2", "b", demand=BIG, since=NOW - 4000),
            *jobs(*"cccccc"),
        ]
        result = plan(world(waiting, quota, holding=[held("z") for _ in range(15)]))
        assert names(result) == []
        result = plan(world(waiting, quota, holding=[held("z") for _ in range(9)]))
        assert names(result) == ["big1"]

    def test_no_room_is_kept_for_what_can_never_have_it(self) -> None:
        quota = a_quota(maxRunning=50, maxRunningPerUser=50, maxResources={"cpu": "4"})
        waiting = [job("big", "a", demand=BIG, since=NOW - 4000), *jobs(*"bbb")]
        assert users(plan(world(waiting, quota))) == ["b", "b", "b"]


class TestFairness:
    def test_weights(self) -> None:
        quota = a_quota(maxRunning=9, maxRunningPerUser=9, users={"a": {"weight": 2}})
        got = users(plan(world(jobs(*"a" * 9, *"b" * 9), quota)))
        assert (got.count("a"), got.count("b")) == (6, 3)

    def test_jobs_of_different_size_count_by_their_dominant_resource(self) -> None:
        # As in the paper: 9 CPUs and 18 GB; a's jobs take 1 CPU and 4 GB, b's 3 CPUs and 1 GB.
        first, second = size(cpu="1", memory="4Gi"), size(cpu="3", memory="1Gi")
        waiting = [job(f"a{n}", "a", demand=first) for n in range(9)]
        waiting += [job(f"b{n}", "b", demand=second) for n in range(9)]
        pools = {"cpu": pool(node(cpu="9", memory="18Gi"))}
        got = users(plan(world(waiting, WIDE, pools=pools)))
        assert (got.count("a"), got.count("b")) == (3, 2)

    def test_past_use_counts_against_new_turns(self) -> None:
        past = {("example", "a"): 1.5}
        got = users(plan(world(jobs(*"aaabbb"), a_quota(maxRunning=4), past=past)))
        assert (got.count("a"), got.count("b")) == (1, 3)

    def test_priority_comes_first_within_what_the_service_allows(self) -> None:
        services = {"example": a_facts(max_priority=5)}
        waiting = [*jobs("a"), job("high", "b", priority=5), job("higher", "b", priority=9)]
        result = plan(world(waiting, a_quota(maxRunning=2), services=services))
        assert names(result) == ["high", "higher"]
        assert names(plan(world(waiting, a_quota(maxRunning=1)))) != ["higher"]

    def test_priority_does_not_lift_a_limit(self) -> None:
        services = {"example": a_facts(max_priority=5)}
        waiting = [job("high", "b", priority=5), *jobs("a")]
        quota = a_quota(users={"b": {"maxRunning": 0}})
        assert users(plan(world(waiting, quota, services=services))) == ["a"]

    def test_a_job_that_waits_gains_priority(self) -> None:
        services = {"example": a_facts(max_priority=2, aging_seconds=1000)}
        old = job("old", "a", since=NOW - 2500)
        served = {("example", "a"): NOW - 10}  # not for want of a turn
        waiting = [old, job("new", "b", priority=1)]
        result = plan(world(waiting, a_quota(maxRunning=1), services=services, served=served))
        assert names(result) == ["old"]

    def test_a_user_without_a_turn_for_long_comes_first(self) -> None:
        services = {"example": a_facts(max_priority=9, aging_seconds=1000)}
        waiting = [job("old", "a", since=NOW - 1001), job("new", "b", priority=9)]
        past = {("example", "a"): 100.0}
        result = plan(world(waiting, a_quota(maxRunning=1), services=services, past=past))
        assert names(result) == ["old"]

    def test_but_only_for_one_turn(self) -> None:
        services = {"example": a_facts(aging_seconds=1000)}
        waiting = [job(f"old{n}", "a", since=NOW - 5000) for n in range(3)]
        waiting += jobs(*"bbb")
        past = {("example", "a"): 100.0}
        result = plan(world(waiting, a_quota(maxRunning=3), services=services, past=past))
        assert users(result) == ["a", "b", "b"]


class TestPools:
    def test_the_first_with_room_is_taken_and_the_next_is_overflow(self) -> None:
        pools = {"own": pool(node("n1", cpu="2")), "cloud": pool(node("n2", cpu="2"))}
        services = {"example": a_facts("own", "cloud")}
        result = plan(world(jobs(*"abcde"), WIDE, pools=pools, services=services))
        assert [a.pool for a in result.admitted] == ["own", "own", "cloud", "cloud"]
        assert codes(result) == {"j004": ["PoolFull", "PoolFull"]}

    def test_what_comes_with_every_pod_takes_room_too(self) -> None:
        pools = {"cpu": pool(node(cpu="2", pods="110"))}
        overhead = {"cpu": 10, "pods": 1000}
        result = plan(world(jobs("a", "b"), WIDE, pools=pools, overhead=overhead))
        assert users(result) == ["a"]

    def test_a_cap(self) -> None:
        pools = {"cpu": pool(node(), max_running=1)}
        result = plan(world(jobs("a", "b"), WIDE, pools=pools))
        assert users(result) == ["a"]
        blocker = why(result, "j001")
        assert (blocker.code, blocker.field, blocker.used) == ("PoolFull", "spec.maxRunning", 1)

    def test_a_cap_of_resources(self) -> None:
        pools = {"cpu": pool(node(), max_resources={"cpu": 2000})}
        assert users(plan(world(jobs("a", "b", "c"), WIDE, pools=pools))) == ["a", "b"]

    @pytest.mark.parametrize(
        ("pools", "words"),
        [
            ({}, "There is no node pool cpu"),
            ({"cpu": pool()}, "has no nodes"),
            ({"cpu": pool(node(usable=False))}, "None of the 1 nodes"),
        ],
    )
    def test_one_that_is_gone_or_cordoned_is_a_reason(self, pools: object, words: str) -> None:
        result = plan(world(jobs("a"), WIDE, pools=pools))  # type: ignore[arg-type]
        assert codes(result) == {"j000": ["PoolNotReady"]}
        assert words in why(result, "j000").message

    def test_an_elastic_one_takes_what_no_node_has_room_for(self) -> None:
        result = plan(world(jobs("a"), WIDE, pools={"cpu": pool(elastic=True)}))
        assert users(result) == ["a"]

    def test_a_job_too_large_for_any_node_is_refused(self) -> None:
        pools = {"cpu": pool(node(cpu="4")), "more": pool(node("n2", cpu="6"))}
        services = {"example": a_facts("cpu", "more")}
        result = plan(world([job("big", demand=BIG)], WIDE, pools=pools, services=services))
        assert [(r.name, r.resource) for r in result.refused] == [("big", "cpu")]

    @pytest.mark.parametrize("largest", [{"cpu": 64_000, "memory": 10**15}, {}])
    def test_but_not_while_a_larger_node_may_come_back(self, largest: object) -> None:
        pools = {"cpu": pool(node(cpu="4"), largest=largest)}
        result = plan(world([job("big", demand=BIG)], WIDE, pools=pools))
        assert not result.refused
        assert codes(result) == {"big": ["PoolFull"]}

    def test_nor_while_one_of_its_pools_is_not_there(self) -> None:
        services = {"example": a_facts("cpu", "gone")}
        pools = {"cpu": pool(node(cpu="4"))}
        result = plan(world([job("big", demand=BIG)], WIDE, pools=pools, services=services))
        assert not result.refused

    def test_a_pod_that_finds_no_node_keeps_others_of_its_size_away(self) -> None:
        holding = [held("z", stuck=True, demand=size(cpu="4"))]
        waiting = [job("same", "a", demand=size(cpu="4")), job("small", "b", demand=size(cpu="1"))]
        assert names(plan(world(waiting, WIDE, holding=holding))) == ["small"]

    def test_a_big_job_does_not_stop_small_ones(self) -> None:
        pools = {"cpu": pool(node("n1", cpu="8"), node("n2", cpu="8"))}
        holding = [held("z", node="n1"), held("z", node="n2")]
        waiting = [job("big", "a", demand=BIG), *jobs(*"bb")]
        assert users(plan(world(waiting, WIDE, pools=pools, holding=holding))) == ["b", "b"]

    def test_nor_small_ones_a_big_one_for_ever(self) -> None:
        pools = {"cpu": pool(node("n1", cpu="8"), node("n2", cpu="8"))}
        holding = [held("z", node="n1") for _ in range(3)] + [held("z", node="n2")]
        waiting = [job("big", "a", demand=BIG, since=NOW - 4000), *jobs(*"b" * 9)]
        result = plan(world(waiting, WIDE, pools=pools, holding=holding))
        # n2 is nearly free, so it is kept for the big one; n1 has room for five more.
        assert users(result) == ["b"] * 5
        assert why(result, "j006").code == "Reserved"


def test_a_new_quota_that_is_not_in_force_limits_already_but_lets_nothing_start() -> None:
    snapshot = world(jobs("a", "b"), a_quota("new", maxRunning=1))
    pending = [replace(rule, grants=False) for rule in snapshot.rules]
    assert codes(plan(replace(snapshot, rules=pending))) == {
        "j000": ["NoQuota"],
        "j001": ["NoQuota"],
    }
    both = replace(snapshot, rules=[*pending, *world((), WIDE).rules])
    assert users(plan(both)) == ["a"]
