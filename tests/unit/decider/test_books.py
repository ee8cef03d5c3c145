"""What users ran lately outlives the operator."""

from typing import Any

import pytest

from orchestrator_crds.meta import seconds_of
from orchestrator_crds.resources import ComputeResources
from orchestrator_operator.admit import Admission
from orchestrator_operator.books import Books
from orchestrator_operator.bundles import Bundles
from orchestrator_operator.core import facts
from orchestrator_operator.core.snapshot import Held
from orchestrator_operator.mirror import Mirror
from orchestrator_wire.s3 import Store
from tests.support.builders import job_body, node_body, pool_body, quota_body, service_body
from tests.support.fake_s3 import FakeS3

KEY = ("example", "a")
MOMENT = "2026-11-25T10:00:00Z"
HOLDING = {"uid": Held("example", "a", facts.demand_of(ComputeResources()))}


def an_admission() -> Admission:
    mirror = Mirror()
    mirror.see("nodes", node_body())
    mirror.see("orchestratornodepools", pool_body())
    mirror.see("orchestratorservices", service_body())
    share: Any = {"fairShare": {"halfLifeSeconds": 100}}
    mirror.see("orchestratorquotas", quota_body(status={"inForce": share}, **share))
    admission = Admission(mirror)
    admission.refresh()
    return admission


async def test_a_first_pass_books_nothing_from_before_it() -> None:
    admission = an_admission()
    admission.snapshot(HOLDING, (), 1.0e9)
    assert not admission.ledger.means
    admission.snapshot(HOLDING, (), 1.0e9 + 100)
    assert admission.ledger.means[KEY] == pytest.approx(0.5)


async def test_what_was_booked_is_there_after_a_restart(store: tuple[FakeS3, Store]) -> None:
    _, s3 = store
    first = an_admission()
    first.snapshot(HOLDING, (), 1.0e9)
    first.snapshot(HOLDING, (), 1.0e9 + 100)
    await Books(Bundles(s3), first).write()
    second = an_admission()
    second.snapshot({}, (), 1.0e9 + 200)
    assert await Books(Bundles(s3), second).read()
    assert second.ledger.means[KEY] == pytest.approx(0.25)


@pytest.mark.parametrize("junk", [b"{", b"[]", b'{"at": "x"}', b'{"at": 1, "means": [["a"]]}'])
async def test_damaged_books_begin_anew(store: tuple[FakeS3, Store], junk: bytes) -> None:
    _, s3 = store
    await s3.put("operator/books.json", junk)
    admission = an_admission()
    assert await Books(Bundles(s3), admission).read()
    assert not admission.ledger.means


async def test_a_store_that_is_away_is_asked_again_and_not_written_over(
    store: tuple[FakeS3, Store],
) -> None:
    state, s3 = store
    await s3.put("operator/books.json", b"{}")
    before = dict(state.objects)
    admission = an_admission()
    books = Books(Bundles(s3), admission)
    await books.write()  # nothing was booked, so nothing is written
    assert state.objects == before


async def test_damaged_durations_cost_only_themselves(store: tuple[FakeS3, Store]) -> None:
    _, s3 = store
    books = (
        b'{"at": 1e9, "means": [["example", "a", 0.5]], "served": [], "durations": {"x": [null]}}'
    )
    await s3.put("operator/books.json", books)
    admission = an_admission()
    assert await Books(Bundles(s3), admission).read()
    assert admission.ledger.means == {KEY: 0.5}
    assert not admission.durations.known


async def test_how_long_jobs_take_is_learned_and_kept(store: tuple[FakeS3, Store]) -> None:
    _, s3 = store
    first = an_admission()
    claimed = job_body(
        phase="Running", attempt=1, claim={"epoch": 1, "pool": "cpu"}, submittedAt=MOMENT
    )
    first._mirror.see("orchestratorjobs", claimed)
    begun = seconds_of(MOMENT)
    first.snapshot({}, (), begun + 30)
    first._mirror.lose("orchestratorjobs", claimed)
    first.snapshot({}, (), begun + 40)
    assert first.durations.to_dict() == {"example": [40.0]}
    await Books(Bundles(s3), first).write()
    second = an_admission()
    assert await Books(Bundles(s3), second).read()
    assert second.durations.to_dict() == {"example": [40.0]}


async def test_an_attempt_that_is_tried_again_says_nothing_of_how_long_jobs_take() -> None:
    admission = an_admission()
    status: Any = {"phase": "Running", "attempt": 1, "claim": {"epoch": 1, "pool": "cpu"}}
    admission._mirror.see("orchestratorjobs", job_body(**status, submittedAt=MOMENT))
    admission.snapshot({}, (), seconds_of(MOMENT) + 30)
    admission._mirror.see("orchestratorjobs", job_body(version="2", attempt=1))
    admission.snapshot({}, (), seconds_of(MOMENT) + 40)
    assert not admission.durations.known
