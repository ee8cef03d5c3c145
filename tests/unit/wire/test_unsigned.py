"""The self-test for stores that take what nobody signed."""

import pytest

from orchestrator_wire import errors
from orchestrator_wire.s3 import Store
from orchestrator_wire.unsigned import takes_unsigned_writes
from tests.support.fake_s3 import FakeS3

Pair = tuple[FakeS3, Store]


async def test_a_store_that_takes_what_nobody_signed_is_told_apart(store: Pair) -> None:
    state, s3 = store
    assert await takes_unsigned_writes(s3)
    assert state.objects == {}
    state.strict = True
    assert not await takes_unsigned_writes(s3)


async def test_a_store_that_is_away_says_nothing(store: Pair) -> None:
    state, s3 = store
    state.down = True
    with pytest.raises(errors.StoreDown) as found:
        await takes_unsigned_writes(s3)
    assert not isinstance(found.value, errors.Refused)
    state.down, state.status = False, 501
    with pytest.raises(errors.Refused):
        await takes_unsigned_writes(s3)
