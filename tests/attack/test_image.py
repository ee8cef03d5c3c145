"""A service whose image is against us: what it says about itself counts for nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.attack import image
from tests.attack.stranger import NAMESPACE, Stranger
from tests.attack.test_network import ROOMY
from tests.attack.test_probe import PROBE
from tests.cluster.place import Place
from tests.cluster.test_job import unzip
from tests.cluster.test_life import service

GOLDEN = Path(__file__).parent.parent / "data/probe.yaml"
SCRIPT = """
/bin/rooted > rooted; /bin/capable > capable
pwd > folder; env > environment; tr '\\0' '\\n' < /proc/1/cmdline | head -1 > first
head -c 20000000 /dev/zero > /volume/filled && echo yes > filled
exec python3 probe.py > table
"""
NOBODY = {"user": 65532, "group": 65532, "raw socket": False}
# What differs, since it is so in the image: programs that would become root where they may.
DIFFERS = {("writable", "setuid programs")}


@pytest.fixture
def hostile(place: Place, tmp_path: Path) -> Iterator[str]:
    """Give a service of that image."""
    assert place.local, "only the local cluster's node can be given an image without a registry"
    image.load(tmp_path)
    try:
        yield service(place, "hostile", image=image.REFERENCE, resources=ROOMY)
    finally:
        place.forget()
        image.unload()


def test_an_image_gives_a_job_no_rights(place: Place, hostile: str) -> None:
    number = place.upload(SCRIPT, {"probe.py": PROBE.encode()}, service=hostile)
    assert place.wait(number) == "Completed", place.poll(number).text
    files = unzip(place.poll(number).content)
    assert json.loads(files["rooted"]) == NOBODY
    # A file that would bring capabilities which nobody here may have does not even start.
    assert files["capable"] == b""
    found, expected = json.loads(files["table"]), yaml.safe_load(GOLDEN.read_text())
    differs = {
        (part, row) for part, rows in expected.items() for row in rows if found[part][row] != rows[row]
    }  # fmt: skip
    assert differs <= DIFFERS, {where: found[where[0]][where[1]] for where in differs}
    assert files["folder"] == b"/work\n"
    assert files["first"] == b"sh\n"
    environment = dict(line.split("=", 1) for line in files["environment"].decode().splitlines())
    assert environment["HOME"] == "/work"
    assert environment["ORCHESTRATOR_PROGRESS"] == "/job/progress"
    # Its own variables are its own affair.
    assert environment["IMAGE"] == "hostile"
    # A folder that the image has writable is none here, or nothing would bound what it holds.
    assert "filled" not in files


def test_the_same_image_does_where_nothing_guards(
    place: Place, stranger: Stranger, hostile: str
) -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hostile"},
        "spec": {
            "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
            "containers": [{"name": "main", "image": image.REFERENCE, "imagePullPolicy": "Never",
                            "command": ["sleep", "600"]}],
        },
    }  # fmt: skip
    where = f"--namespace={NAMESPACE}"
    place.kubectl("create", where, "--filename=-", stdin=json.dumps(pod))
    try:
        place.kubectl("wait", where, "pod/hostile", "--for=condition=Ready", "--timeout=60s")

        def said(*words: str) -> Any:
            return json.loads(place.kubectl("exec", where, "hostile", "--", *words))

        assert said("/bin/rooted") == {"user": 0, "group": 0, "raw socket": True}
        nobody = ("su", "-s", "/bin/sh", "nobody", "-c")
        assert said(*nobody, "/bin/rooted")["user"] == 0
        assert said(*nobody, "/bin/capable") == {"user": 65534, "group": 0, "raw socket": True}
    finally:
        place.kubectl("delete", where, "pod/hostile", "--wait=false")
