"""The local cluster's life: start, wait until it is ready, load images, stop."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from local import pki
from local.components import system_objects
from local.images import IMAGES
from local.keeper import remove_cgroups, remove_link
from local.paths import (
    CONTAINERD_SOCKET,
    KUBECONFIG,
    NODE,
    PIDFILE,
    REPORT,
    ROOT,
    STATE,
    VOLUME,
    VOLUME_UID,
)
from local.places import kubeconfig
from local.steps import Note, StepFailed, tail
from local.toolchain import BIN

READY_SECONDS = 120
MOST_STARTS = 5
# Folders that PID 1 of the cluster covers with its own; the cache must not be inside one.
COVERED = ("/run", "/var/lib", "/var/log")


def kubectl(*words: str, check: bool = True, stdin: str | None = None) -> str:
    """Run kubectl as the cluster's administrator and return what it printed."""
    done = subprocess.run(
        [str(BIN / "kubectl"), f"--kubeconfig={kubeconfig()}", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise StepFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def running() -> bool:
    """Return whether the keeper of a local cluster is alive."""
    return _keeper() is not None


def _keeper() -> int | None:
    try:
        pid = int(PIDFILE.read_text().split()[0])
        alive = b"local.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if alive else None


def start(note: Note) -> None:
    """Start the cluster, unless it runs, and wait for a Ready node."""
    if not running():
        _check_host()
        stop()
        STATE.mkdir(parents=True)
        (STATE / "logs").mkdir()
        VOLUME.mkdir()
        os.chown(VOLUME, VOLUME_UID, VOLUME_UID)
        pki.create()
        shutil.copy(pki.FOLDER / "admin.kubeconfig", KUBECONFIG)
        KUBECONFIG.chmod(0o600)
        with (STATE / "logs/keeper.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "local.keeper", IMAGES["pause"].reference],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(ROOT / "hack")},
            )
    _wait(note)
    kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(system_objects()))


def _check_host() -> None:
    if os.geteuid() != 0:
        raise StepFailed(
            "The local cluster needs root, for namespaces and container mounts. Run this as root, "
            "or use a cluster that you have (README, 'Other clusters')."
        )
    if any(STATE.is_relative_to(folder) for folder in COVERED):
        raise StepFailed(
            f"The cache, {STATE.parent}, lies in a folder that the cluster covers with its own. "
            "Set XDG_CACHE_HOME to another folder."
        )


def _wait(note: Note) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = "the first process"
    while time.monotonic() < deadline:
        if not running() and time.monotonic() > deadline - READY_SECONDS + 2:
            raise StepFailed(f"The cluster's keeper ended.\n{tail(STATE / 'logs/keeper.log')}")
        waiting = _not_ready()
        if not waiting:
            return
        note.show(f"waiting for {waiting}")
        time.sleep(0.1)
    raise StepFailed(
        f"After {READY_SECONDS} s still waiting for {waiting}.\n"
        f"{tail(STATE / f'logs/{waiting}.log')}\nAll logs of the cluster: {STATE / 'logs'}"
    )


def _not_ready() -> str:
    """Return the name of something that is not ready yet, or an empty text."""
    try:
        report = json.loads(REPORT.read_text())
    except FileNotFoundError:
        return "node"
    for name, state in report.items():
        if not state["ready"]:
            if state["starts"] > MOST_STARTS:
                raise StepFailed(
                    f"{name} ended {state['starts'] - 1} times, last with {state['lastExit']}.\n"
                    f"{tail(STATE / f'logs/{name}.log')}"
                )
            return str(name)
    ready = kubectl(
        "get",
        "node",
        NODE,
        "--ignore-not-found",
        "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        check=False,
    )
    account = kubectl(
        "get", "serviceaccount", "default", "--ignore-not-found", "--output=name", check=False
    )
    return "" if ready == "True" and account else "kubelet"


def load_images(note: Note) -> None:
    """Give the node every image that it does not have."""
    ctr = [str(BIN / "ctr"), f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images"]
    present = subprocess.run([*ctr, "list", "--quiet"], capture_output=True, text=True, check=True)
    for image in IMAGES.values():
        if image.reference not in present.stdout.split():
            note.show(image.name)
            note.run([*ctr, "import", image.archive])


def stop() -> None:
    """End the cluster and remove all that it kept; does nothing when there is none."""
    keeper = _keeper()
    if keeper is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while _keeper() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if _keeper() is not None:
            os.kill(keeper, signal.SIGKILL)
    remove_link()
    remove_cgroups()
    if STATE.exists():
        shutil.rmtree(STATE)
