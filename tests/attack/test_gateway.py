"""Tokens that the cluster itself signed, at the gateway: one pod's, one job's, as long as it runs."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from local.paths import NAMESPACE
from orchestrator_crds.names import SERVICE_ACCOUNT, audience
from tests.cluster.place import Place, until


@pytest.fixture
def gateway(place: Place) -> Iterator[httpx2.Client]:
    with (
        place.forwarded("service/orchestrator-gateway", 8081, NAMESPACE) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def token(place: Place, for_whom: str, pod: str = "", account: str = SERVICE_ACCOUNT) -> str:
    """Have the cluster sign a token, bound to *pod* if there is one."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    return place.kubectl("create", "token", account, f"--audience={for_whom}", *bound).strip()


def ask(
    gateway: httpx2.Client, bearer: str, path: str = "/inputs", method: str = "GET", **more: Any
) -> httpx2.Response:
    return gateway.request(method, path, headers={"Authorization": f"Bearer {bearer}"}, **more)


def running(place: Place, user: int) -> tuple[int, str, str]:
    """Start a job; returns its number, its pod, and whom its tokens are for."""
    number = place.upload(f"echo {user} > mine; sleep 600", user=user)
    place.wait(number, "Running")
    return number, f"job-{number}-1", audience(place.job(number)["metadata"]["uid"])


def test_a_token_is_good_for_its_own_pods_job_while_that_runs(
    place: Place, gateway: httpx2.Client
) -> None:
    (one, first, its), (two, second, another) = running(place, 61), running(place, 62)
    good, others = token(place, its, first), token(place, another, second)
    for bearer, mine in ((good, b"echo 61 >"), (others, b"echo 62 >")):
        answer = ask(gateway, bearer)
        assert answer.status_code == 200
        assert mine in answer.content
    for bad in (
        token(place, "https://kubernetes.default.svc.cluster.local", first),
        token(place, "orchestrator-gateway", first),
        token(place, its),
        token(place, its, account="default"),
        good[:-3] + ("AAA" if good[-3:] != "AAA" else "BBB"),
    ):
        assert ask(gateway, bad).status_code == 401
    # Its pod's, but for another job, be it one that was or one that is.
    for job in (audience("0"), another):
        assert ask(gateway, token(place, job, first)).status_code == 409

    for path in ("/results", "/snapshot"):
        assert ask(gateway, good, path, "PUT", content=b"in its time").status_code == 200

    # It is over: what the token was good for, it is good for no more, though it has not run out.
    place.kubectl("patch", "oj", f"job-{one}", "--type=merge", '-p={"spec":{"terminate":true}}')
    # A poll says so from the moment that it is asked for.
    until(lambda: place.job(one)["status"]["phase"] == "Killed", "it has ended")
    stored = place.job(one)["status"].get("results")
    results = f"{place.front}/download_partial/{one}"
    kept = httpx2.get(results).content
    for method, path in (("POST", "/start"), ("GET", "/inputs")):
        assert ask(gateway, good, path, method).status_code == 409
    for path in ("/results", "/snapshot") * 2:
        assert ask(gateway, good, path, "PUT", content=b"other bytes").status_code == 409
    # Its last word is heard, and not taken: it was said.
    end = {"why": "exit", "exitCode": 0, "logTail": "other"}
    assert ask(gateway, good, "/end", "POST", json=end).json() == {"phase": "Killed"}
    assert place.job(one)["status"].get("results") == stored
    assert httpx2.get(results).content == kept
    # Gone, with its pod.
    place.kubectl("delete", "oj", f"job-{one}")
    until(lambda: not place.get("pod", first), "its pod is gone")
    assert ask(gateway, good).status_code == 409
    assert stored
    assert ask(gateway, others).status_code == 200
    assert place.job(two)["status"]["phase"] == "Running"


def test_a_token_of_an_attempt_is_good_for_no_other(place: Place, gateway: httpx2.Client) -> None:
    number, first, its = running(place, 63)
    before = token(place, its, first)
    assert ask(gateway, before).status_code == 200
    # Its node is lost, as far as can be seen: the same job, in another pod.
    place.kubectl("delete", "pod", first, "--force", "--grace-period=0")
    second = f"job-{number}-2"
    until(
        lambda: place.get("pod", second).get("status", {}).get("phase") == "Running", "it is back"
    )
    until(lambda: place.job(number)["status"]["phase"] == "Running", "it runs again")
    for method, path in (
        ("POST", "/start"),
        ("GET", "/inputs"),
        ("PUT", "/snapshot"),
        ("PUT", "/results"),
    ):
        assert ask(gateway, before, path, method, content=b"x").status_code in {401, 409}
    end = {"why": "exit", "exitCode": 0, "logTail": "other"}
    assert ask(gateway, before, "/end", "POST", json=end).status_code in {401, 409}
    assert place.job(number)["status"]["phase"] == "Running"
    assert ask(gateway, token(place, its, second)).status_code == 200
