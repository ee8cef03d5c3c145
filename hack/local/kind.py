"""The same system on kind, where a Docker engine and `kind` are at hand.

Thin, and not run by this project's own CI, whose machines have no Docker engine.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from local.cluster import kubectl
from local.images import DOCKERFILES, IMAGES, context_of
from local.paths import FRONT_PORT, KUBECONFIG, NAMESPACE, RELEASE, STATE
from local.steps import Note, StepFailed
from local.toolchain import BIN

if TYPE_CHECKING:
    from pytest_kind import KindCluster

NAME = "orchestrator"
FORWARD = STATE / "forward.pid"


def _kind() -> "KindCluster":
    # Here, since it loads a Kubernetes client that nobody else needs.
    from pytest_kind import KindCluster

    found = shutil.which("kind")
    if found is None:
        raise StepFailed("kind is missing; install it (0.26 or later), or stop the Docker engine.")
    STATE.mkdir(parents=True, exist_ok=True)
    return KindCluster(
        NAME, kubeconfig=KUBECONFIG, kind_path=Path(found), kubectl_path=BIN / "kubectl"
    )


def start(_: Note) -> None:
    """Create the cluster, unless it is there, and label its node as the example pool wants it."""
    _kind().create()
    kubectl("label", "nodes", "--all", "--overwrite", "orchestrator.dev/pool=cpu")


def build_images(note: Note) -> None:
    """Build every image with Docker, on the base images that the Dockerfiles name."""
    for image in IMAGES.values():
        if image.name == "pause":
            continue  # kind brings its own
        note.show(image.name)
        with context_of(image, note) as context:
            file = DOCKERFILES / f"{image.name}.Dockerfile"
            note.run(["docker", "build", "--tag", image.reference, "--file", file, context])


def load_images(note: Note) -> None:
    """Give the node every image."""
    kind = _kind()
    for image in IMAGES.values():
        if image.name != "pause":
            note.show(image.name)
            kind.load_docker_image(image.reference)


def open_front(_: Note) -> None:
    """Forward the front port to the API, in the background."""
    _close_front()
    forward = subprocess.Popen(
        [BIN / "kubectl", f"--kubeconfig={KUBECONFIG}", f"--namespace={NAMESPACE}", "port-forward",
         f"service/{RELEASE}-api", f"{FRONT_PORT}:5000"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    FORWARD.write_text(str(forward.pid))


def _close_front() -> None:
    try:
        os.kill(int(FORWARD.read_text()), signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return


def stop() -> None:
    """Delete the cluster and what was kept of it."""
    _close_front()
    _kind().delete()
    shutil.rmtree(STATE, ignore_errors=True)
