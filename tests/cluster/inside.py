"""A server of a test's own inside the cluster, for what our system calls."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from local.images import IMAGES
from local.paths import NAMESPACE
from tests.cluster.place import Place

PORT = 8080


@contextmanager
def served(place: Place, name: str, program: str) -> Iterator[str]:
    """Run a Python program, which serves on PORT, while the block runs; gives its URL."""
    hardened = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
        "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "server", "image": IMAGES["agent"].reference, "imagePullPolicy": "Never",
            "command": ["python3", "-c", program], "securityContext": hardened,
        }]},
    }  # fmt: skip
    front = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": PORT}]},
    }  # fmt: skip
    where = f"--namespace={NAMESPACE}"
    place.kubectl("apply", where, "--filename=-", stdin=yaml.safe_dump_all([pod, front]))
    try:
        place.kubectl("wait", where, f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        # Its Service's address must have reached the node.
        time.sleep(2)
        yield f"http://{name}.{NAMESPACE}.svc:{PORT}"
    finally:
        place.kubectl("delete", where, "--ignore-not-found", f"pod/{name}", f"service/{name}")
