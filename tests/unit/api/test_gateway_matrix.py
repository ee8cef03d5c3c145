"""Every pod's token on every route of the gateway: one cell is open, and all others change nothing."""

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator_api import attempts
from orchestrator_api.gateway import router
from orchestrator_crds import OrchestratorJob
from tests.support.builders import KEY, job_body
from tests.support.system import System

END = {"why": "exit", "exitCode": 0, "oomKills": 0, "logTail": ""}
SAYING = {"json": {"text": "3/10 refining\n"}}
# Method and path → what is sent, and the answer to whom it is for.
ROUTES: dict[tuple[str, str], tuple[dict[str, Any], int]] = {
    ("POST", "/start"): ({}, 200),
    ("GET", "/inputs"): ({}, 200),
    ("POST", "/progress"): (SAYING, 204),
    ("POST", "/snapshots-on-request"): ({}, 204),
    ("GET", "/snapshot-wanted"): ({}, 200),
    ("PUT", "/snapshot"): ({"content": b"x"}, 200),
    ("PUT", "/results"): ({"content": b"x"}, 200),
    ("POST", "/end"): ({"json": END}, 200),
}
FREE = {("GET", "/canary"), ("GET", "/livez"), ("GET", "/readyz")}
# Job 1 is at its second attempt; job 2 waits for its pod; job 3 has ended; job 4 there never was.
MINE = "job-1-2/uid-mine"
OTHERS = {
    "another pod of the same name": "job-1-2/uid-false",
    "the pod of the attempt before": "job-1-1/uid-before",
    "a pod of an attempt to come": "job-1-3/uid-next",
    "the attempt before, with this one's uid": "job-2-1/uid-mine",
    "a pod of a job that is gone": "job-4-1/uid-gone",
    "the pod of a job that has ended": "job-3-1/uid-ended",
    "a pod of a job of that name that was deleted": "job-1-2/uid-mine/uid-old",
    "the same, while the new one waits": "job-2-2/uid-old/uid-old",
    "a pod that is no job's": "orchestrator-api-x/uid-api",
}
NOBODY = ("", "Bearer ", "Bearer x", "Basic am9iLTEtMi91aWQtbWluZQ==", "bearer")
# What costs nothing and tells nothing, and what is told twice.
HARMLESS = {
    ("GET", "/snapshot-wanted"): '{"at":""}',
    ("POST", "/end", "the pod of a job that has ended"): '{"phase":"Completed"}',
}


@pytest.fixture
def jobs(system: System) -> System:
    claim = {"epoch": 1, "pool": "cpu"}

    def pod(name: str, uid: str) -> dict[str, str]:
        return {"name": name, "uid": uid, "node": "node-1"}

    statuses: dict[str, Any] = {
        "job-1": {"phase": "Running", "attempt": 2, "pod": pod("job-1-2", "uid-mine")},
        "job-2": {"phase": "Submitted", "attempt": 2},
        "job-3": {"phase": "Completed", "attempt": 1, "pod": pod("job-3-1", "uid-ended")},
    }
    for name, status in statuses.items():
        system.kube.put("orchestratorjobs", job_body(name, claim=claim, **status))
    system.s3.objects[KEY] = b"the inputs"
    return system


def state(system: System) -> Any:
    return copy.deepcopy((system.kube.objects, system.s3.objects))


def test_every_route_has_a_row() -> None:
    found = {(m, r.path) for r in router.routes for m in r.methods}  # type: ignore[attr-defined]
    assert found == set(ROUTES) | FREE


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_whom_it_is_for_is_let_in(jobs: System, method: str, path: str) -> None:
    sent, status = ROUTES[method, path]
    headers = {"Authorization": f"Bearer {MINE}"}
    answer = await jobs.gateway.request(method, path, headers=headers, **sent)
    assert answer.status_code == status


@pytest.mark.parametrize("who", OTHERS)
async def test_any_other_pod_is_refused_and_changes_nothing(jobs: System, who: str) -> None:
    before = state(jobs)
    headers = {"Authorization": f"Bearer {OTHERS[who]}"}
    for (method, path), (sent, _) in ROUTES.items():
        answer = await jobs.gateway.request(method, path, headers=headers, **sent)
        harmless = HARMLESS.get((method, path)) or HARMLESS.get((method, path, who))
        if harmless is not None:
            assert (answer.status_code, answer.text) == (200, harmless), path
            continue
        assert answer.status_code == 409, path
    assert state(jobs) == before


async def test_whoever_is_refused_cannot_tell_why(jobs: System) -> None:
    """Another's job, one that is gone and none at all: one answer, and the same work for it."""
    told: dict[str, set[Any]] = {path: set() for _, path in ROUTES}
    for who in OTHERS.keys() - {"a pod that is no job's"}:
        headers = {"Authorization": f"Bearer {OTHERS[who]}"}
        for (method, path), (sent, _) in ROUTES.items():
            if (method, path, who) in HARMLESS:
                continue
            reads, writes, stored = len(jobs.kube.reads), len(jobs.kube.writes), len(jobs.s3.asked)
            answer = await jobs.gateway.request(method, path, headers=headers, **sent)
            work = (len(jobs.kube.reads) - reads, len(jobs.kube.writes) - writes)
            seen = (answer.status_code, answer.text, str(answer.headers))
            told[path].add((*seen, *work, len(jobs.s3.asked) - stored))
    assert {path: len(found) for path, found in told.items()} == dict.fromkeys(told, 1)
    refused = {found.pop() for path, found in told.items() if path != "/snapshot-wanted"}
    assert {found[3:] for found in refused} == {(1, 0, 0)}
    assert len(refused) == 1


