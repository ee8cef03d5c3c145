"""Where the system is brought up: a cluster that exists, kind, or this machine's own."""

import functools
import os
import shutil
import subprocess
from enum import StrEnum
from pathlib import Path

from local.paths import KUBECONFIG, LOCAL_VALUES, ROOT
from local.steps import StepFailed


class Place(StrEnum):
    """Which kind of cluster is used."""

    EXISTING = "existing"
    KIND = "kind"
    LOCAL = "local"


@functools.cache
def chosen() -> Place:
    """Choose: an existing cluster only when told so, kind where Docker answers, else our own."""
    if os.environ.get("ORCHESTRATOR_EXISTING_CLUSTER") == "1":
        return Place.EXISTING
    if shutil.which("docker") and shutil.which("kind"):
        answer = subprocess.run(["docker", "info"], capture_output=True, check=False)
        if answer.returncode == 0:
            return Place.KIND
    return Place.LOCAL


def kubeconfig() -> Path:
    """Return the kubeconfig of the chosen place."""
    if chosen() is not Place.EXISTING:
        return KUBECONFIG
    named = os.environ.get("KUBECONFIG", "")
    if not named:
        raise StepFailed("ORCHESTRATOR_EXISTING_CLUSTER=1 needs KUBECONFIG, to know which one.")
    return Path(named)


def values_file() -> Path:
    """Return the chart values of the chosen place."""
    if chosen() is Place.LOCAL:
        return LOCAL_VALUES
    if chosen() is Place.KIND:
        return ROOT / "hack/local/values-kind.yaml"
    named = os.environ.get("ORCHESTRATOR_VALUES", "")
    if not named:
        raise StepFailed(
            "ORCHESTRATOR_EXISTING_CLUSTER=1 needs ORCHESTRATOR_VALUES, a file of chart values: "
            "the images that `hack/images push REGISTRY` prints, and the object store."
        )
    return Path(named)
