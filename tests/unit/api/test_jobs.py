"""Polls, downloads and terminations."""

import asyncio
import hashlib
from typing import Any

import pytest
from aiohttp import web

from orchestrator_api import wellness
from orchestrator_api.errors import RangeNotSatisfiable
from orchestrator_api.files import one_range
from orchestrator_crds import OrchestratorJob
from orchestrator_crds.record import cleaned
from orchestrator_crds.record import record as record_of
from orchestrator_crds.service import Retention
from tests.support.builders import KEY, job_body, service_body
from tests.support.fake_s3 import _etag
from tests.support.system import System

RESULTS = "jobs/0123456789abcdef0123456789abcdef/results.zip"
PARTIAL = "jobs/0123456789abcdef0123456789abcdef/partial-1.zip"
DATA = b"PK" + bytes(range(256))


def stored(data: bytes = DATA) -> dict[str, Any]:
    return {
        "key": RESULTS,
        "sizeBytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "etag": _etag(data).strip('"'),
        "updatedAt": "2026-01-01T00:00:00Z",
    }


def put(system: System, phase: str, *, spec: Any = None, **status: Any) -> None:
    system.kube.put("orchestratorjobs", job_body(phase=phase, spec=spec, **status))


async def complete(system: System) -> None:
    system.s3.objects[RESULTS] = DATA
    put(system, "Completed", results=stored())


@pytest.mark.parametrize("phase", ["Queued", "Submitted", "Running"])
async def test_a_live_job_is_answered_as_json(system: System, phase: str) -> None:
    put(system, phase)
    answer = await system.rest.get("/download/1")
    assert answer.status_code == 200
    assert answer.json()["status"] == phase
    assert answer.json()["message"]


async def test_a_poll_of_a_live_job_costs_no_request(system: System) -> None:
    await system.upload()
    while "job-1" not in system.context.jobs.live.items:
        await asyncio.sleep(0.005)
    reads = len(system.kube.reads)
    for _ in range(20):
        assert (await system.rest.get("/download/1")).status_code == 200
    assert len(system.kube.reads) == reads


async def test_what_was_uploaded_is_known_however_far_behind_the_watch_is(system: System) -> None:
    """Each poll of it was two requests, just while Kubernetes was busy with a flood of others."""
    for task in system.tasks:
        task.cancel()
    await system.upload()
    reads = len(system.kube.reads)
    assert (await system.rest.get("/download/1")).json()["status"] == "Queued"
    assert len(system.kube.reads) == reads


async def test_what_the_watch_took_away_before_its_upload_was_answered_does_not_come_back(
    system: System,
) -> None:
    live = system.context.jobs.live
    made = OrchestratorJob.parse(job_body())
    live.put(made)
    live.drop("job-1")
    live.put_new(made)
    assert not live.items


async def test_a_watch_that_ends_goes_on_where_it_was(system: System) -> None:
    """Every four minutes a new service was unknown for a second, and all jobs were listed again."""
    before = len(system.kube.reads)
    await system.kube.end_watches()
    system.kube.put("orchestratorservices", service_body("new"))
    while system.context.services.find("new") is None:
        await asyncio.sleep(0.005)
    asked = system.kube.reads[before:]
    assert asked
    assert len(asked) == len(set(asked)), "listed once more, too"


@pytest.mark.parametrize("how", ["deleted", "made unreadable"])
async def test_a_service_that_is_not_there_any_more_takes_no_uploads(
    system: System, how: str
) -> None:
    """What could not be read was ignored, and stayed until all was listed again."""
    body = service_body("example")
    body["spec"]["image"] = {"from": "a version to come"}
    if how == "deleted":
        system.kube.objects["orchestratorservices", "example"] = body
        system.kube.remove("orchestratorservices", "example")
    else:
        system.kube.put("orchestratorservices", body)
    async with asyncio.timeout(5):
        while system.context.services.find("example") is not None:
            await asyncio.sleep(0.005)


async def test_a_watch_that_tells_nothing_is_not_relied_on(system: System) -> None:
    """A server that ends each watch at once would be asked without a pause."""
    before = len(system.kube.reads)
    await system.kube.end_watches(bookmark=False)
    await asyncio.sleep(0.1)
    assert len(system.kube.reads) == before


