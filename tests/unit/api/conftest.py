from collections.abc import AsyncIterator

import pytest

from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from tests.support.fake_kube import FakeKube
from tests.support.fake_s3 import FakeS3
from tests.support.system import System, api_over


@pytest.fixture
def door() -> Door:
    """Return a door at which nobody is asked; modules that are about identity have another."""
    return Door(IdentitySettings())


@pytest.fixture
async def system(
    cluster: tuple[FakeKube, Kube], store: tuple[FakeS3, Store], door: Door
) -> AsyncIterator[System]:
    async with api_over(cluster, store, door) as made:
        yield made
