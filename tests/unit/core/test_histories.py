"""Random histories: whatever happens in whatever order, no claim is above a limit then in force."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator_crds import OrchestratorJob
from orchestrator_operator.core import facts
from orchestrator_operator.core.admission import plan
from orchestrator_operator.core.blockers import blockers
from orchestrator_operator.judge import Judge
from orchestrator_operator.mirror import JOBS, Mirror
from tests.unit.core.history import QUOTAS, SERVICES, Cluster, Operator, begin, new_job, quota

small = st.integers(0, 3)
limits = st.fixed_dictionaries(
    {"maxRunning": small, "maxRunningPerUser": small},
    optional={
        "users": st.dictionaries(
            st.sampled_from("abc"), st.fixed_dictionaries({"maxRunning": small}), max_size=2
        ),
        "maxResources": st.fixed_dictionaries({"cpu": st.sampled_from(["1", "2", "3"])}),
        "services": st.sampled_from([["example"], ["docking"], ["example", "docking"]]),
        "windows": st.just(
            {"odd": {"schedule": "1-59/2 * * * *", "durationSeconds": 60, "maxRunning": 1}}
        ),
    },
)
names = st.sampled_from(["p", "q"])


class Histories(RuleBasedStateMachine):
    cluster: Cluster
    operator: Operator

    @initialize(spec=limits)
    def start(self, spec: Any) -> None:
        self.cluster = begin()
        self.count = 0
        self.cluster.put(QUOTAS, quota("p", None, **spec))
        self.operator = Operator(self.cluster)
        self.zombies: list[Operator] = []

    @rule(service=st.sampled_from(SERVICES), user=st.sampled_from("abc"))
    def submit(self, service: str, user: str) -> None:
        self.count += 1
        self.cluster.put(JOBS, new_job(self.count, service, user), "ADDED")

    @rule()
    def decide(self) -> None:
        self.operator.step()

    @rule(number=st.integers(0, 9), answered=st.booleans())
    def write_lands(self, number: int, answered: bool) -> None:
        if self.operator.writes:
            self.operator.land(number, answered=answered)

    @rule(times=st.integers(1, 9), twice=st.booleans())
    def watch(self, times: int, twice: bool) -> None:
        for _ in range(times):
            self.operator.deliver(twice=twice)

    @rule()
    def lose_events_and_list_again(self) -> None:
        self.cluster.events.clear()
        self.operator.relist()

    @rule(name=names, spec=limits)
    def edit_quota(self, name: str, spec: Any) -> None:
        old = self.cluster.bodies.get((QUOTAS, name))
        if old is not None:
            same = {"services": old["spec"].get("services", [])}
            spec = {**spec, **same}
        self.cluster.put(QUOTAS, quota(name, old, **spec))

    @rule(name=names)
    def delete_quota(self, name: str) -> None:
        if (QUOTAS, name) in self.cluster.bodies:
            self.cluster.remove(QUOTAS, name)

    @rule(number=st.integers(0, 99))
    def a_job_ends(self, number: int) -> None:
        live = [b for b in self.cluster.all(JOBS) if b["status"]["phase"] == "Submitted"]
        if live:
            body = live[number % len(live)]
            name, epoch = body["metadata"]["name"], body["status"]["claim"]["epoch"]
            if epoch == self.cluster.epoch:  # no other is ever started
                self.cluster.remove(JOBS, name)

    @rule(seconds=st.sampled_from([-3600, 1, 30, 61, 4000]))
    def time_passes(self, seconds: int) -> None:
        # Never across a claim that is being written: that is what AHEAD_SECONDS is for.
        if not self.operator.claimed and not any(z.claimed for z in self.zombies):
            self.cluster.now += seconds

    @rule()
    def the_operator_dies(self) -> None:
        self.zombies.append(self.operator)
        self.operator = Operator(self.cluster)
        # A new leader takes over the claims that it finds before it admits anything.
        for body in self.cluster.all(JOBS):
            if body["status"].get("claim"):
                body["status"]["claim"]["epoch"] = self.operator.epoch
                self.cluster.put(JOBS, body)
        self.cluster.events.clear()
        self.operator.relist()

    @precondition(lambda self: any(zombie.writes for zombie in self.zombies))
    @rule(number=st.integers(0, 9))
    def an_old_operators_write_lands(self, number: int) -> None:
        zombie = next(z for z in self.zombies if z.writes)
        plural = zombie.writes[number % len(zombie.writes)][0]
        if plural == JOBS:  # quotas are judged alike by all
            zombie.land(number)
        else:
            zombie.writes.pop(number % len(zombie.writes))

    @invariant()
    def no_claim_was_above_a_limit(self) -> None:
        assert not self.cluster.breaches

    @invariant()
    def no_attempt_was_claimed_twice(self) -> None:
        assert all(count == 1 for count in self.cluster.claims.values())

    def teardown(self) -> None:
        """Let everything settle: then each job that waits has a reason, and a true one."""
        operator = self.operator
        for _ in range(200):
            while self.cluster.events:
                operator.deliver()
            operator.step()
            if not operator.writes:
                break
            while operator.writes:
                operator.land(0)
        assert not self.cluster.breaches
        waiting = {b["metadata"]["name"] for b in self.cluster.all(JOBS) if _waits(b)}
        assert waiting == set(operator.mirror.backlog.names())
        snapshot = operator.admission.snapshot({}, (), self.cluster.now)
        decided = plan(snapshot)
        assert not decided.admitted
        assert all(blockers(decided, item.group) for item in snapshot.waiting)


def _waits(body: dict[str, Any]) -> bool:
    return OrchestratorJob.parse(body).status.phase == "Queued"


PROFILE = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_no_history_breaks_a_limit_or_loses_a_job() -> None:
    run_state_machine_as_test(Histories, settings=PROFILE)


def forget_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what no watch has echoed yet."""
    snapshot = Operator.step

    def step(self: Operator, places: int = 64) -> None:
        claimed, self.claimed = self.claimed, {}
        snapshot(self, places)
        self.claimed = {**claimed, **self.claimed}

    monkeypatch.setattr(Operator, "step", step)


