import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.cluster import running
from tests.cluster.place import Place


@pytest.fixture(scope="session")
def chosen() -> Place:
    """Return the cluster: an existing one only when told so, else the local one."""
    if os.environ.get("ORCHESTRATOR_TEST_EXISTING") == "1":
        front = os.environ["ORCHESTRATOR_TEST_FRONT"]
        return Place(front=front, kubeconfig=Path(os.environ["KUBECONFIG"]), local=False)
    if not running():
        pytest.fail("No cluster is up: run hack/up, or hack/test, which does.", pytrace=False)
    return Place()


@pytest.fixture
def place(chosen: Place) -> Iterator[Place]:
    """Give a test the cluster, and take away what it made there."""
    yield chosen
    chosen.forget()
