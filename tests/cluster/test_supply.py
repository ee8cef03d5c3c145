"""What the images are made of, as their bills of materials tell."""

import json
import re
import subprocess
import tarfile
from typing import Any

import pytest
from packaging.version import Version

from local.images import IMAGES
from local.paths import NODE
from local.toolchain import BIN
from tests.cluster.place import Place
from tests.unit.test_locks import GO_FLOORS, LOCKS, pins

# As the bills name them; what an image of ours may hold.
LICENCES = re.compile(
    r"MIT(-0)?( License)?|BSD(-[23]-Clause| License)|Apache-2\.0|Apache Software License|ISC.*|Unlicense"
    r"|PSF-2\.0|Python Software Foundation License|Mozilla Public License 2\.0 \(MPL 2\.0\)"
)


OURS = {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "SSL_CERT_FILE", "USER"}


def bill(name: str, kind: str) -> list[dict[str, Any]]:
    """Return the parts of an image that are of a kind: pypi, deb or golang."""
    found = json.loads(IMAGES[name].bill.read_text())
    return [part for part in found["components"] if part["purl"].startswith(f"pkg:{kind}/")]


@pytest.mark.parametrize("name", ["operator", "api"])
def test_an_image_holds_the_distributions_of_its_lock_and_no_others(name: str) -> None:
    found = {part["name"]: part["version"] for part in bill(name, "pypi")}
    locked = pins(name)
    assert {k: v for k, v in found.items() if locked.get(k) != v} == {}
    elsewhere = re.findall(
        r"^([a-z0-9_.-]+)==[^\n]*;", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE
    )
    assert set(locked) - set(found) <= set(elsewhere)


@pytest.mark.parametrize("name", ["operator", "api"])
def test_every_distribution_of_an_image_may_be_given_on(name: str) -> None:
    for part in bill(name, "pypi"):
        texts = [
            entry.get("expression") or entry["license"].get("id") or entry["license"]["name"]
            for entry in part["licenses"]
        ]
        words = [word for text in texts for word in re.split(r" AND | OR ", text)]
        assert words, part
        assert all(LICENCES.fullmatch(word) for word in words), (part["name"], words)


@pytest.mark.parametrize("name", ["operator", "api", "agent", "example"])
def test_nothing_of_the_machine_that_built_it_is_in_an_images_environment(name: str) -> None:
    with tarfile.open(IMAGES[name].archive) as archive:

        def read(path: str) -> Any:
            file = archive.extractfile(path)
            assert file
            return json.load(file)

        def blob(descriptor: dict[str, Any]) -> Any:
            return read(f"blobs/{descriptor['digest'].replace(':', '/')}")

        [manifest] = read("index.json")["manifests"]
        environment = blob(blob(manifest)["config"])["config"]["Env"]
    assert {line.partition("=")[0] for line in environment} <= OURS


def test_no_runtime_that_runs_has_a_known_hole(place: Place) -> None:
    """The floors are of what the node tells of itself, not of what a file says alone."""
    info = place.get("node", NODE)["status"]["nodeInfo"]["containerRuntimeVersion"]
    said = subprocess.run([BIN / "runc", "--version"], capture_output=True, text=True, check=True)
    found = {
        "github.com/containerd/containerd/v2": info.removeprefix("containerd://"),
        "github.com/opencontainers/runc": said.stdout.split()[2],
    }
    assert {name: v for name, v in found.items() if Version(v) < Version(GO_FLOORS[name])} == {}


def test_programs_and_systems_are_told_part_by_part() -> None:
    assert {"github.com/minio/minio", "github.com/klauspost/compress"} <= {
        part["name"] for part in bill("minio", "golang")
    }
    for name in ("operator", "api", "agent", "example"):
        assert {"libc6", "python3.11-minimal"} <= {part["name"] for part in bill(name, "deb")}
