"""How fast the core decides: `hack/python -m tests.bench.admission`.

Each rate is also given over that of a loop that does nothing but keep as many jobs in a heap, in
the same process: the least that any such engine in Python must do.
"""

import gc
import heapq
import time
from collections.abc import Callable

from orchestrator_crds import Limits
from orchestrator_operator.core.admission import plan
from orchestrator_operator.core.snapshot import (
    Backlog,
    Demand,
    Group,
    Node,
    Pool,
    Rule,
    Service,
    Snapshot,
    Waiting,
)

JOBS, USERS, NODES = 100_000, 5_000, 200
RUNS = 5
DEMAND = Demand.of({"cpu": 1000, "memory": 1024**3 * 1000})
FAR = 10**9


def a_queue(total: int, own: int) -> Snapshot:
    """Return a full queue under limits on jobs of all users and of one."""
    waiting = Backlog(
        Waiting(float(n), f"job-{n}", Group("docking", f"user-{n % USERS}", 0, DEMAND))
        for n in range(JOBS)
    )
    nodes = tuple(Node(f"node-{n:03}", {"cpu": FAR, "memory": FAR * 1024**3}) for n in range(NODES))
    return Snapshot(
        waiting=waiting,
        held=(),
        rules=[Rule("default", Limits(max_running=total, max_running_per_user=own))],
        services={"docking": Service(("cpu",), DEMAND)},
        pools={"cpu": Pool(nodes)},
        now=float(JOBS),
    )


def best(work: Callable[[], object]) -> float:
    """Return the shortest time that *work* took, in seconds."""
    times = []
    for _ in range(RUNS):
        gc.collect()
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def only_a_heap() -> None:
    """Give every user its turns, and do nothing else."""
    turns = [(0, float(n), n) for n in range(USERS)]
    heapq.heapify(turns)
    for _ in range(JOBS):
        share, since, user = turns[0]
        heapq.heapreplace(turns, (share + 1, since + USERS, user))


def main() -> None:
    """Measure and print."""
    heap = best(only_a_heap)
    room = a_queue(FAR, FAR)
    assert len(plan(room).admitted) == JOBS
    everything = best(lambda: plan(room))
    print(f"{JOBS} jobs of {USERS} users wait, {NODES} nodes")
    print(f"decisions: {JOBS / everything:10,.0f} a second, {everything / heap:.1f} x a bare heap")
    for what, snapshot in (
        ("the service's limit is reached", a_queue(0, FAR)),
        ("every user's limit is reached", a_queue(FAR, 0)),
    ):
        assert not plan(snapshot).admitted
        seconds = best(lambda: plan(snapshot))  # noqa: B023  (called at once)
        print(f"nothing to admit, {what}: {seconds * 1000:6.1f} ms, {seconds / heap:.2f} x")


if __name__ == "__main__":
    main()
