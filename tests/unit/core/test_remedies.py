"""The smallest change that starts a job: it does, and a little less does not."""

from dataclasses import replace
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orchestrator_crds import OrchestratorQuota
from orchestrator_operator.core.admission import plan
from orchestrator_operator.core.durations import Durations
from orchestrator_operator.core.explain import explain
from orchestrator_operator.core.remedies import Change, Remedy, remedies
from orchestrator_operator.core.snapshot import Node, Snapshot
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
    rule,
    size,
    world,
)

TWO = size(cpu="2", memory="1Gi")
limits = st.integers(0, 3)


def edited(quota: OrchestratorQuota, change: Change) -> OrchestratorQuota:
    """Return the quota as an administrator would edit it, by the field that was named."""
    spec = quota.spec.to_dict()
    value: Any = str(change.after) + "m" if change.resource else change.after
    *path, last = change.field.removeprefix("spec.").split(".")
    part = spec
    for name in path:
        part = part.setdefault(name, {})
    if change.resource:
        part.setdefault(last, {})[change.resource] = value
    else:
        part[last] = value
    return OrchestratorQuota.parse({"metadata": quota.metadata.to_dict(), "spec": spec})


def applied(snapshot: Snapshot, quotas: list[OrchestratorQuota], remedy: Remedy) -> Snapshot:
    """Return the snapshot after somebody did what *remedy* says."""
    pools = dict(snapshot.pools)
    for change in remedy.changes:
        if change.kind == "OrchestratorQuota":
            quotas = [edited(q, change) if q.metadata.name == change.name else q for q in quotas]
        elif change.field:
            known = pools[change.name]
            if change.resource:
                amounts = {**known.max_resources, change.resource: change.after}
                pools[change.name] = replace(known, max_resources=amounts)
            else:
                pools[change.name] = replace(known, max_running=change.after)
        else:
            known = pools[change.name]
            new = tuple(Node(f"+{n}", known.largest) for n in range(change.after - change.before))
            pools[change.name] = replace(known, nodes=(*known.nodes, *new))
    return replace(snapshot, rules=[rule(q) for q in quotas], pools=pools)


quotas = st.builds(
    lambda name, total, own, cpu, own_cpu, named: a_quota(
        name,
        maxRunning=total,
        maxRunningPerUser=own,
        maxResources={"cpu": str(cpu)},
        maxResourcesPerUser={"cpu": str(own_cpu)},
        users={"b": {"maxRunning": named}},
    ),
    st.sampled_from("pq"),
    limits,
    limits,
    st.integers(0, 5),
    st.integers(0, 5),
    limits,
)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([SMALL, TWO])), min_size=1, max_size=8
    ),
    st.lists(quotas, min_size=1, max_size=2, unique_by=lambda q: q.metadata.name),
    st.lists(st.sampled_from("abc"), max_size=4),
    st.integers(2, 6),
    st.one_of(st.none(), st.integers(0, 3)),
)
@settings(max_examples=120, deadline=None, phases=[Phase.generate])
def test_each_remedy_is_enough_and_a_step_less_of_it_is_not(
    waiting: Any, found: Any, holding: Any, cpu: int, cap: int | None
) -> None:
    queue = [
        job(f"j{n}", user, demand=demand, since=NOW - 50 + n)
        for n, (user, demand) in enumerate(waiting)
    ]
    on = [held(user, node="n1", since=NOW - n) for n, user in enumerate(holding)]
    pools = {"cpu": pool(node("n1", cpu=str(cpu)), max_running=cap)}
    snapshot = world(queue, *found, holding=on, pools=pools)
    admitted = names(plan(snapshot))
    for one in queue:
        offered = remedies(snapshot, one.name)
        if one.name in admitted:
            continue
        # An administrator can always do something: limits can be raised, and nodes be added.
        assert [remedy for remedy in offered if remedy.changes]
        for remedy in offered:
            if remedy.ends:
                own = [h for h in on if h.user == one.group.user]
                assert 1 <= remedy.ends <= len(own)
                continue
            assert one.name in names(plan(applied(snapshot, found, remedy))), remedy
            for change in remedy.changes:
                undone = replace(change, after=change.before)
                less = undone if change.resource else replace(change, after=change.after - 1)
                changes = tuple(less if other is change else other for other in remedy.changes)
                after = applied(snapshot, found, replace(remedy, changes=changes))
                assert one.name not in names(plan(after)), (remedy, change)


def test_nodes_that_would_let_in_larger_jobs_first_are_not_offered() -> None:
    """With three more nodes the job starts, with four larger ones do in its place."""

    line = [*[(u, TWO) for u in "aacc"], *[(u, SMALL) for u in "baaa"]]
    queue = [
        job(f"j{n}", user, demand=demand, since=NOW - 50 + n)
        for n, (user, demand) in enumerate(line)
    ]
    limits_of = {"p": (2, 3, "2", "4", 3), "q": (3, 1, "5", "5", 2)}
    found = [
        a_quota(
            name,
            maxRunning=running,
            maxRunningPerUser=each,
            maxResources={"cpu": cores},
            maxResourcesPerUser={"cpu": own},
            users={"b": {"maxRunning": named}},
        )
        for name, (running, each, cores, own, named) in limits_of.items()
    ]
    pools = {"cpu": pool(node("n1", cpu="2"))}
    snapshot = world(queue, *found, holding=[held("b", node="n1", since=NOW)], pools=pools)
    (remedy,) = [one for one in remedies(snapshot, "j6") if one.changes]
    assert "j6" in names(plan(applied(snapshot, found, remedy)))


