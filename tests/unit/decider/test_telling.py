"""Waiting jobs are told why: late, seldom, a few at a time, and each once."""

from collections.abc import Iterator

from orchestrator_crds import OrchestratorJob
from orchestrator_operator.core.admission import plan
from orchestrator_operator.telling import LOOKED_AT, PER_SECOND, Telling
from tests.support.builders import a_job, a_quota
from tests.support.world import NOW, jobs, world


def told(count: int, rounds: int, *, written: bool = True, others: str = "") -> Iterator[list[str]]:
    """Yield who is told in each of *rounds* looks, a second apart."""
    snapshot = world(jobs(*"a" * count, *others), a_quota(maxRunning=0))
    known = {one.name: a_job(one.name) for one in snapshot.waiting}
    moment = NOW
    telling = Telling(lambda: moment)
    for _ in range(rounds):
        moment += 1.0
        found, _ = telling.due(plan(snapshot), known, ())
        for item in found:
            if written:
                body = {**known[item.name].to_dict(), "status": {"reason": str(item.blocker.code)}}
                known[item.name] = OrchestratorJob.parse(body)
        yield [item.name for item in found]


def test_all_are_told_a_few_a_second_and_each_once() -> None:
    looks = list(told(12, 5))
    assert [len(names) for names in looks] == [PER_SECOND, PER_SECOND, 2, 0, 0]
    assert len({name for names in looks for name in names}) == 12


def test_nobody_is_told_twice_in_one_look_while_it_is_not_written_yet() -> None:
    for names in told(7, 4, written=False):
        assert len(names) == len(set(names))


def test_a_long_queue_is_looked_at_in_parts() -> None:
    count = LOOKED_AT + 1
    looks = list(told(count, count // PER_SECOND + 3))
    assert len({name for names in looks for name in names}) == count


def test_users_are_told_in_turns() -> None:
    """Whoever had ten thousand jobs kept the others from hearing for half an hour."""
    looks = list(told(1000, 3, others="bbcd"))
    first = [name for names in looks[:2] for name in names]
    # The last four, of three users: two looks have ten.
    assert {f"j{n}" for n in range(1000, 1004)} <= set(first)
