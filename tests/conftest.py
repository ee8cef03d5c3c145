from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

DATA = Path(__file__).parent / "data"


class _Plain(yaml.SafeDumper):
    """YAML without anchors, so that a golden file can be read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-data", action="store_true", help="rewrite the files of tests/data")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Compare a value with a file of tests/data; `pytest --update-data` rewrites it."""

    def compare(name: str, value: Any) -> None:
        path = DATA / name
        if request.config.getoption("--update-data"):
            path.write_text(yaml.dump(value, Dumper=_Plain, sort_keys=False))
        assert value == yaml.safe_load(path.read_text())

    return compare