async def test_a_job_made_by_another_replica_a_moment_ago_is_found(system: System) -> None:
    for task in system.tasks:
        task.cancel()
    put(system, "Queued")
    assert (await system.rest.get("/download/1")).status_code == 200


@pytest.mark.parametrize(
    ("phase", "message"),
    [("Failed", "run.sh ended with exit code 3."), ("Killed", "on request"), ("Invalid", "bad")],
)
async def test_a_job_that_came_to_nothing_says_why(
    system: System, phase: str, message: str
) -> None:
    put(system, phase, message=message)
    answer = await system.rest.get("/download/1")
    assert answer.json() == {"id": 1, "status": phase, "message": message}
    if phase != "Invalid":
        body = job_body("job-2", phase=phase, message=message, results=stored())
        system.kube.put("orchestratorjobs", body)
        told = (await system.rest.get("/download/2")).json()["message"]
        assert told == f"{message}\nWhat it left is at /download_partial/2."


@pytest.mark.parametrize("path", ["/download/9", "/download_partial/9"])
async def test_an_unknown_id_is_404(system: System, path: str) -> None:
    answer = await system.rest.get(path)
    assert answer.status_code == 404
    message = "Job 9 not found in the database"
    assert answer.json() == {"id": 0, "status": "Unknown", "message": message}
    assert (await system.rest.post("/terminate/9")).status_code == 404


@pytest.mark.parametrize("job_id", ["0", "-1", "x", "2147483648", "1.5"])
async def test_an_id_that_is_none_is_400(system: System, job_id: str) -> None:
    answer = await system.rest.get(f"/download/{job_id}")
    assert answer.status_code == 400
    assert answer.json()["message"] == "Invalid id, should be a positive number"


async def test_a_completed_job_is_the_zip(system: System) -> None:
    await complete(system)
    answer = await system.rest.get("/download/1")
    assert answer.content == DATA
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["etag"] == _etag(DATA)
    head = await system.rest.head("/download/1")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(DATA)))


