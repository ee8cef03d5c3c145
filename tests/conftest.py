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