async def test_nobody_else_is_heard_and_kubernetes_is_not_even_asked(jobs: System) -> None:
    before, asked = state(jobs), len(jobs.kube.reads)
    for (method, path), (sent, _) in ROUTES.items():
        for header in NOBODY:
            headers = {"Authorization": header}
            answer = await jobs.gateway.request(method, path, headers=headers, **sent)
            assert answer.status_code == 401, (path, header)
    assert (state(jobs), len(jobs.kube.reads)) == (before, asked)


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_deleted_jobs_pod_does_not_start_the_next_of_that_name(
    jobs: System, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """It still waited for its image, and would have run somebody else's files as its own service."""
    headers = {"Authorization": "Bearer job-2-2/uid-old/uid-old"}
    if not guarded:
        monkeypatch.setattr(OrchestratorJob, "parse", classmethod(blind))
    answer = await jobs.gateway.post("/start", headers=headers)
    assert answer.status_code == (409 if guarded else 200)
    phase = jobs.kube.get("orchestratorjobs", "job-2")["status"]["phase"]
    assert phase == ("Submitted" if guarded else "Running")


@pytest.mark.parametrize("guarded", [True, False])
async def test_it_is_the_pods_uid_that_tells_it_from_another_of_its_name(
    jobs: System, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if not guarded:
        monkeypatch.setattr(attempts, "_is_current", lambda *_: True)
    headers = {"Authorization": f"Bearer {OTHERS['another pod of the same name']}"}
    answers = [
        await jobs.gateway.get("/inputs", headers=headers),
        await jobs.gateway.put("/results", headers=headers, content=b"x"),
        await jobs.gateway.post("/end", headers=headers, json=END),
    ]
    assert {answer.status_code for answer in answers} == {409 if guarded else 200}


@pytest.mark.parametrize("guarded", [True, False])
async def test_the_attempt_before_does_not_start_in_the_place_of_this_one(
    jobs: System, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if not guarded:
        monkeypatch.setattr(attempts, "job_of_pod", lambda _: ("job-2", 2))
    headers = {"Authorization": "Bearer job-2-1/uid-mine"}
    answer = await jobs.gateway.post("/start", headers=headers)
    assert answer.status_code == (409 if guarded else 200)


def blind(_: Any, body: Any) -> OrchestratorJob:
    """Read a job as if it had the uid of the one before it."""
    metadata = {**body["metadata"], "uid": "uid-old"}
    return OrchestratorJob.model_validate({**body, "metadata": metadata})


@pytest.mark.parametrize("path", ["/results", "/snapshot"])
@pytest.mark.parametrize("body", [b"x", b"other bytes"])
async def test_what_was_stored_stays_once_the_attempt_has_ended(
    jobs: System, path: str, body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {MINE}"}
    receipt = (await jobs.gateway.put(path, headers=headers, content=b"x")).json()
    results = {"results": receipt} if path == "/results" else {}
    answer = await jobs.gateway.post("/end", headers=headers, json=END | results)
    assert answer.json() == {"phase": "Completed"}
    before = state(jobs)
    again = await asyncio.gather(
        *(jobs.gateway.put(path, headers=headers, content=body) for _ in range(5))
    )
    assert {answer.status_code for answer in again} == {409}
    # The last word, too, is said once; told again it is not taken.
    other = {**END, "exitCode": 3, "logTail": "other", "results": None}
    assert (await jobs.gateway.post("/end", headers=headers, json=other)).status_code == 200
    assert state(jobs) == before


async def test_results_sent_until_after_the_end_are_not_stored(jobs: System) -> None:
    """A pod that its token outlives cannot change what it left."""
    headers = {"Authorization": f"Bearer {MINE}"}

    async def slow() -> AsyncIterator[bytes]:
        yield b"other bytes"
        await jobs.gateway.post("/end", headers=headers, json=END)

    answer = await jobs.gateway.put("/results", headers=headers, content=slow())
    # The end is final for what comes after it, and for what began before.
    assert answer.status_code == 409
    assert set(jobs.s3.objects) == {KEY}


async def test_a_pod_takes_one_place_for_its_results_and_no_more(jobs: System) -> None:
    headers = {"Authorization": f"Bearer {MINE}"}
    begun, over = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await over.wait()

    first = asyncio.create_task(jobs.gateway.put("/results", headers=headers, content=slow()))
    await begun.wait()
    second = await jobs.gateway.put("/results", headers=headers, content=b"y")
    assert second.status_code == 429
    # Its snapshots are another matter.
    assert (await jobs.gateway.put("/snapshot", headers=headers, content=b"z")).status_code == 200
    over.set()
    assert (await first).status_code == 200
    assert (await jobs.gateway.put("/results", headers=headers, content=b"y")).status_code == 200