def do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an edit come into force while older claims are still being written."""
    monkeypatch.setattr(Judge, "_settled", lambda *_: True)


def use_an_edit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide by what an edit says, before it is in force."""

    def specs(found: Any, *, ready: bool) -> Iterator[Any]:
        return iter([(found.spec, True)] if ready else [])

    monkeypatch.setattr(facts, "specs_in_force", specs)


def forget_pods_and_claims_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count nothing of what an operator before has claimed."""
    monkeypatch.setattr(Mirror, "held", lambda _: {})


def test_random_histories_find_a_missing_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_pods_and_claims_of_others(monkeypatch)
    many = settings(
        PROFILE,
        max_examples=1000,
        derandomize=True,
        database=None,
        print_blob=False,
        phases=[Phase.generate],
    )
    with pytest.raises(AssertionError, match="breaches"):
        run_state_machine_as_test(Histories, settings=many)


def with_a_quota_of(max_running: int) -> tuple[Cluster, Operator]:
    """Return a cluster and its operator, where one quota is in force."""
    cluster = begin()
    cluster.put(QUOTAS, quota("p", None, maxRunning=max_running))
    operator = Operator(cluster)
    operator.step()
    operator.land(0)
    return cluster, operator


def a_lowered_quota_overtakes_a_claim() -> Cluster:
    """Return how it went when an edit could come into force before a claim decided earlier."""
    cluster, operator = with_a_quota_of(1)
    cluster.put(JOBS, new_job(1, "example", "a"), "ADDED")
    operator.relist()
    operator.step()
    assert [plural for plural, _, _ in operator.writes] == [JOBS]
    cluster.put(QUOTAS, quota("p", cluster.bodies[QUOTAS, "p"], maxRunning=0))
    operator.relist()
    operator.step()
    while operator.writes:
        operator.land(-1)  # the newest first
        operator.relist()
        operator.step()
    assert cluster.bodies[QUOTAS, "p"]["status"]["inForce"]["maxRunning"] == 0
    return cluster


def two_passes_before_the_first_claim_is_written() -> Cluster:
    cluster, operator = with_a_quota_of(1)
    for number in (1, 2):
        cluster.put(JOBS, new_job(number, "example", "a"), "ADDED")
    operator.relist()
    operator.step()
    operator.step()
    while operator.writes:
        operator.land(0)
    return cluster


def a_claim_overtakes_the_edit_that_allows_it() -> Cluster:
    cluster, operator = with_a_quota_of(0)
    cluster.put(JOBS, new_job(1, "example", "a"), "ADDED")
    cluster.put(QUOTAS, quota("p", cluster.bodies[QUOTAS, "p"], maxRunning=1))
    operator.relist()
    operator.step()
    while operator.writes:
        operator.land(-1)
    return cluster


@pytest.mark.parametrize(
    ("history", "without_guard"),
    [
        (a_claim_overtakes_the_edit_that_allows_it, use_an_edit_at_once),
        (a_lowered_quota_overtakes_a_claim, do_not_wait),
        (two_passes_before_the_first_claim_is_written, forget_claims),
    ],
)
def test_a_guard_is_needed(
    history: Any, without_guard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not history().breaches
    without_guard(monkeypatch)
    assert history().breaches
