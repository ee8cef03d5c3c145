"""What goes in and out beside a job's files: reference data and callbacks."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from standardwebhooks import Webhook

from local.paths import JOBS_NAMESPACE, NAMESPACE, ROOT, STATE
from tests.cluster.inside import served
from tests.cluster.place import Place, until
from tests.cluster.test_job import unzip
from tests.cluster.test_life import service

SINK = """
import http.server, json
seen = set()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(json.dumps([self.path, dict(self.headers), body.decode()]), flush=True)
        # The first try fails.
        self.send_response(500 if self.path == "/flaky" and self.path not in seen else 200)
        seen.add(self.path)
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def test_reference_data_is_there_and_read_only(place: Place) -> None:
    folder = STATE / "reference-data"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    (folder / "sequences").write_text("MKV\n")
    claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Mi"}}}
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "test-refdata"},
        "spec": {
            "accessModes": ["ReadOnlyMany"], "capacity": {"storage": "1Mi"},
            "hostPath": {"path": str(folder)}, "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": JOBS_NAMESPACE, "name": "refdata"},
        },
    }  # fmt: skip
    body = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "refdata"},
        "spec": {**claim, "storageClassName": "", "volumeName": "test-refdata"},
    }  # fmt: skip
    place.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all([volume, body]))
    try:
        service(place, "with-data", data=["refdata"])
        number = place.upload(
            "cat /data/refdata/sequences > found; touch /data/refdata/x 2>/dev/null || echo no > written",
            service="with-data",
        )
        assert place.wait(number) == "Completed"
        found = unzip(place.poll(number).content)
        assert (found["found"], found["written"]) == (b"MKV\n", b"no\n")
        assert not (folder / "x").exists()
    finally:
        place.kubectl("delete", "pvc/refdata", "--wait=false")
        place.kubectl("delete", "pv/test-refdata", "--wait=false")


@pytest.fixture
def sink(place: Place) -> Any:
    """Serve a portal's callback inside the cluster; gives a function that tells what it got."""
    where = f"--namespace={NAMESPACE}"
    with served(place, "callback-sink", SINK):
        yield lambda: [
            json.loads(line) for line in place.kubectl("logs", where, "callback-sink").splitlines()
        ]


def test_the_end_of_a_job_is_told_signed_and_the_delivery_is_in_its_status(
    place: Place, sink: Any
) -> None:
    url = "http://callback-sink.orchestrator.svc:8080/ended"
    service(place, "tells", callbackURL=url)
    number = place.upload("exit 3", service="tells")
    assert place.wait(number) == "Failed"
    until(
        lambda: place.job(number)["status"]["callback"]["state"] == "Delivered", "it is delivered"
    )
    [[path, headers, body]] = sink()
    assert path == "/ended"
    secret = place.get("secret", "callbacks", NAMESPACE)["data"]["signingKey"]
    key = base64.b64encode(base64.b64decode(secret)).decode()
    lower = {name.lower(): value for name, value in headers.items()}
    data = Webhook(f"whsec_{key}").verify(body, lower)["data"]
    assert (data["id"], data["status"], data["exitCode"]) == (number, "Failed", 3)


@pytest.mark.timeout(200)
def test_a_delivery_that_fails_is_taken_up_by_the_next_operator(place: Place, sink: Any) -> None:
    service(place, "tells", callbackURL="http://callback-sink.orchestrator.svc:8080/flaky")
    number = place.upload("true", service="tells")
    assert place.wait(number) == "Completed"
    until(sink, "it was tried")
    place.kill("operator")
    until(
        lambda: place.job(number)["status"]["callback"]["state"] == "Delivered", "it is delivered"
    )
    assert place.job(number)["status"]["callback"]["attempts"] >= 2
    paths = [path for path, _, _ in sink()]
    assert paths[:2] == ["/flaky", "/flaky"]


def test_a_callback_elsewhere_is_refused(place: Place) -> None:
    service(place, "tells", callbackURL="http://kubernetes.default.svc/")
    number = place.upload("true", service="tells")
    assert place.wait(number) == "Completed"
    until(lambda: place.job(number)["status"]["callback"]["state"] == "Refused", "it is refused")


def test_what_migrate_prints_is_taken_by_kubernetes(place: Place, tmp_path: Path) -> None:
    env = tmp_path / "old.env"
    env.write_text("SERVICE_DOCKING_RUNS_PER_USER=3\nSERVICE_DISVIS_MAX_RUNS=7\nMAX_AGE=172800\n")
    printed = subprocess.run(
        [str(ROOT / "hack/migrate"), str(env)], capture_output=True, text=True, check=True
    ).stdout
    taken = place.kubectl("apply", "--dry-run=server", "--filename=-", stdin=printed)
    assert {line.split()[0] for line in taken.splitlines()} == {
        f"orchestrator{kind}.orchestrator.dev/{name}"
        for kind in ("service", "quota") for name in ("docking", "disvis")
    }  # fmt: skip
