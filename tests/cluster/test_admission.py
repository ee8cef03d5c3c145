"""Quotas and pools on the real API server: in force when they say so, and right when they are not."""

from typing import Any

import httpx2

from tests.cluster.place import Place, until
from tests.cluster.test_life import service

WAITS = "until [ -e /tmp/never ]; do sleep 0.1; done"


def in_force(place: Place, name: str, **limits: Any) -> None:
    """Return once a quota is in force with *limits*."""

    def stands() -> bool:
        known = place.get("oq", name).get("status", {}).get("inForce", {})
        return all(known.get(key) == value for key, value in limits.items())

    until(stands, f"{limits} of quota {name} are in force")


def ready(place: Place, name: str) -> dict[str, str]:
    conditions = place.get("oq", name).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == "Ready"), {})


def reason(place: Place, number: int) -> str:
    return str(place.job(number)["status"].get("reason", ""))


def stop(place: Place, number: int) -> None:
    httpx2.post(f"{place.front}/terminate/{number}")


def test_a_wrong_edit_leaves_in_force_what_was_right_also_after_a_restart(place: Place) -> None:
    spec: dict[str, Any] = {"onlyUsers": ["21"], "maxRunning": 1}
    place.apply("OrchestratorQuota", "edited", spec)
    in_force(place, "edited", maxRunning=1)
    never = {"never": {"schedule": "0 0 30 2 *", "durationSeconds": 60}}
    place.apply("OrchestratorQuota", "edited", {**spec, "maxRunning": 5, "windows": never})
    until(lambda: ready(place, "edited").get("status") == "False", "the edit is judged")
    assert ready(place, "edited")["message"].startswith("spec.windows.never.schedule: ")
    place.kill("operator")
    first, second = (place.upload(WAITS, user=21) for _ in range(2))
    place.wait(first, "Running", "Queued")
    until(lambda: "UserLimit" in (reason(place, first), reason(place, second)) or
          "ServiceLimit" in (reason(place, first), reason(place, second)), "one waits")  # fmt: skip
    in_force(place, "edited", maxRunning=1)
    for number in (first, second):
        stop(place, number)


def test_who_has_too_many_jobs_waiting_is_turned_away(place: Place) -> None:
    place.apply(
        "OrchestratorQuota", "door", {"onlyUsers": ["22"], "maxRunning": 0, "maxQueuedPerUser": 1}
    )
    in_force(place, "door", maxQueuedPerUser=1)
    first = place.upload("true", user=22)

    def turned_away() -> bool:
        answer = httpx2.post(
            f"{place.front}/upload",
            data={"user_id": "22", "service": "example"},
            files=[("file", ("run.sh", b"true"))],
        )
        if answer.status_code == 201:  # the watch of the API is a moment behind
            place.made.append(f"orchestratorjob/job-{answer.json()['id']}")
            return False
        assert answer.status_code == 429
        assert "quota door lets 1 wait" in answer.json()["message"]
        return True

    until(turned_away, "further uploads are turned away")
    stop(place, first)


def test_a_full_pool_overflows_into_the_next(place: Place) -> None:
    selector = {"orchestrator.dev/pool": "cpu"}
    place.apply("OrchestratorNodePool", "own", {"nodeSelector": selector, "maxRunning": 1})
    place.apply("OrchestratorNodePool", "more", {"nodeSelector": selector})
    service(place, "spills", nodePools=["own", "more"])
    numbers = [place.upload(WAITS, user=23, service="spills") for _ in range(2)]
    for number in numbers:
        place.wait(number, "Running")
    assert [place.job(n)["status"]["claim"]["pool"] for n in numbers] == ["own", "more"]

    def counted() -> bool:
        return bool(place.get("onp", "own")["status"].get("running") == 1)

    until(counted, "the pool says how many jobs it runs")
    for number in numbers:
        stop(place, number)


def test_resources_are_counted_and_a_job_may_ask_for_less_or_too_much(place: Place) -> None:
    place.apply(
        "OrchestratorQuota", "cores", {"onlyUsers": ["24"], "maxResources": {"cpu": "150m"}}
    )
    in_force(place, "cores", maxResources={"cpu": "150m"})
    first = place.upload(WAITS, user=24)
    place.wait(first, "Running")
    second = place.upload("true", user=24)
    until(lambda: reason(place, second) == "ResourceLimit", "the second is told")
    assert "allows its jobs 150m of cpu at once" in place.job(second)["status"]["message"]
    script = {"service": "example", "userID": "24", "script": "true"}
    small = {**script, "resources": {"cpu": "20m"}}
    place.apply("OrchestratorJob", "small", small)
    place.apply("OrchestratorJob", "large", {**script, "resources": {"cpu": "64"}})
    place.kubectl("wait", "oj/small", "oj/large", "--for=condition=Finished", "--timeout=60s")
    assert place.get("oj", "small")["status"]["phase"] == "Completed"
    status = place.get("oj", "large")["status"]
    assert (status["phase"], status["reason"]) == ("Invalid", "BeyondService")
    for number in (first, second):
        stop(place, number)


def explained(place: Place, number: int) -> dict[str, Any]:
    answer = httpx2.get(f"{place.front}/v1/jobs/{number}/explain", timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_waiting_job_is_explained_and_doing_what_is_said_starts_it(place: Place) -> None:
    service(place, "explained")
    quota = {"services": ["explained"], "maxRunning": 9, "maxRunningPerUser": 1}
    place.apply("OrchestratorQuota", "narrow", quota)
    in_force(place, "narrow", maxRunningPerUser=1)
    # How long jobs take is learned from one that has ended.
    place.wait(place.upload("true", user=25, service="explained"))
    first = place.upload(WAITS, user=25, service="explained")
    place.wait(first, "Running")
    waiting = [place.upload(WAITS, user=25, service="explained") for _ in range(2)]
    last = waiting[1]

    def known() -> dict[str, Any]:
        found = explained(place, last)
        return found if found["complete"] and found["expectedStart"] else {}

    told = until(known, "the operator explains")
    assert (told["status"], told["reason"]) == ("Queued", "UserLimit")
    assert (told["position"], told["waiting"]) == (2, 2)
    assert told["asOf"] <= told["expectedStart"]["earliest"] <= told["expectedStart"]["latest"]
    [blocker] = told["blockers"]
    assert (blocker["kind"], blocker["name"]) == ("OrchestratorQuota", "narrow")
    assert (blocker["field"], blocker["limit"], blocker["used"], blocker["yours"]) == (
        "spec.maxRunningPerUser", 1, 1, 1,
    )  # fmt: skip
    # Ending the one that runs would start the other one, so only the limit is left to change.
    [remedy] = told["remedies"]
    [change] = remedy["changes"]
    assert (change["field"], change["before"], change["after"]) == (
        "spec.users.25.maxRunning",
        1,
        3,
    )
    edited = {**quota, "users": {"25": {"maxRunning": change["after"]}}}
    place.apply("OrchestratorQuota", "narrow", edited)
    place.wait(last, "Running")
    assert explained(place, last)["blockers"] == []
    with place.stopped("operator"):
        more = place.upload("true", user=25, service="explained")
        told = explained(place, more)
        assert (told["complete"], told["message"]) == (False, "The job waits for its turn.")
    for number in (first, *waiting, more):
        stop(place, number)