async def test_one_range_of_the_zip(system: System) -> None:
    await complete(system)
    answer = await system.rest.get("/download/1", headers={"Range": "bytes=2-5"})
    assert (answer.status_code, answer.content) == (206, DATA[2:6])
    assert answer.headers["content-range"] == f"bytes 2-5/{len(DATA)}"
    outside = await system.rest.get("/download/1", headers={"Range": "bytes=999-"})
    assert outside.status_code == 416
    assert outside.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 0)), ("bytes=5-", (5, 9)), ("bytes=-3", (7, 9)), ("bytes=-99", (0, 9)),
        ("bytes=0-99", (0, 9)), ("bytes=0-1,3-4", None), ("bytes=3-1", None), ("items=0-1", None),
        ("bytes=-", None), ("", None), ("bytes=" + "9" * 5000 + "-", None),
    ],
)  # fmt: skip
def test_ranges(header: str, found: Any) -> None:
    assert one_range(header, 10) == found


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0"])
def test_ranges_outside(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        one_range(header, 10)


async def test_results_that_were_replaced_are_refused_before_the_first_byte(system: System) -> None:
    await complete(system)
    system.s3.objects[RESULTS] = b"something else"
    answer = await system.rest.get("/download/1")
    assert answer.status_code == 410
    assert "are not those that it left" in answer.json()["message"]


@pytest.mark.parametrize("route", ["download", "download_partial"])
@pytest.mark.parametrize("size", [len(DATA), 500_000])
async def test_results_that_were_damaged_are_never_a_complete_200(
    system: System, monkeypatch: pytest.MonkeyPatch, route: str, size: int
) -> None:
    """Other bytes of the same length with the same ETag, as a failing disk may have them."""
    good = bytes(size)
    await complete(system)
    put(system, "Completed", results=stored(good) | {"etag": "same"})
    monkeypatch.setattr(system.s3, "_etag", lambda _: '"same"')
    system.s3.objects[RESULTS] = good
    assert (await system.rest.get(f"/{route}/1")).content == good
    system.s3.objects[RESULTS] = bytes(size - 1) + b"x"
    answer = await system.rest.get(f"/{route}/1")
    assert answer.status_code == 500 or len(answer.content) < size
    # The store gives them without a word: of a part there is no sum, so that nobody notices.
    part = await system.rest.get(f"/{route}/1", headers={"Range": "bytes=0-"})
    assert (part.status_code, part.content) == (206, system.s3.objects[RESULTS])


async def test_results_that_went_with_their_job_are_404(system: System) -> None:
    await complete(system)
    assert (await system.rest.get("/download/1")).status_code == 200
    del system.s3.objects[RESULTS]
    system.kube.remove("orchestratorjobs", "job-1")
    assert (await system.rest.get("/download/1")).status_code == 404


async def test_a_store_that_breaks_off_is_never_a_complete_200(system: System) -> None:
    await complete(system)
    system.s3.objects[RESULTS] = big = bytes(500_000)
    put(system, "Completed", results=stored(big))
    system.s3.cut_after = 1000
    answer = await system.rest.get("/download/1")
    # In process, a broken connection shows as fewer bytes than were announced.
    assert answer.status_code == 500 or len(answer.content) < len(big)


async def test_partial_results_are_the_inputs_first_then_the_snapshot_then_the_results(
    system: System,
) -> None:
    system.s3.objects[KEY] = b"inputs"
    spec = {"inputs": {"key": KEY, "sizeBytes": 6, "sha256": hashlib.sha256(b"inputs").hexdigest()}}
    put(system, "Queued", spec=spec)
    assert (await system.rest.get("/download_partial/1")).content == b"inputs"
    # Other bytes than were uploaded are never a complete answer.
    system.s3.objects[KEY] = b"damage"
    answer = await system.rest.get("/download_partial/1")
    assert answer.status_code == 500 or len(answer.content) < 6
    system.s3.objects[KEY] = b"inputs"
    put(system, "Running", attempt=1, spec=spec)
    assert (await system.rest.get("/download_partial/1")).content == b"inputs"
    system.s3.objects[PARTIAL] = b"snapshot"
    assert (await system.rest.get("/download_partial/1")).content == b"snapshot"
    await complete(system)
    await asyncio.sleep(0.05)
    assert (await system.rest.get("/download_partial/1")).content == DATA


@pytest.mark.parametrize("phase", ["Queued", "Submitted", "Running"])
async def test_a_live_job_can_be_terminated_and_is_killed_from_then_on(
    system: System, phase: str
) -> None:
    put(system, phase)
    answer = await system.rest.post("/terminate/1")
    assert answer.json() == {"id": 1, "status": "Unknown", "message": "job terminated"}
    assert system.kube.get("orchestratorjobs", "job-1")["spec"]["terminate"] is True
    # Said once more, it costs nothing.
    writes = len(system.kube.writes)
    assert (await system.rest.post("/terminate/1")).json() == answer.json()
    assert len(system.kube.writes) == writes
    poll = await system.rest.get("/download/1")
    assert poll.json()["status"] == "Killed"


async def test_a_job_that_ended_a_moment_ago_cannot_be_terminated(system: System) -> None:
    put(system, "Running")
    await system.rest.get("/download/1")
    while "job-1" not in system.context.jobs.live.items:
        await asyncio.sleep(0.005)
    # The watch has not told yet.
    system.kube.get("orchestratorjobs", "job-1")["status"]["phase"] = "Completed"
    assert (await system.rest.post("/terminate/1")).status_code == 409


async def test_a_job_made_with_kubectl_under_such_a_name_is_not_served(system: System) -> None:
    body = job_body("job-1")
    del body["spec"]["id"]
    system.kube.put("orchestratorjobs", body)
    assert (await system.rest.get("/download/1")).status_code == 404
    assert (await system.rest.post("/terminate/1")).status_code == 404


async def test_a_job_that_is_over_cannot_be_terminated(system: System) -> None:
    await complete(system)
    answer = await system.rest.post("/terminate/1")
    assert answer.status_code == 409
    assert "over already" in answer.json()["message"]


async def test_kubernetes_down_is_503(system: System) -> None:
    system.kube.before = lambda *_: web.Response(status=500)
    for call in (system.rest.get("/download/5"), system.rest.post("/terminate/5"), system.upload()):
        answer = await call
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    assert not system.s3.uploads


async def test_health_tells_what_is_away(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wellness, "KEPT_SECONDS", 0.0)
    assert (await system.rest.get("/health")).json() == {"status": "ok", "database": "ok"}
    system.s3.down = True
    answer = await system.rest.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "error")
    system.s3.down, system.kube.before = False, lambda *_: web.Response(status=500)
    assert (await system.rest.get("/health")).status_code == 503


