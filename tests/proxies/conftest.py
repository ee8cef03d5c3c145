from tests.unit.api.conftest import door, pytest_asyncio_loop_factories, system
from tests.unit.conftest import cluster, store

__all__ = ["cluster", "door", "pytest_asyncio_loop_factories", "store", "system"]
