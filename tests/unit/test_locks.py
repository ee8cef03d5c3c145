"""The locks: everything that pyproject.toml asks for is pinned, with hashes, in one version."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "hack/locks"


def pins(name: str) -> dict[str, str]:
    text = (LOCKS / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE))


def asked() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    groups: dict[str, list[str]] = project["dependency-groups"]
    return extras | {"dev": [*groups["dev"], *groups["hack"]]}


@pytest.mark.parametrize("name", ["operator", "api", "dev"])
def test_every_dependency_is_pinned(name: str) -> None:
    wanted = {re.split(r"[\[<>=]", line)[0] for line in asked()[name]}
    assert wanted <= set(pins(name)), "run hack/lock"


@pytest.mark.parametrize("name", ["operator", "api"])
def test_images_run_the_versions_that_are_tested(name: str) -> None:
    tested = pins("dev")
    assert {k: v for k, v in pins(name).items() if tested.get(k) != v} == {}


@pytest.mark.parametrize("name", ["operator", "api", "dev"])
def test_every_pin_has_hashes(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    assert text.count("==") <= text.count("--hash=sha256:")
