"""The locks: everything that pyproject.toml asks for is pinned, with hashes, in one version."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

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


@pytest.mark.parametrize("name", ["operator", "api", "dev", "go"])
def test_every_pin_has_hashes(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    assert text.count("==") <= text.count("--hash=sha256:")


# The version that mended the last known hole that somebody could use here; None where any version
# would be one too many.
FLOORS = {
    "aiohttp": "3.13.4",  # CVE-2025-69228: limits by field, not in all
    "cryptography": "44.0.1",  # CVE-2024-12797
    "h11": "0.16.0",  # CVE-2025-43859: chunked bodies, smuggling
    "httptools": "0.6.4",
    "jinja2": "3.1.6",  # CVE-2025-27516
    "multipart": "2.0",  # CVE-2026-28356: header options that blow up
    "pyjwt": "2.12.0",  # CVE-2024-53861: issuers compared in part
    "python-multipart": None,  # CVE-2026-24486 and others: a second parser beside ours
    "starlette": "1.0.1",  # CVE-2025-62727 and CVE-2026-48710: ranges, the Host header
    "urllib3": "2.6.3",  # CVE-2025-66471: decompression
}
GO_FLOORS = {
    "github.com/containerd/containerd/v2": "2.3.2",  # CVE-2026-53488: a label that is root
    "github.com/opencontainers/runc": "1.5.0",  # CVE-2025-31133 and two more: ways out
    "golang.org/x/crypto": "0.45.0",
    "golang.org/x/net": "0.45.0",
}


@pytest.mark.parametrize("name", ["operator", "api"])
def test_no_image_has_a_version_with_a_known_hole(name: str) -> None:
    found = {k: v for k, v in pins(name).items() if k in FLOORS}
    assert {"aiohttp", "urllib3"} <= set(found)
    low = {k: v for k, v in found.items() if not FLOORS[k] or Version(v) < Version(FLOORS[k] or "")}
    assert low == {}


# gVisor is not among them: it builds with no other containerd than its authors' (2.1), of which its
# shim has the side that is asked nothing by images. It is for tests alone.
@pytest.mark.parametrize(("module", "least"), [("go", 4), ("minio", 2)])
def test_no_program_of_the_cluster_has_a_version_with_a_known_hole(module: str, least: int) -> None:
    text = (ROOT / f"hack/local/{module}/go.mod").read_text()
    every = dict(re.findall(r"^\s*(?:require )?(\S+) v([0-9][^\s+]*)", text, re.MULTILINE))
    found = {name: version for name, version in every.items() if name in GO_FLOORS}
    assert len(found) == least
    low = {k: found[k] for k in found if Version(found[k]) < Version(GO_FLOORS[k])}
    assert low == {}


@pytest.mark.parametrize("folder", ["gateway", "go", "gvisor", "kwok", "minio", "score"])
def test_every_go_module_is_pinned_with_its_hash(folder: str) -> None:
    text = (ROOT / f"hack/local/{folder}/go.mod").read_text()
    sums = (ROOT / f"hack/local/{folder}/go.sum").read_text()
    replaced = set(re.findall(r"^\s*(?:replace )?(\S+)(?: v\S+)? => ", text, re.MULTILINE))
    wanted = re.findall(r"^\s*(?:require )?([^\s/]+\.[^\s]+) (v[0-9]\S*)", text, re.MULTILINE)
    assert wanted
    assert [pair for pair in wanted if pair[0] not in replaced and " ".join(pair) not in sums] == []
