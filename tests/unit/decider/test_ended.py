"""Jobs that are live no more: a record of those that ended, nothing left of those that are gone."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator_crds import OrchestratorJob
from orchestrator_operator.bundles import Bundles
from orchestrator_operator.cluster.lease import Lease
from orchestrator_operator.cluster.writes import Writer
from orchestrator_operator.ended import Ended
from orchestrator_operator.sweep import Sweep
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from tests.support.builders import KEY, a_service, job_body
from tests.support.fake_kube import FakeKube
from tests.support.fake_s3 import FakeS3

JOBS = "orchestratorjobs"
RESULTS = KEY.replace("inputs", "results-1")
OTHER = "jobs/ffffffffffffffffffffffffffffffff/inputs.zip"
RECORD = "records/1.json"
ENDED_AT = "2026-01-01T01:00:00Z"
FOREVER = "9999-01-01T00:00:00Z"


class Setting:
    def __init__(self, kube: Kube, state: FakeKube, store: Store, s3: FakeS3, lease: Lease) -> None:
        self.state, self.s3 = state, s3
        self.called_back: list[str] = []
        self.service = a_service()
        bundles = Bundles(store)
        self.ended = Ended(bundles, kube, "jobs", lambda _: self.service.spec, self._call_back)
        writer = Writer(kube, lease, "jobs")
        self.sweep = Sweep(bundles, kube, writer, "jobs", lambda: {"example": self.service})

    def _call_back(self, job: OrchestratorJob) -> None:
        self.called_back.append(job.metadata.name)

    async def left(self, body: dict[str, Any]) -> None:
        self.ended.left(body)
        while self.ended._chores:
            await asyncio.sleep(0.005)

    def record(self) -> Any:
        return json.loads(self.s3.objects[RECORD])

    def ended_job(self, **status: Any) -> dict[str, Any]:
        results = {"key": RESULTS, "sizeBytes": 1, "sha256": "0" * 64, "etag": "e",
                   "updatedAt": ENDED_AT}  # fmt: skip
        return self.state.put(JOBS, job_body(**{
            "phase": "Completed", "message": "run.sh ended with exit code 0.", "exitCode": 0,
            "finishedAt": ENDED_AT, "expiresAt": FOREVER, "results": results, **status,
        }))  # fmt: skip


@pytest.fixture
async def setting(cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store]) -> Setting:
    store[0].objects |= {KEY: b"1", RESULTS: b"2", OTHER: b"3"}
    lease = Lease(cluster[1], "system", "me", seconds=15)
    await lease.acquire()
    return Setting(cluster[1], cluster[0], store[1], store[0], lease)


async def test_a_deleted_jobs_files_and_record_go_and_no_others(setting: Setting) -> None:
    setting.s3.objects[RECORD] = b"{}"
    await setting.left(job_body())
    assert set(setting.s3.objects) == {OTHER}


async def test_a_job_that_ended_keeps_its_files_and_gets_a_record(setting: Setting) -> None:
    body = setting.ended_job()
    await setting.left(job_body())
    assert {KEY, RESULTS, RECORD} <= set(setting.s3.objects)
    record = setting.record()
    assert record["status"] == body["status"]
    assert record["keepUntil"] == "2027-01-01T01:00:00Z"
    assert OrchestratorJob.parse(record).spec.id == 1
    assert setting.called_back == []


async def test_a_job_whose_end_is_to_be_told_is_handed_on(setting: Setting) -> None:
    setting.ended_job(callback={"state": "Pending", "attempts": 0, "updatedAt": ENDED_AT})
    await setting.left(job_body())
    assert setting.called_back == ["job-1"]


async def test_a_job_that_is_live_again_is_left_alone(setting: Setting) -> None:
    setting.state.put(JOBS, job_body())
    await setting.left(job_body())
    assert set(setting.s3.objects) == {KEY, RESULTS, OTHER}


async def test_a_job_made_anew_under_its_name_does_not_keep_the_old_ones_files(
    setting: Setting,
) -> None:
    new = job_body(spec={"inputs": {"key": OTHER, "sizeBytes": 1, "sha256": "0" * 64}})
    new["metadata"]["uid"] = "another"
    setting.state.put(JOBS, new)
    await setting.left(job_body())
    assert set(setting.s3.objects) == {OTHER}


async def test_a_store_that_is_down_is_left_to_the_sweep(setting: Setting) -> None:
    setting.s3.down = True
    await setting.left(job_body())
    setting.s3.down = False
    await setting.sweep.once()
    assert setting.s3.objects == {}


async def test_the_sweep_takes_old_files_without_a_job_and_never_a_record(
    setting: Setting,
) -> None:
    setting.ended_job()
    setting.s3.objects[RECORD] = b"{}"
    await setting.sweep.once()
    assert set(setting.s3.objects) == {KEY, RESULTS, RECORD}


async def test_the_sweep_never_takes_a_fresh_upload(setting: Setting) -> None:
    setting.s3.modified = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    await setting.sweep.once()
    assert set(setting.s3.objects) == {KEY, RESULTS, OTHER}


async def test_a_job_whose_time_is_over_goes_and_its_record_stays(setting: Setting) -> None:
    setting.ended_job(expiresAt="2026-01-11T01:00:00Z")
    setting.s3.objects.pop(OTHER)
    await setting.sweep.once()
    assert set(setting.s3.objects) == {RECORD}
    status = setting.record()["status"]
    assert (status["phase"], status["exitCode"]) == ("Cleaned", 0)
    assert "as their time was over; submit it again" in status["message"]
    assert status["message"].endswith("It had ended as Completed: run.sh ended with exit code 0.")
    assert setting.state.get(JOBS, "job-1")["metadata"]["deletionTimestamp"]


async def test_the_record_is_there_before_anything_is_deleted(setting: Setting) -> None:
    setting.ended_job(expiresAt="2026-01-11T01:00:00Z")
    setting.s3.down_for = lambda key: key.startswith("records/")
    await setting.sweep.once()
    assert {KEY, RESULTS} <= set(setting.s3.objects)
    assert "deletionTimestamp" not in setting.state.get(JOBS, "job-1")["metadata"]


async def test_a_completed_job_whose_files_vanished_is_marked_cleaned(setting: Setting) -> None:
    setting.ended_job()
    setting.s3.objects = {OTHER: b"3"}
    await setting.sweep.once()
    status = setting.state.get(JOBS, "job-1")["status"]
    assert (status["phase"], status["reason"]) == ("Cleaned", "ResultsLost")
    assert setting.record()["status"]["phase"] == "Cleaned"


async def test_a_queued_job_whose_upload_vanished_is_invalid(setting: Setting) -> None:
    setting.state.put(JOBS, job_body())
    setting.s3.objects = {OTHER: b"3"}
    await setting.sweep.once()
    status = setting.state.get(JOBS, "job-1")["status"]
    assert (status["phase"], status["reason"]) == ("Invalid", "InputsMissing")


async def test_one_bad_job_costs_only_itself(setting: Setting) -> None:
    bad = job_body("job-0")
    bad["status"]["phase"] = "Odd"
    setting.state.put(JOBS, bad)
    setting.ended_job(expiresAt="2026-01-11T01:00:00Z")
    await setting.sweep.once()
    assert setting.record()["status"]["phase"] == "Cleaned"


async def test_records_go_when_their_own_time_is_over(setting: Setting) -> None:
    setting.s3.objects = {
        "records/1.json": b'{"keepUntil":"2026-06-01T00:00:00Z"}',
        "records/2.json": b'{"keepUntil":"9999-01-01T00:00:00Z"}',
        "records/3.json": b"not ours",
    }
    await setting.sweep.once()
    assert set(setting.s3.objects) == {"records/2.json", "records/3.json"}


async def test_a_deletion_that_the_sweep_made_leaves_the_record(setting: Setting) -> None:
    setting.s3.objects[RECORD] = b"{}"
    expired = job_body(phase="Completed", finishedAt=ENDED_AT, expiresAt="2026-01-11T01:00:00Z")
    await setting.ended._deleted(expired)
    assert RECORD in setting.s3.objects
    await setting.ended._deleted(job_body(phase="Completed", expiresAt=FOREVER))
    assert RECORD not in setting.s3.objects


async def test_uploads_that_nobody_will_finish_are_aborted(setting: Setting) -> None:
    setting.s3.uploads = {"jobs/a/inputs.zip": {}, "elsewhere": {}}
    await setting.sweep.once()
    assert set(setting.s3.uploads) == {"elsewhere"}
    setting.s3.uploads = {"jobs/a/inputs.zip": {}}
    setting.s3.modified = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    setting.sweep._daily_at = 0.0
    await setting.sweep.once()
    assert set(setting.s3.uploads) == {"jobs/a/inputs.zip"}


async def test_a_store_that_is_all_empty_is_taken_for_the_wrong_one(setting: Setting) -> None:
    setting.ended_job()
    setting.s3.objects.clear()
    await setting.sweep.once()
    assert setting.state.get(JOBS, "job-1")["status"]["phase"] == "Completed"


async def test_a_job_that_expires_as_it_ends_keeps_its_record(setting: Setting) -> None:
    body = setting.ended_job(expiresAt=ENDED_AT)
    await setting.sweep.once()
    setting.state.remove(JOBS, "job-1")
    # Only now does the news of its end arrive.
    await setting.left(body)
    assert setting.record()["status"]["phase"] == "Cleaned"


async def test_uploads_that_may_not_be_listed_are_no_reason_to_keep_records(
    setting: Setting,
) -> None:
    setting.s3.objects = {"records/1.json": b'{"keepUntil":"2026-06-01T00:00:00Z"}'}
    setting.s3.forbid_uploads = True
    await setting.sweep.once()
    assert setting.s3.objects == {}


async def test_an_invalid_job_that_the_sweep_finds_is_told_to_its_callback(
    setting: Setting,
) -> None:
    setting.service = a_service(callbackURL="https://portal.example.org/x")
    setting.sweep._services = lambda: {"example": setting.service}
    setting.state.put(JOBS, job_body())
    setting.s3.objects = {OTHER: b"3"}
    await setting.sweep.once()
    status = setting.state.get(JOBS, "job-1")["status"]
    assert status["callback"]["url"] == "https://portal.example.org/x"
