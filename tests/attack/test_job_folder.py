"""A run.sh that turns on its agent through /job: it comes to the end that it has, and to no other."""

from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest

from tests.cluster.place import Place
from tests.cluster.test_job import unzip
from tests.cluster.test_life import SMALL, service
from tests.support.job_folder import CORPUS

REASONS = {"exit": "NonZeroExit", "disk": "DiskLimitExceeded"}
# In a real pod nothing can be taken away or put there; who writes to `go` waits for a reader.
IN_A_POD = {"puts files there instead": ("DeadlineExceeded", 143)}


@pytest.fixture(scope="module")
def attackers(chosen: Place) -> Iterator[dict[str, int]]:
    chosen = replace(chosen, made=[])
    name = service(chosen, "attackers", deadlineSeconds=30, resources={**SMALL, "cpu": "200m"})
    chosen.apply("OrchestratorQuota", "attackers", {"services": [name], "maxRunning": 6})
    yield {
        key: chosen.upload(script, service=name, user=800 + n)
        for n, (key, (script, _, _)) in enumerate(CORPUS.items())
    }
    chosen.forget()


@pytest.mark.parametrize("name", CORPUS)
def test_a_run_sh_that(place: Place, attackers: dict[str, int], name: str) -> None:
    _, why, code = CORPUS[name]
    number = attackers[name]
    assert place.wait(number, seconds=100) == "Failed"
    status = place.job(number)["status"]
    assert (status["reason"], status["exitCode"]) == IN_A_POD.get(name, (REASONS[why], code))
    assert status["attempt"] == 1
    left = httpx2.get(f"{place.front}/download_partial/{number}", timeout=60)
    assert "run.sh" in unzip(left.content)
