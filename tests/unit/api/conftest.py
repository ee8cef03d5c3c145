import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_wire.kube import Kube
from orchestrator_wire.s3 import Store
from tests.support.fake_kube import FakeKube
from tests.support.fake_s3 import FakeS3
from tests.support.system import System, api_over


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Have the API run on the loop that it has in production."""
    return {"uvloop": uvloop.new_event_loop}


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
