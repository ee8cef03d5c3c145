from collections.abc import AsyncIterator

import pytest

from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from tests.support.fake_kube import FakeKube, fake_kube
from tests.support.fake_s3 import FakeS3, fake_s3


@pytest.fixture
async def cluster() -> AsyncIterator[tuple[FakeKube, Kube]]:
    async with fake_kube() as pair:
        yield pair


@pytest.fixture
async def store() -> AsyncIterator[tuple[FakeS3, Store]]:
    async with fake_s3() as pair:
        yield pair
