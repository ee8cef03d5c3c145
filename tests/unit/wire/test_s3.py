"""Objects in and out, against an S3 at the wire."""

import asyncio
import hashlib
import os

import pytest

from orchestrator_wire import errors
from orchestrator_wire.s3 import Store
from orchestrator_wire.uploads import PART_BYTES, SMALL_BYTES, SMALL_PIECE_BYTES
from tests.support.fake_s3 import FakeS3

Pair = tuple[FakeS3, Store]
KEY = "jobs/a/inputs.zip"


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
async def test_what_is_written_is_what_is_read(store: Pair, size: int) -> None:
    state, s3 = store
    data = bytes(i % 251 for i in range(size))
    async with s3.upload(KEY) as upload:
        for start in range(0, size, 1 << 20):
            await upload.write(data[start : start + (1 << 20)])
        stored = await upload.finish()
    assert state.objects == {KEY: data}
    assert stored.size_bytes == size
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert await s3.stat(KEY) == (size, stored.etag)
    _, pieces = await s3.read(KEY, etag=stored.etag)
    assert b"".join([piece async for piece in pieces]) == data
    assert state.largest_body <= PART_BYTES


async def test_pieces_of_any_size_are_what_is_read(store: Pair) -> None:
    state, s3 = store
    sizes = [1, 5, SMALL_PIECE_BYTES - 1, SMALL_PIECE_BYTES, 300_001, 7, 70_000, 2 * PART_BYTES + 3]
    data = os.urandom(2 * sum(sizes))
    async with s3.upload(KEY) as upload:
        at = 0
        for size in sizes * 2:
            await upload.write(data[at : at + size])
            at += size
        await upload.finish()
    assert state.objects == {KEY: data}
    await s3.put(KEY, data)
    assert state.objects == {KEY: data}


@pytest.mark.parametrize(("least", "most"), [(SMALL_PIECE_BYTES, 10), (0, 300_000)])
async def test_small_pieces_are_kept_as_few(
    store: Pair, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs fifty bytes beside its own: a part of five megabytes took three hundred."""
    monkeypatch.setattr("orchestrator_wire.uploads.SMALL_PIECE_BYTES", least)
    async with store[1].upload(KEY) as upload:
        for _ in range(300_000):
            await upload.write(b"x")
        assert most / 3 < len(upload._part) <= most
        assert (await upload.finish()).size_bytes == 300_000


@pytest.mark.parametrize("size", [10, 2 * PART_BYTES])
async def test_a_failed_upload_leaves_nothing(store: Pair, size: int) -> None:
    state, s3 = store
    with pytest.raises(RuntimeError, match="client went away"):
        async with s3.upload(KEY) as upload:
            await upload.write(bytes(size))
            raise RuntimeError("client went away")
    assert not state.objects
    assert not state.uploads


async def test_a_completion_whose_answer_was_lost_is_a_completion(store: Pair) -> None:
    state, s3 = store
    state.lose_completion = True
    async with s3.upload(KEY) as upload:
        await upload.write(bytes(PART_BYTES + 1))
        stored = await upload.finish()
    assert await s3.stat(KEY) == (PART_BYTES + 1, stored.etag)


async def test_a_store_that_is_down_is_an_error_of_its_own(store: Pair) -> None:
    state, s3 = store
    state.down = True
    for call in (s3.check(), s3.stat(KEY), s3.delete(KEY), s3.read(KEY), s3.keys("jobs/")):
        with pytest.raises(errors.StoreDown):
            await call


async def test_a_missing_or_replaced_object_is_no_such_object(store: Pair) -> None:
    state, s3 = store
    with pytest.raises(errors.NoSuchObject):
        await s3.stat(KEY)
    state.objects[KEY] = b"other"
    with pytest.raises(errors.NoSuchObject):
        await s3.read(KEY, etag="0" * 32)


async def test_an_answer_that_breaks_off_is_an_error_never_a_short_success(store: Pair) -> None:
    state, s3 = store
    state.objects[KEY], state.cut_after = b"x" * 100_000, 1000
    _, pieces = await s3.read(KEY)
    with pytest.raises(errors.StoreDown):
        [piece async for piece in pieces]


async def test_keys_are_listed_with_their_age(store: Pair) -> None:
    state, s3 = store
    state.objects |= {KEY: b"x", "records/1.json": b"y"}
    assert [key for key, _ in await s3.keys("jobs/")] == [KEY]


async def test_large_uploads_wait_for_a_place_and_small_ones_do_not(store: Pair) -> None:
    _, s3 = store
    places = asyncio.Semaphore(3)
    large = [s3.upload(f"jobs/{n}/inputs.zip", places) for n in range(4)]
    for upload in large[:-1]:
        await upload.__aenter__()
        await upload.write(bytes(SMALL_BYTES + 1))
    async with s3.upload(KEY, places) as small:
        await small.write(bytes(SMALL_BYTES))
        await small.finish()
    waiting = asyncio.create_task(large[-1].write(bytes(SMALL_BYTES + 1)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await large[0].__aexit__(None)
    await waiting
    for upload in large[1:]:
        await upload.__aexit__(RuntimeError)


async def test_a_replaced_object_is_told_from_a_missing_one(store: Pair) -> None:
    state, s3 = store
    state.objects[KEY] = b"other"
    with pytest.raises(errors.Replaced):
        await s3.read(KEY, etag="0" * 32)


async def test_many_objects_are_listed_a_page_at_a_time(store: Pair) -> None:
    state, s3 = store
    state.objects |= {f"jobs/{n}/x": b"" for n in range(2500)}
    assert [len(page) async for page in s3.pages("jobs/")] == [1000, 1000, 500]
