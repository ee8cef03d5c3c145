"""Installing the chart, on whichever cluster was chosen."""

import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from local.cluster import kubectl
from local.images import IMAGES
from local.paths import (
    CHART,
    EXAMPLES,
    FRONT,
    JOBS_NAMESPACE,
    NAMESPACE,
    RELEASE,
)
from local.places import Place, chosen, kubeconfig, values_file
from local.steps import Note, StepFailed
from local.toolchain import BIN

# Name of the Secret with what callbacks are signed with.
CALLBACK_SECRET = "callbacks"  # noqa: S105


def _image_values() -> list[str]:
    """Return the option that names our images, but for a cluster whose values file names them."""
    if chosen() is Place.EXISTING:
        return []
    images = {
        name: {"repository": IMAGES[name].reference.rpartition(":")[0], "tag": IMAGES[name].tag}
        for name in ("api", "operator", "agent", "minio")
    }
    return [f"--set-json=images={json.dumps(images)}"]


def _prepare() -> None:
    """Make what the chart expects to find: its namespace, and a key for callbacks."""
    labels = {f"pod-security.kubernetes.io/{m}": "restricted" for m in ("enforce", "warn")}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": labels},
    }
    kubectl("apply", "--filename=-", stdin=json.dumps(namespace))
    _make_secret(CALLBACK_SECRET, {"signingKey": secrets.token_hex(20)})


def _make_secret(name: str, values: dict[str, str]) -> None:
    """Make a Secret unless there is one of this name."""
    where = f"--namespace={NAMESPACE}"
    if not kubectl("get", "secret", name, where, "--ignore-not-found"):
        literals = [f"--from-literal={key}={value}" for key, value in values.items()]
        kubectl("create", "secret", "generic", name, where, *literals)


def install(note: Note) -> None:
    """Install or upgrade the release and wait until every deployment is available."""
    if chosen() is not Place.EXISTING:
        _prepare()
    note.run(
        [
            BIN / "helm",
            f"--kubeconfig={kubeconfig()}",
            "upgrade",
            "--install",
            RELEASE,
            CHART,
            f"--namespace={NAMESPACE}",
            "--create-namespace",
            f"--values={values_file()}",
            *_image_values(),
            "--wait",
            "--timeout=180s",
        ],
        hint=f"`hack/kubectl -n {NAMESPACE} get pods` and `... describe pods` show what is wrong.",
    )


def apply_examples(note: Note) -> None:
    """Create the example pool, quota and services, and wait until the operator calls them ready."""
    image = os.environ.get("ORCHESTRATOR_EXAMPLE_IMAGE") or IMAGES["example"].reference
    note.show("services, quota, pool")
    for file in sorted(EXAMPLES.glob("*.yaml")):
        text = file.read_text().replace("localhost/orchestrator/example:latest", image)
        kubectl("apply", f"--namespace={JOBS_NAMESPACE}", "--filename=-", stdin=text)
    kubectl(
        "wait",
        f"--namespace={JOBS_NAMESPACE}",
        "--for=condition=Ready",
        "--timeout=60s",
        "--all",
        "orchestratorservices,orchestratorquotas,orchestratornodepools",
    )


def wait_for_front(note: Note) -> None:
    """Wait until the API answers at the front door."""
    deadline = time.monotonic() + 60
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{FRONT}/health", timeout=2) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as error:
            last = str(error)
        note.show(last)
        time.sleep(0.1)
    raise StepFailed(f"{FRONT}/health did not answer within 60 s: {last}.")


def command(program: str, words: list[str]) -> int:
    """Run kubectl or helm with the right kubeconfig; returns its exit code."""
    path: Path = BIN / program
    if not path.exists() or not kubeconfig().exists():
        raise StepFailed("No local cluster is up; hack/up starts one.")
    return subprocess.run([path, f"--kubeconfig={kubeconfig()}", *words], check=False).returncode
