"""Objects that belong to no job any more: taken away, and never one too many."""

from datetime import UTC, datetime

import pytest

from orchestrator_operator.bundles import Bundles
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from tests.support.builders import KEY, job_body
from tests.support.fake_kube import FakeKube
from tests.support.fake_s3 import FakeS3

JOBS = "orchestratorjobs"
RESULTS = KEY.replace("inputs", "results")
OTHER = "jobs/ffffffffffffffffffffffffffffffff/inputs.zip"


@pytest.fixture
def bundles(cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store]) -> Bundles:
    store[0].objects |= {KEY: b"1", RESULTS: b"2", OTHER: b"3", "records/1.json": b"4"}
    return Bundles(store[1], cluster[1], "jobs")


async def test_a_deleted_jobs_objects_go_and_no_others(
    bundles: Bundles, store: tuple[FakeS3, Store]
) -> None:
    await bundles.job_deleted(job_body())
    assert set(store[0].objects) == {OTHER, "records/1.json"}


async def test_a_job_that_only_left_the_live_ones_keeps_its_objects(
    bundles: Bundles, cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store]
) -> None:
    body = cluster[0].put(JOBS, job_body(phase="Completed"))
    await bundles.job_deleted(body)
    assert KEY in store[0].objects


async def test_a_job_made_anew_under_its_name_does_not_keep_the_old_ones_objects(
    bundles: Bundles, cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store]
) -> None:
    new = job_body(spec={"inputs": {"key": OTHER, "sizeBytes": 1, "sha256": "0" * 64}})
    new["metadata"]["uid"] = "another"
    cluster[0].put(JOBS, new)
    await bundles.job_deleted(job_body())
    assert set(store[0].objects) == {OTHER, "records/1.json"}


async def test_the_sweep_takes_old_objects_without_a_job_and_never_a_record(
    bundles: Bundles, cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store]
) -> None:
    cluster[0].put(JOBS, job_body(phase="Completed"))
    assert await bundles.sweep() == 1
    assert set(store[0].objects) == {KEY, RESULTS, "records/1.json"}


async def test_the_sweep_never_takes_a_fresh_upload(
    bundles: Bundles, store: tuple[FakeS3, Store]
) -> None:
    store[0].modified = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert await bundles.sweep() == 0


async def test_a_store_that_is_down_is_left_to_the_sweep(
    bundles: Bundles, store: tuple[FakeS3, Store]
) -> None:
    store[0].down = True
    await bundles.job_deleted(job_body())
    store[0].down = False
    assert await bundles.sweep() == 3
