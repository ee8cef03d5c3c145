"""Floods with kubectl, of jobs and of changes: nobody else's job waits for them."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count

import pytest

from local.paths import NAMESPACE, RELEASE
from orchestrator_crds.meta import API_VERSION
from tests.cluster.place import Place, until
from tests.cluster.test_files import anonymous_bytes, peak
from tests.cluster.test_life import SMALL, service

# Their jobs, by kubectl and by REST, are of one user, whose name in the cluster is a number.
MALLORY, ALICE = 86, 87
FLOOD = "drowning"
AT_ONCE, ENOUGH = 50, 100


@pytest.fixture
def mallory(place: Place) -> Callable[..., str]:
    """Give kubectl in the name of somebody who may make jobs."""
    me = f"--as={MALLORY}"
    role = f"--role={RELEASE}-submitter"
    place.kubectl("create", "rolebinding", FLOOD, role, f"--user={MALLORY}")
    place.made.append(f"rolebinding/{FLOOD}")

    def kubectl(*words: str, stdin: str | None = None) -> str:
        return place.kubectl(*words, me, stdin=stdin, check=False)

    until(lambda: "yes" in kubectl("auth", "can-i", "create", "oj"), "she may make jobs")
    return kubectl


def jobs(start: int) -> str:
    spec = {"service": FLOOD, "userID": str(MALLORY), "script": "exit 0"}
    items = [
        {"apiVersion": API_VERSION, "kind": "OrchestratorJob", "spec": spec,
         "metadata": {"name": f"{FLOOD}-{n}", "labels": {FLOOD: "0"}}}
        for n in range(start, start + AT_ONCE)
    ]  # fmt: skip
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@contextmanager
def flooded(mallory: Callable[..., str]) -> Iterator[list[int]]:
    """Make jobs, and change them, as fast as it goes while the block runs; gives how many of each."""
    over, done = threading.Event(), [0, 0]

    def make() -> None:
        for start in count(0, AT_ONCE):
            if over.is_set():
                return
            done[0] += mallory("create", "--filename=-", stdin=jobs(start)).count(" created")

    def flip() -> None:
        for turn in count(1):
            if over.is_set():
                return
            words = ("label", "oj", f"--selector={FLOOD}", "--overwrite", f"{FLOOD}={turn}")
            done[1] += mallory(*words).count(" labeled")

    threads = [threading.Thread(target=work) for work in (make, flip)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_flood_of_jobs_and_changes_keeps_nobody_elses_job_waiting(
    place: Place, mallory: Callable[..., str]
) -> None:
    # One place, which both want.
    name = service(place, FLOOD, resources=SMALL)
    place.apply("OrchestratorQuota", FLOOD, {"services": [name], "maxRunning": 1})
    restarts = running(place)
    try:
        with flooded(mallory) as done:
            until(lambda: done[0] > ENOUGH and done[1] > ENOUGH, "it floods", 120)
            # Whoever is in her line waits for all that came before: it was the turns of users that
            # brought the others to their end.
            behind = place.upload("exit 0", user=MALLORY, service=name)
            assert place.wait(place.upload("exit 0", user=ALICE, service=name)) == "Completed"
            assert place.status(behind) == "Queued"
        phases = place.kubectl(
            "get", "oj", f"--selector={FLOOD}", "--output=jsonpath={.items[*].status.phase}"
        )
        assert phases.split().count("Completed") < done[0]
        # And the operator and the API are who they were.
        assert running(place) == restarts
    finally:
        place.kubectl("delete", "oj", f"--selector={FLOOD}", "--wait=false")


# As large as a job's script and annotations may be.
LARGE, MANY = 60_000 + 200_000, 600


def large_jobs(start: int) -> str:
    """Return jobs that are large by all that their maker may write."""
    spec = {"service": FLOOD, "userID": str(MALLORY), "script": "#" * 60_000}
    items = [
        {"apiVersion": API_VERSION, "kind": "OrchestratorJob", "spec": spec,
         "metadata": {"name": f"{FLOOD}-{n}", "annotations": {FLOOD: "x" * 200_000}}}
        for n in range(start, start + AT_ONCE)
    ]  # fmt: skip
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def test_large_jobs_by_the_hundreds_cost_little_memory(
    place: Place, mallory: Callable[..., str]
) -> None:
    """The operator and the API once held scripts and annotations: 5,000 such jobs ended both."""
    name = service(place, FLOOD, resources=SMALL)
    place.apply("OrchestratorQuota", FLOOD, {"onlyUsers": [str(MALLORY)], "maxRunning": 0})
    parts = ("operator", "api")
    try:
        with ExitStack() as watched:
            quiet = {part: anonymous_bytes(place, part) for part in parts}
            highest = {
                part: watched.enter_context(peak(partial(anonymous_bytes, place, part)))
                for part in parts
            }
            texts = map(large_jobs, range(0, MANY, AT_ONCE))
            with ThreadPoolExecutor(4) as pool:
                create = partial(mallory, "create", "--filename=-")
                said = list(pool.map(lambda text: create(stdin=text), texts))
            assert "".join(said).count(" created") == MANY, said
            # Which both hear of after them all.
            assert place.wait(place.upload("exit 0", user=ALICE, service=name)) == "Completed"
        for part in parts:
            assert highest[part][0] - quiet[part] < MANY * LARGE / 2, part
        # One that begins anew lists them all, twice, and gets on.
        part = "--selector=app.kubernetes.io/component=operator"
        place.kubectl("delete", "pod", part, f"--namespace={NAMESPACE}")
        with peak(partial(anonymous_bytes, place, "operator")) as anew:
            assert place.wait(place.upload("exit 0", user=ALICE, service=name)) == "Completed"
        assert anew[0] - quiet["operator"] < MANY * LARGE / 2
    finally:
        place.clear(f"spec.userID={MALLORY}")


def running(place: Place) -> dict[str, int]:
    return {part: place.pid(part) for part in ("operator", "api", "minio")} if place.local else {}


def test_an_administrator_can_bound_how_many_there_are(
    place: Place, mallory: Callable[..., str]
) -> None:
    service(place, FLOOD, resources=SMALL)
    place.apply("OrchestratorQuota", FLOOD, {"services": [FLOOD], "maxRunning": 0})

    def made() -> int:
        """Have her make many; returns how many there are then."""
        said = mallory("create", "--filename=-", stdin=jobs(0))
        there = said.count(" created")
        assert there == AT_ONCE or "exceeded quota" in said, said
        place.kubectl("delete", "oj", f"--selector={FLOOD}")
        return there

    assert made() == AT_ONCE
    before = len(place.kubectl("get", "oj", "--output=name").split())
    with place.configured(f"jobs.maxObjects={before + 10}"):
        quota = f"{RELEASE}-jobs"
        until(lambda: place.get("resourcequota", quota).get("status", {}).get("used"), "it counts")
        assert made() <= 10
