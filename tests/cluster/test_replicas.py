"""Three replicas of the API: one contract, and numbers that are never used twice."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from local.paths import NAMESPACE, RELEASE
from tests.cluster.place import Place, until

DEPLOYMENT, USER = f"deployment/{RELEASE}-api", "950"


def pods(place: Place) -> list[str]:
    listed = place.kubectl(
        "get", "pods", f"--namespace={NAMESPACE}", "-oname",
        "--selector=app.kubernetes.io/component=api", "--field-selector=status.phase=Running",
    )  # fmt: skip
    return listed.split()


@pytest.fixture(scope="module")
def replicas(chosen: Place) -> Iterator[list[str]]:
    """Give the URL of each of three replicas."""
    chosen.kubectl("scale", DEPLOYMENT, f"--namespace={NAMESPACE}", "--replicas=3")
    status = ("rollout", "status", DEPLOYMENT, f"--namespace={NAMESPACE}", "--timeout=90s")
    chosen.kubectl(*status)
    with ExitStack() as stack:
        yield [stack.enter_context(chosen.forwarded(pod, 5000, NAMESPACE)) for pod in pods(chosen)]
    chosen.kubectl("scale", DEPLOYMENT, f"--namespace={NAMESPACE}", "--replicas=1")
    chosen.kubectl(*status)
    until(lambda: len(pods(chosen)) == 1, "one replica is left")


def upload(url: str) -> int:
    form = {"user_id": USER, "service": "example"}
    answer = httpx2.post(
        f"{url}/upload", data=form, files=[("file", ("run.sh", b"true"))], timeout=60
    )
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


@pytest.fixture
def shut(place: Place) -> Iterator[None]:
    """Have the user's jobs wait, so that the cluster has nothing else to do."""
    place.apply("OrchestratorQuota", "shut", {"onlyUsers": [USER], "maxRunning": 0})
    yield
    place.clear(f"spec.userID={USER}")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("shut")
def test_numbers_are_used_once_and_known_everywhere_at_once(replicas: list[str]) -> None:
    def one(n: int) -> int:
        number = upload(replicas[n % 3])
        # Another replica's watch may be behind; a 404 would lose the user's job.
        for other in replicas:
            answer = httpx2.get(f"{other}/download/{number}", timeout=60)
            assert (answer.status_code, answer.json()["status"]) == (200, "Queued")
        return number

    with ThreadPoolExecutor(12) as pool:
        numbers = list(pool.map(one, range(90)))
    assert len(set(numbers)) == 90
    # One after the other they grow, at each replica.
    for url in replicas:
        later = [upload(url) for _ in range(4)]
        assert later == sorted(later)
        assert not set(later) & set(numbers)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("shut")
def test_a_replica_killed_under_load_loses_no_answered_upload_and_no_number_is_used_twice(
    place: Place, replicas: list[str]
) -> None:
    answered: list[int] = []

    def several(n: int) -> None:
        for _ in range(25):
            try:
                answered.append(upload(replicas[n % 3]))
            except httpx2.HTTPError:
                continue  # the killed replica's; a portal would try again

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(several, n) for n in range(6)]
        until(lambda: len(answered) > 30, "there is load")
        os.kill(place.pid("api"), signal.SIGKILL)
        for task in work:
            task.result()
    assert len(answered) > 75
    assert len(set(answered)) == len(answered)
    listed = place.kubectl("get", "orchestratorjobs", "-oname").split()
    assert {f"orchestratorjob.orchestrator.dev/job-{n}" for n in answered} <= set(listed)
    newest = max(answered)
    place.kubectl("delete", "orchestratorjob", f"job-{newest}")
    until(lambda: len(pods(place)) == 3, "the replica is back")
    assert upload(place.front) not in answered
