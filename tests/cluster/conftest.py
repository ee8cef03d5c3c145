import os
from collections.abc import Iterator

import pytest

from local import places
from local.cluster import running
from local.paths import FRONT
from tests.cluster.place import Place


@pytest.fixture(scope="session")
def chosen() -> Place:
    """Return the cluster that `hack/up` chooses as well."""
    place = places.chosen()
    if place is not places.Place.LOCAL:
        front = os.environ.get("ORCHESTRATOR_TEST_FRONT", FRONT)
        return Place(front=front, kubeconfig=places.kubeconfig(), local=False)
    if not running():
        pytest.fail("No cluster is up: run hack/up, or hack/test, which does.", pytrace=False)
    return Place()


@pytest.fixture
def place(chosen: Place) -> Iterator[Place]:
    """Give a test the cluster, and take away what it made there."""
    yield chosen
    chosen.forget()
