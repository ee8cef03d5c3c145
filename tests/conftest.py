import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import places
from local.cluster import running
from local.paths import FRONT
from tests.cluster.place import Place

DATA = Path(__file__).parent / "data"


class _Plain(yaml.SafeDumper):
    """YAML without anchors, so that a golden file can be read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-data", action="store_true", help="rewrite the files of tests/data")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Compare a value with a file of tests/data; `pytest --update-data` rewrites it.

    The value for a file called .txt is its lines.
    """

    def compare(name: str, value: Any) -> None:
        path, lines = DATA / name, name.endswith(".txt")
        if request.config.getoption("--update-data"):
            path.parent.mkdir(exist_ok=True)
            text = "".join(f"{line}\n" for line in value) if lines else _dump(value)
            path.write_text(text)
        text = path.read_text()
        assert value == (text.splitlines() if lines else yaml.safe_load(text))

    return compare


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
