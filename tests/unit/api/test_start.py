"""What the API tries with the object store when it starts."""

import asyncio

import pytest

from orchestrator_api import __main__ as start
from tests.support.fake_s3 import fake_s3


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_store_that_is_away_is_waited_for(status: int) -> None:
    async with fake_s3() as (state, s3):
        state.status, warnings = status, list[str]()
        preparing = asyncio.create_task(start._prepare(s3, warnings))
        await asyncio.sleep(0.2)
        assert not preparing.done()
        state.status, state.strict = 0, True
        await preparing
        assert (warnings, state.objects) == ([], {})


@pytest.mark.parametrize("status", [500, 501])
async def test_the_unsigned_write_is_not_repeated_for_a_store_that_answers(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with fake_s3() as (state, s3):
        state.strict, state.unsigned_status, warnings = True, status, list[str]()
        await asyncio.wait_for(start._prepare(s3, warnings), 10)
        assert sum(not signed for *_, signed in state.asked) == 1
        assert f"could not be tried, and is not tried again: the object store answers {status}" in (
            caplog.text
        )


async def test_a_store_that_cannot_encrypt_is_told_of_in_a_sentence() -> None:
    async with fake_s3(encryption="AES256") as (state, s3):
        state.no_kms, warnings = True, list[str]()
        await asyncio.wait_for(start._prepare(s3, warnings), 10)
        assert warnings == [start.REFUSES]
        assert start.REFUSES.isascii()
        assert not set(start.REFUSES) & set('"\n\\')
        assert state.objects == {}


async def test_a_store_that_takes_everything_is_warned_of_once() -> None:
    async with fake_s3() as (_, s3):
        warnings = list[str]()
        await start._prepare(s3, warnings)
        assert warnings == [start.UNSIGNED]