def only(snapshot: Snapshot, name: str) -> list[str]:
    return [remedy.message for remedy in remedies(snapshot, name)]


def test_a_user_at_the_limit_starts_when_one_of_the_own_jobs_ends_or_with_a_limit_of_their_own() -> (
    None
):
    snapshot = world(
        [job("next")], a_quota("default", maxRunningPerUser=2), holding=[held(), held(), held("b")]
    )
    assert only(snapshot, "next") == [
        "It starts when one of this user's running jobs ends.",
        "It would start now if spec.users.a.maxRunning of quota default were 3 instead of 2.",
    ]


def test_a_job_further_back_needs_more() -> None:
    snapshot = world(
        jobs(*"aaa"),
        a_quota("default", maxRunning=2, maxRunningPerUser=2),
        holding=[held(), held()],
    )
    assert only(snapshot, "j002") == [
        "It would start now if spec.users.a.maxRunning of quota default were 5 instead of 2 and "
        "spec.maxRunning of quota default were 5 instead of 2.",
    ]


def test_a_full_pool_needs_a_node() -> None:
    pools = {"cpu": pool(node(cpu="8"))}
    snapshot = world(
        [job("next", demand=BIG)], a_quota(), holding=[held("b", node="n1")], pools=pools
    )
    assert only(snapshot, "next") == ["It would start now if pool cpu had 1 more node."]


def test_amounts_are_raised_by_what_is_missing_only() -> None:
    quota = a_quota("default", maxResources={"memory": "9Gi"})
    snapshot = world([job("next", demand=BIG)], quota, holding=[held("b"), held("b")])
    assert only(snapshot, "next") == [
        "It would start now if spec.maxResources of memory of quota default were 10Gi instead of 9Gi."
    ]


def test_a_job_that_no_quota_matches_has_no_small_change() -> None:
    assert remedies(world([job("next")]), "next") == []
    assert remedies(world([job("next")], a_quota()), "unknown") == []


def test_an_explanation_tells_all_of_it() -> None:
    past = Durations()
    past.add("example", 60.0)
    snapshot = world(
        jobs(*"ab"),
        a_quota("default", maxRunning=2, maxRunningPerUser=2, maxResourcesPerUser={"cpu": "1500m"}),
        holding=[held(since=NOW - 20), held("c", since=NOW - 10)],
        services={"example": a_facts()},
    )
    found = explain(snapshot, "j000", past)
    assert found is not None
    assert found.to_dict() == {
        "asOf": "1970-01-01T02:46:40Z",
        "position": 2,
        "waiting": 2,
        "blockers": [
            {
                "code": "UserResourceLimit",
                "message": "Quota default allows one user 1500m of cpu at once; 1 are taken, and this job asks for 1.",
                "kind": "OrchestratorQuota",
                "name": "default",
                "field": "spec.maxResourcesPerUser",
                "resource": "cpu",
                "limit": 1.5,
                "used": 1,
                "yours": 1,
            },
            {
                "code": "ServiceLimit",
                "message": "Quota default lets 2 jobs run at once; 2 are running. This one starts when its turn comes.",
                "kind": "OrchestratorQuota",
                "name": "default",
                "field": "spec.maxRunning",
                "resource": "",
                "limit": 2,
                "used": 2,
                "yours": 1,
            },
        ],
        "remedies": [
            {
                "message": "It starts when one of this user's running jobs ends.",
                "ends": 1,
                "changes": [],
            },
            {
                "message": "It would start now if spec.users.a.maxResources of cpu of quota default were 2 instead of 1500m and spec.maxRunning of quota default were 4 instead of 2.",
                "ends": 0,
                "changes": [
                    {
                        "kind": "OrchestratorQuota",
                        "name": "default",
                        "field": "spec.users.a.maxResources",
                        "resource": "cpu",
                        "before": 1.5,
                        "after": 2,
                    },
                    {
                        "kind": "OrchestratorQuota",
                        "name": "default",
                        "field": "spec.maxRunning",
                        "resource": "",
                        "before": 2,
                        "after": 4,
                    },
                ],
            },
        ],
        "expectedStart": {"earliest": "1970-01-01T02:47:30Z", "latest": "1970-01-01T02:47:30Z"},
    }
    assert explain(snapshot, "gone", past) is None


def test_a_limit_that_a_window_sets_is_named_where_it_stands() -> None:
    night = {"schedule": "0 0 * * *", "durationSeconds": 86400, "maxRunning": 0}
    until = {"endsAt": "2100-01-01T00:00:00Z", "users": {"a": {"maxRunning": 0}}}
    quota = a_quota("default", windows={"night": night}, overrides={"talk": until})
    snapshot = world([job("next")], quota)
    found = explain(snapshot, "next", Durations())
    assert found is not None
    assert [(one.field, one.message) for one in found.blockers] == [
        (
            "spec.overrides.talk.users.a.maxRunning",
            "Quota default lets this user run no job now; an administrator can raise the limit.",
        ),
        (
            "spec.windows.night.maxRunning",
            "Quota default lets no job run now; an administrator can raise the limit.",
        ),
    ]
    assert [change.field for change in found.remedies[0].changes] == [
        one.field for one in found.blockers
    ]
