"""What an attempt's pod may do: start once, fetch, store, end once; and what every other may not."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from aiohttp import web

from orchestrator_api import pacing
from tests.support.builders import KEY, job_body
from tests.support.system import System

ME = {"Authorization": "Bearer job-1-1/uid-me"}
OTHER = {"Authorization": "Bearer job-1-1/uid-other"}
RESULTS = KEY.replace("inputs", "results-1")
CLAIM = {"epoch": 1, "pool": "cpu"}
END = {"why": "exit", "exitCode": 0, "oomKills": 0, "logTail": ""}


def submit(system: System, **more: Any) -> None:
    fields: dict[str, Any] = {"phase": "Submitted", "attempt": 1, "claim": CLAIM} | more
    system.kube.put("orchestratorjobs", job_body(**fields))
    system.s3.objects[KEY] = b"the inputs"


def job(system: System) -> dict[str, Any]:
    return system.kube.get("orchestratorjobs", "job-1")


async def begin(system: System) -> None:
    submit(system)
    assert (await system.gateway.post("/start", headers=ME)).status_code == 200


async def end(system: System, headers: Any = ME, **report: Any) -> httpx2.Response:
    return await system.gateway.post("/end", headers=headers, json={**END, **report})


async def test_the_first_pod_to_ask_gets_the_inputs(system: System) -> None:
    submit(system)
    answer = await system.gateway.post("/start", headers=ME)
    assert answer.status_code == 200
    assert answer.json() == {"sizeBytes": 1, "sha256": "0" * 64}
    assert job(system)["status"]["pod"] == {"name": "job-1-1", "uid": "uid-me", "node": "node-1"}
    assert job(system)["status"]["phase"] == "Running"
    assert (await system.gateway.get("/inputs", headers=ME)).content == b"the inputs"


async def test_a_second_pod_of_the_same_name_is_refused(system: System) -> None:
    await begin(system)
    assert (await system.gateway.post("/start", headers=OTHER)).status_code == 409
    assert (await system.gateway.get("/inputs", headers=OTHER)).status_code == 409
    assert (await system.gateway.put("/results", headers=OTHER, content=b"x")).status_code == 409
    assert (await end(system, OTHER)).status_code == 409
    assert RESULTS not in system.s3.objects


async def test_two_pods_asking_at_once_are_one_start(system: System) -> None:
    submit(system)
    answers = await asyncio.gather(
        *(system.gateway.post("/start", headers=who) for who in (ME, OTHER) * 5)
    )
    winners = {a.request.headers["Authorization"] for a in answers if a.status_code == 200}
    assert len(winners) == 1


async def test_asking_again_after_a_lost_answer_is_the_same_start(system: System) -> None:
    await begin(system)
    version = job(system)["metadata"]["resourceVersion"]
    assert (await system.gateway.post("/start", headers=ME)).status_code == 200
    assert job(system)["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({"phase": "Queued", "claim": None}, 409),
        ({"phase": "Killed"}, 409),
        ({"phase": "Completed"}, 409),
        ({"attempt": 2}, 409),
        ({"claim": None}, 409),
        ({"spec": {"terminate": True}}, 409),
        # A new leader of the operator will take the claim over: worth waiting for.
        ({"claim": {"epoch": 0, "pool": "cpu"}}, 503),
    ],
)
async def test_only_the_current_attempt_starts(
    system: System, state: dict[str, Any], status: int
) -> None:
    submit(system, **state)
    assert (await system.gateway.post("/start", headers=ME)).status_code == status
    assert "pod" not in job(system)["status"]


@pytest.mark.parametrize("pod", ["job-9-1", "nonsense", "job-1-0"])
async def test_pods_without_a_job_are_refused(system: System, pod: str) -> None:
    headers = {"Authorization": f"Bearer {pod}/uid"}
    assert (await system.gateway.post("/start", headers=headers)).status_code == 409


@pytest.mark.parametrize("path", ["/start", "/end"])
async def test_nobody_gets_in_without_a_token(system: System, path: str) -> None:
    assert (await system.gateway.post(path, json=END)).status_code == 401


async def test_a_job_made_with_a_script_gets_it_as_a_bundle(system: System) -> None:
    body = job_body("made-by-hand", phase="Submitted", attempt=1, claim=CLAIM)
    del body["spec"]["inputs"]
    body["spec"]["script"] = "echo hi\n"
    system.kube.put("orchestratorjobs", body)
    headers = {"Authorization": "Bearer made-by-hand-1/uid"}
    told = (await system.gateway.post("/start", headers=headers)).json()
    data = (await system.gateway.get("/inputs", headers=headers)).content
    assert hashlib.sha256(data).hexdigest() == told["sha256"]


async def test_the_end_is_recorded_with_the_results(system: System) -> None:
    await begin(system)
    receipt = (await system.gateway.put("/results", headers=ME, content=b"zip")).json()
    assert (await end(system, results=receipt)).json() == {"phase": "Completed"}
    status = job(system)["status"]
    assert status["exitCode"] == 0
    assert status["results"] | {"updatedAt": ""} == {
        "key": RESULTS,
        "sizeBytes": 3,
        "sha256": hashlib.sha256(b"zip").hexdigest(),
        "etag": receipt["etag"],
        "updatedAt": "",
    }
    assert {c["type"] for c in status["conditions"]} >= {"Finished", "Succeeded"}


async def test_telling_the_end_twice_is_telling_it_once(system: System) -> None:
    await begin(system)
    await end(system, exitCode=3)
    version = job(system)["metadata"]["resourceVersion"]
    assert (await end(system, exitCode=0)).json() == {"phase": "Failed"}
    assert job(system)["metadata"]["resourceVersion"] == version


async def test_an_end_without_an_exit_record_keeps_phase_and_results(system: System) -> None:
    await begin(system)
    receipt = (await system.gateway.put("/results", headers=ME, content=b"zip")).json()
    report = {"why": "lost", "results": receipt}
    await system.gateway.post("/end", headers=ME, json=report)
    assert job(system)["status"]["phase"] == "Running"
    assert job(system)["status"]["results"]["sizeBytes"] == 3


async def test_a_receipt_for_something_else_is_not_believed(system: System) -> None:
    await begin(system)
    receipt = (await system.gateway.put("/results", headers=ME, content=b"zip")).json()
    system.s3.objects[RESULTS] = b"replaced"
    assert (await end(system, results=receipt)).status_code == 503
    assert job(system)["status"]["phase"] == "Running"


async def test_a_conflict_is_read_again_and_decided_again(system: System) -> None:
    await begin(system)
    shaken: list[str] = []

    def stop_meanwhile(method: str, path: str) -> web.Response | None:
        if method == "PATCH" and not shaken:
            shaken.append(path)
            changed = json.loads(json.dumps(job(system)))
            changed["spec"]["terminate"] = True
            system.kube.put("orchestratorjobs", changed)
        return None

    system.kube.before = stop_meanwhile
    assert (await end(system)).json() == {"phase": "Killed"}


async def test_a_snapshot_does_not_touch_the_results(system: System) -> None:
    await begin(system)
    assert (await system.gateway.put("/snapshot", headers=ME, content=b"s")).status_code == 200
    assert system.s3.objects[KEY.replace("inputs", "partial-1")] == b"s"
    assert RESULTS not in system.s3.objects


async def test_results_over_the_services_limit_are_413_and_leave_nothing(system: System) -> None:
    limits = system.kube.get("orchestratorservices", "example")
    limits["spec"]["results"] = {"maxBytes": 10}
    system.kube.put("orchestratorservices", limits)
    await begin(system)
    await asyncio.sleep(0.05)
    answer = await system.gateway.put("/results", headers=ME, content=bytes(11))
    assert answer.status_code == 413
    assert RESULTS not in system.s3.objects


async def test_junk_instead_of_a_report_is_422(system: System) -> None:
    await begin(system)
    assert (await end(system, why="because")).status_code == 422
    assert job(system)["status"]["phase"] == "Running"


async def test_a_store_that_is_down_is_503(system: System) -> None:
    await begin(system)
    system.s3.down = True
    assert (await system.gateway.get("/inputs", headers=ME)).status_code == 503
    assert (await system.gateway.put("/results", headers=ME, content=b"x")).status_code == 503


async def test_the_canary_says_whether_it_listens(system: System) -> None:
    assert (await system.gateway.get("/canary")).json()["listening"] is False
    with socket.create_server(("127.0.0.1", 0)) as free:
        system.canary.port = free.getsockname()[1]
    await system.canary.open()
    assert (await system.gateway.get("/canary")).json()["listening"] is True
    await system.canary.close()
    assert (await system.gateway.get("/canary")).json()["listening"] is False


async def test_probes_need_no_token(system: System) -> None:
    assert (await system.gateway.get("/livez")).status_code == 200
    assert (await system.gateway.get("/readyz")).json() == {"ready": True}


async def test_a_failure_of_the_infrastructure_puts_the_job_back_in_the_queue(
    system: System,
) -> None:
    await begin(system)
    answer = await end(system, why="network", exitCode=None, message="it was open")
    assert answer.json() == {"phase": "Queued"}
    status = job(system)["status"]
    assert (status["reason"], status["infrastructureRetries"]) == ("NetworkNotIsolated", 1)
    # It is no longer the job's pod.
    assert (await end(system)).status_code == 409
    assert (await system.gateway.put("/results", headers=ME, content=b"x")).status_code == 409
    [event] = [body for (kind, _), body in system.kube.objects.items() if kind == "events"]
    assert (event["type"], event["reason"]) == ("Warning", "NetworkNotIsolated")


async def test_the_users_own_failure_is_final_and_an_event(system: System) -> None:
    await begin(system)
    assert (await end(system, exitCode=3, logTail="boom")).json() == {"phase": "Failed"}
    status = job(system)["status"]
    assert status["logTail"] == "boom"
    assert status["expiresAt"] > status["finishedAt"]
    assert sum(kind == "events" for kind, _ in system.kube.objects) == 1


async def test_a_success_is_no_event(system: System) -> None:
    await begin(system)
    await end(system, progress="10/10 done", skippedCount=2, skipped=["a", "b"])
    status = job(system)["status"]
    assert (status["progress"]["done"], status["progress"]["total"]) == (10, 10)
    assert status["skipped"] == {"count": 2, "names": ["a", "b"]}
    assert not any(kind == "events" for kind, _ in system.kube.objects)


async def say(system: System, text: str) -> int:
    answer = await system.gateway.post("/progress", headers=ME, json={"text": text})
    return answer.status_code


async def test_progress_is_a_write_only_when_it_changes(system: System) -> None:
    await begin(system)
    before = len(system.kube.writes)
    assert [await say(system, "40% of it\x1b[0m") for _ in range(3)] == [204] * 3
    assert len(system.kube.writes) == before + 1
    progress = job(system)["status"]["progress"]
    assert (progress["text"], progress["done"], progress["total"]) == ("40% of it[0m", 40, 100)


async def test_much_progress_at_once_is_429(system: System) -> None:
    await begin(system)
    answers = [await say(system, f"{n}/100") for n in range(20)]
    assert answers[:5] == [204] * 5
    assert 429 in answers


async def test_progress_of_another_pod_is_refused(system: System) -> None:
    await begin(system)
    answer = await system.gateway.post("/progress", headers=OTHER, json={"text": "1/2"})
    assert answer.status_code == 409


async def test_inputs_that_were_replaced_are_not_handed_out(system: System) -> None:
    inputs = {"key": KEY, "sizeBytes": 1, "sha256": "0" * 64, "etag": "e"}
    submit(system, spec={"inputs": inputs})
    await system.gateway.post("/start", headers=ME)
    assert (await system.gateway.get("/inputs", headers=ME)).status_code == 410


async def test_a_late_upload_of_a_lost_attempt_does_not_touch_the_next_ones_results(
    system: System,
) -> None:
    """Its pod was removed by force while it was sending; the body ends when attempt 2 is over."""
    await begin(system)
    second = {"Authorization": "Bearer job-1-2/uid-two"}

    async def late() -> AsyncIterator[bytes]:
        yield b"the first's"
        pod = {"name": "job-1-2", "uid": "uid-two", "node": "n"}
        submit(system, phase="Running", attempt=2, pod=pod)
        answer = await system.gateway.put("/results", headers=second, content=b"the second's")
        assert (await end(system, second, results=answer.json())).json() == {"phase": "Completed"}

    await system.gateway.put("/results", headers=ME, content=late())
    stored = job(system)["status"]["results"]
    assert system.s3.objects[stored["key"]] == b"the second's"


async def test_an_agent_that_is_gone_is_not_waited_for(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "IDLE_SECONDS", 0.05)
    await begin(system)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    answer = await system.gateway.put("/results", headers=ME, content=body())
    assert answer.status_code == 408
    assert RESULTS not in system.s3.objects
