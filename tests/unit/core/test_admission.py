"""Who runs next, and why not yet."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_crds import OrchestratorQuota
from orchestrator_operator.core.admission import Plan, plan
from orchestrator_operator.core.snapshot import Held, Snapshot, Waiting
from tests.support.builders import a_quota, a_service


def waiting(*users: str, service: str = "example") -> tuple[Waiting, ...]:
    return tuple(
        Waiting(f"j{n:03}", service, u, f"2026-01-01T00:00:{n:02}Z") for n, u in enumerate(users)
    )


def decide(
    jobs: Sequence[Waiting],
    *quotas: OrchestratorQuota,
    held: Sequence[Held] = (),
    services: Sequence[str] = ("example",),
    pools: Sequence[str] = ("cpu",),
) -> Plan:
    return plan(
        Snapshot(
            waiting=tuple(jobs),
            held=tuple(held),
            quotas={q.metadata.name: q.spec for q in quotas},
            services={name: a_service(name) for name in services},
            pools=frozenset(pools),
        )
    )


def admitted(result: Plan) -> list[str]:
    return [a.job.user for a in result.admitted]


def reasons(result: Plan) -> set[str]:
    return {b.reason for b in result.blocked}


def test_all_run_while_there_is_room() -> None:
    assert admitted(decide(waiting("a", "b", "a"), a_quota())) == ["a", "b", "a"]


def test_max_running_holds_the_rest_back() -> None:
    result = decide(waiting("a", "b", "c"), a_quota(maxRunning=2))
    assert admitted(result) == ["a", "b"]
    assert reasons(result) == {"ServiceLimit"}


def test_what_runs_already_counts() -> None:
    held = [Held("example", "z")]
    assert admitted(decide(waiting("a", "b"), a_quota(maxRunning=2), held=held)) == ["a"]


def test_max_running_per_user_holds_that_user_back_only() -> None:
    result = decide(waiting("a", "a", "b"), a_quota(maxRunningPerUser=1))
    assert admitted(result) == ["a", "b"]
    assert reasons(result) == {"UserLimit"}


def test_users_are_served_in_turn() -> None:
    result = decide(waiting(*"aaaabbc"), a_quota(maxRunning=6, maxRunningPerUser=6))
    assert admitted(result) == ["a", "b", "c", "a", "b", "a"]


def test_a_user_with_nothing_running_comes_before_one_who_has_waited_longer() -> None:
    held = [Held("example", "a")]
    assert admitted(decide(waiting("a", "b"), a_quota(maxRunning=2), held=held)) == ["b"]


def test_every_matching_quota_applies() -> None:
    wide, narrow = a_quota("wide", maxRunning=10), a_quota("narrow", maxRunning=1)
    assert admitted(decide(waiting("a", "b"), wide, narrow)) == ["a"]


def test_a_quota_of_another_service_does_not_apply() -> None:
    other = a_quota("other", services=["docking"], maxRunning=0)
    assert admitted(decide(waiting("a"), a_quota(), other)) == ["a"]


def test_a_quota_for_one_user_does_not_apply_to_others() -> None:
    strict = a_quota("strict", users=["a"], maxRunning=0)
    assert admitted(decide(waiting("a", "b"), a_quota(), strict)) == ["b"]


def test_a_quota_over_two_services_counts_them_together() -> None:
    jobs = [*waiting("a"), Waiting("k", "docking", "b", "2026-01-01T00:01:00Z")]
    result = decide(jobs, a_quota(maxRunning=1), services=("example", "docking"))
    assert len(result.admitted) == 1


def test_without_a_quota_nothing_runs_and_the_reason_says_so() -> None:
    result = decide(waiting("a"))
    assert reasons(result) == {"NoQuota"}


@pytest.mark.parametrize(("services", "pools"), [((), ("cpu",)), (("example",), ())])
def test_a_service_that_cannot_run_is_a_reason(services: list[str], pools: list[str]) -> None:
    result = decide(waiting("a"), a_quota(), services=services, pools=pools)
    assert reasons(result) == {"ServiceNotReady"}


def test_a_blocked_service_does_not_stop_another() -> None:
    jobs = [*waiting("a"), Waiting("k", "docking", "b", "2026-01-01T00:01:00Z")]
    none = a_quota("none", services=["example"], maxRunning=0)
    result = decide(jobs, a_quota(), none, services=("example", "docking"))
    assert admitted(result) == ["b"]


def test_the_message_names_quota_limit_and_use() -> None:
    result = decide(waiting("a"), a_quota(maxRunning=1), held=[Held("example", "z")])
    assert result.blocked[0].message == (
        "Quota default lets 1 job run at once; 1 are running. This one starts when its turn comes."
    )


users = st.sampled_from("abcd")
services = st.sampled_from(["example", "docking"])
limits = st.integers(0, 4)
quotas = st.builds(
    lambda name, chosen, total, own: a_quota(
        name, services=sorted(chosen), maxRunning=total, maxRunningPerUser=own
    ),
    st.sampled_from("pqr"),
    st.sets(services),
    limits,
    limits,
)
jobs = st.lists(st.tuples(services, users), max_size=25).map(
    lambda pairs: [
        Waiting(f"j{n:03}", s, u, f"2026-01-01T00:00:{n:02}Z") for n, (s, u) in enumerate(pairs)
    ]
)
holders = st.lists(st.builds(Held, services, users), max_size=8)


@given(jobs, st.lists(quotas, max_size=3, unique_by=lambda q: q.metadata.name), holders)
def test_no_limit_is_passed_and_no_room_is_wasted(
    asked: list[Waiting], given_quotas: list[OrchestratorQuota], held: list[Held]
) -> None:
    both = ("example", "docking")
    result = decide(asked, *given_quotas, held=held, services=both)
    assert {a.job for a in result.admitted} | {b.job for b in result.blocked} == set(asked)
    assert len(result.admitted) + len(result.blocked) == len(asked)
    after = [*held, *(Held(a.job.service, a.job.user) for a in result.admitted)]

    def room(one: Held) -> bool:
        matching = [
            q.spec for q in given_quotas if not q.spec.services or one.service in q.spec.services
        ]
        for spec in matching:
            counted = [h for h in after if not spec.services or h.service in spec.services]
            if len(counted) >= spec.max_running:
                return False
            if Counter(h.user for h in counted)[one.user] >= spec.max_running_per_user:
                return False
        return bool(matching)

    before = Counter(held)
    for quota in given_quotas:
        spec = quota.spec
        counted = [h for h in after if not spec.services or h.service in spec.services]
        old = sum(n for h, n in before.items() if not spec.services or h.service in spec.services)
        assert len(counted) <= max(spec.max_running, old)
    assert not any(room(Held(b.job.service, b.job.user)) for b in result.blocked)
    assert decide(list(reversed(asked)), *given_quotas, held=held, services=both) == result


@given(st.lists(users, min_size=1, max_size=30), st.integers(0, 12))
def test_equal_users_get_equal_shares(names: list[str], room: int) -> None:
    result = decide(waiting(*names), a_quota(maxRunning=room, maxRunningPerUser=room))
    got, asked = Counter(admitted(result)), Counter(names)
    unsatisfied = [u for u in asked if got[u] < asked[u]]
    # Nobody who still waits has less, by more than one job, than anybody else has.
    assert all(got[u] >= most - 1 for u in unsatisfied for most in got.values())