@pytest.mark.parametrize("kept", [True, False])
async def test_health_costs_the_same_however_many_ask(
    system: System, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Nobody needs a key for it, and each had Kubernetes and the store asked."""
    monkeypatch.setattr(wellness, "KEPT_SECONDS", 60.0 if kept else 0.0)
    before = len(system.kube.reads)
    for _ in range(5):
        answers = await asyncio.gather(*(system.rest.get("/health") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
    asked = system.kube.reads[before:]
    assert len(asked) == 1 if kept else len(asked) >= 5
    # And not for a job, which could be large.
    assert all(read.endswith("/orchestratorservices") for read in asked)


async def test_ping_documentation_and_description(system: System) -> None:
    assert (await system.rest.get("/")).json() == {"message": "pong"}
    assert "/download/{job_id}" in (await system.rest.get("/swagger/")).text
    paths = (await system.rest.get("/api-docs/openapi.json")).json()["paths"]
    assert {"/upload", "/download/{job_id}", "/terminate/{job_id}", "/health"} <= set(paths)


async def test_an_unexpected_error_has_the_contracts_shape(system: System) -> None:
    system.kube.before = lambda *_: web.json_response({"metadata": {"name": 5}})
    answer = await system.rest.get("/download/5")
    assert (answer.status_code, answer.json()["status"]) == (500, "Unknown")


async def test_an_unknown_path_is_answered_in_the_same_shape(system: System) -> None:
    answer = await system.rest.get("/nowhere")
    assert (answer.status_code, answer.json()["status"]) == (404, "Unknown")


def put_record(system: System, **status: Any) -> None:
    record = record_of(job_body(**status), Retention())
    system.s3.objects["records/1.json"] = record


async def test_an_ended_job_is_answered_from_its_record_and_then_from_memory(
    system: System,
) -> None:
    put_record(system, phase="Failed", message="run.sh ended with exit code 3.")
    reads = len(system.kube.reads)
    for _ in range(5):
        answer = await system.rest.get("/download/1")
        assert answer.json() == {
            "id": 1,
            "status": "Failed",
            "message": "run.sh ended with exit code 3.",
        }
    assert len(system.kube.reads) == reads
    assert system.s3.reads.count("records/1.json") == 1


async def test_a_cleaned_job_is_answered_as_json_everywhere(system: System) -> None:
    body = cleaned(
        job_body(phase="Completed", message="ok", results=stored()), "2026-02-01T00:00:00Z"
    )
    system.s3.objects["records/1.json"] = record_of(body, Retention())
    for path in ("/download/1", "/download_partial/1"):
        answer = await system.rest.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "Cleaned")
        assert "were deleted on 2026-02-01" in answer.json()["message"]
    assert (await system.rest.post("/terminate/1")).status_code == 409


async def test_a_job_that_expires_between_two_polls_is_cleaned_and_not_missing(
    system: System,
) -> None:
    await complete(system)
    assert (await system.rest.get("/download/1")).status_code == 200
    del system.s3.objects[RESULTS]
    body = cleaned(job_body(phase="Completed", results=stored()), "2026-02-01T00:00:00Z")
    system.s3.objects["records/1.json"] = record_of(body, Retention())
    answer = await system.rest.get("/download/1")
    assert (answer.status_code, answer.json()["status"]) == (200, "Cleaned")


async def test_a_record_that_cannot_be_read_is_asked_of_kubernetes(system: System) -> None:
    system.s3.objects["records/1.json"] = b"junk"
    put(system, "Failed", message="no")
    assert (await system.rest.get("/download/1")).json()["status"] == "Failed"


@pytest.mark.parametrize("trouble", ["down", "damaged", "no object"])
async def test_a_job_that_may_have_a_record_is_never_404(system: System, trouble: str) -> None:
    # The last was found by fuzzing, and was answered with 500.
    system.s3.objects["records/1.json"] = b"[]" if trouble == "no object" else b"junk"
    system.s3.down = trouble == "down"
    assert (await system.rest.get("/download/1")).status_code == 503


async def test_the_progress_of_a_running_job_is_its_message(system: System) -> None:
    progress = {"text": "3/10 refining", "updatedAt": "2026-01-01T00:00:00Z"}
    put(system, "Running", progress=progress)
    answer = await system.rest.get("/download/1")
    assert answer.json()["message"] == "The job is running: 3/10 refining"


@pytest.mark.parametrize(
    ("if_range", "status"), [(_etag(DATA), 206), ('"another"', 200), ("W/" + _etag(DATA), 200)]
)
async def test_a_range_of_another_version_is_answered_with_the_whole(
    system: System, if_range: str, status: int
) -> None:
    await complete(system)
    headers = {"Range": "bytes=2-3", "If-Range": if_range}
    answer = await system.rest.get("/download/1", headers=headers)
    assert answer.status_code == status
    assert answer.content == (DATA[2:4] if status == 206 else DATA)


async def test_a_head_costs_no_byte_of_the_zip(system: System) -> None:
    await complete(system)
    answer = await system.rest.head("/download/1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"


async def test_replaced_inputs_of_a_queued_job_are_not_handed_out(system: System) -> None:
    system.s3.objects[KEY] = b"another's"
    inputs = {"key": KEY, "sizeBytes": 1, "sha256": "0" * 64, "etag": "e"}
    put(system, "Queued", spec={"inputs": inputs})
    answer = await system.rest.get("/download_partial/1")
    assert answer.status_code == 410
    assert "were replaced or damaged" in answer.json()["message"]


@pytest.mark.parametrize("key", [" ", ".", "jobs/", "no key", KEY])
@pytest.mark.parametrize("phase", ["Queued", "Running"])
async def test_files_that_no_object_can_be_are_gone(system: System, key: str, phase: str) -> None:
    """Found by fuzzing: keys and ETags that the libraries refuse to send were answered with 500."""
    inputs = {"key": key, "sizeBytes": 1, "sha256": "0" * 64, "etag": "\n"}
    put(system, phase, attempt=1, spec={"inputs": inputs})
    assert (await system.rest.get("/download_partial/1")).status_code == 410


async def test_partial_results_on_request_are_asked_for_but_not_at_every_poll(
    system: System,
) -> None:
    system.s3.objects[KEY] = b"inputs"
    put(system, "Running", attempt=1, pod={"name": "job-1-1", "uid": "uid-me", "node": "n"})
    me = {"Authorization": "Bearer job-1-1/uid-me"}
    await system.rest.get("/download_partial/1")
    assert not system.kube.writes
    assert (await system.gateway.post("/snapshots-on-request", headers=me)).status_code == 204
    await asyncio.sleep(0.05)
    assert (await system.gateway.get("/snapshot-wanted", headers=me)).json() == {"at": ""}
    for _ in range(3):
        await system.rest.get("/download_partial/1")
        await asyncio.sleep(0.05)
    assert len(system.kube.writes) == 2
    assert (await system.gateway.get("/snapshot-wanted", headers=me)).json()["at"]
    other = {"Authorization": "Bearer job-1-1/uid-other"}
    assert (await system.gateway.get("/snapshot-wanted", headers=other)).json() == {"at": ""}


@pytest.mark.parametrize(
    "path", ["/", "/health", "/download/{}", "/download_partial/{}", "/download/99", "/nowhere"]
)
async def test_every_answer_says_that_it_is_data(system: System, path: str) -> None:
    number = (await system.upload()).json()["id"]
    headers = (await system.rest.get(path.format(number))).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["cache-control"] == "private, no-cache"
    if headers["content-type"] == "application/zip":
        assert headers["content-disposition"] == f'attachment; filename="{number}.zip"'
