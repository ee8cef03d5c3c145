"""Tokens that the cluster itself signed, at the gateway: one pod's, one job's, as long as it runs."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from local.paths import NAMESPACE
from orchestrator_crds.names import AUDIENCE, SERVICE_ACCOUNT
from tests.cluster.place import Place, until


@pytest.fixture
def gateway(place: Place) -> Iterator[httpx2.Client]:
    with (
        place.forwarded("service/orchestrator-gateway", 8081, NAMESPACE) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def token(place: Place, pod: str = "", audience: str = AUDIENCE, account: str = "") -> str:
    """Have the cluster sign a token, bound to *pod* if there is one."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    name = account or SERVICE_ACCOUNT
    return place.kubectl("create", "token", name, f"--audience={audience}", *bound).strip()


def running(place: Place, user: int) -> tuple[int, str]:
    number = place.upload(f"echo {user} > mine; sleep 600", user=user)
    place.wait(number, "Running")
    return number, f"job-{number}-1"


def test_a_token_is_good_for_its_own_pods_job_while_that_runs(
    place: Place, gateway: httpx2.Client
) -> None:
    def ask(
        bearer: str, path: str = "/inputs", method: str = "GET", **more: Any
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {bearer}"}
        return gateway.request(method, path, headers=headers, **more)

    (one, first), (two, second) = running(place, 61), running(place, 62)
    good, others = token(place, first), token(place, second)
    for bearer, mine in ((good, b"echo 61 >"), (others, b"echo 62 >")):
        answer = ask(bearer)
        assert answer.status_code == 200
        assert mine in answer.content
    for bad in (
        token(place, first, audience="https://kubernetes.default.svc.cluster.local"),
        token(place, first, audience="others"),
        token(place),
        token(place, account="default"),
        good[:-3] + ("AAA" if good[-3:] != "AAA" else "BBB"),
    ):
        assert ask(bad).status_code == 401

    # It is over: what the token was good for, it is good for no more, though it has not run out.
    place.kubectl("patch", "oj", f"job-{one}", "--type=merge", '-p={"spec":{"terminate":true}}')
    assert place.wait(one) == "Killed"
    stored = place.job(one)["status"].get("results")
    for method, path in (("POST", "/start"), ("GET", "/inputs"), ("PUT", "/results")):
        assert ask(good, path, method, content=b"x" if method == "PUT" else None).status_code == 409
    # Gone, with its pod.
    place.kubectl("delete", "oj", f"job-{one}")
    until(lambda: not place.get("pod", first), "its pod is gone")
    assert ask(good).status_code == 409
    assert stored
    assert ask(others).status_code == 200
    assert place.job(two)["status"]["phase"] == "Running"
