"""A pod without any of the guards of a job, in a namespace without rules: the counter-proof.

Each attack is made from here, too, and must succeed: one that fails everywhere proves nothing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.place import Place, until

NAMESPACE, POD, PORT = "attack", "stranger", 7777
# Says over TCP and UDP that it is there.
LISTENER = f"""
import socket, socketserver, threading
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if isinstance(self.request, tuple):
            self.request[1].sendto(b"here", self.client_address)
class Datagrams(socketserver.UDPServer):
    address_family = socket.AF_INET6
class Connections(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
threading.Thread(target=Datagrams(("::", {PORT}), Handler).serve_forever).start()
Connections(("::", {PORT}), Handler).serve_forever()
"""
# What the probe takes for the agent.
NEIGHBOUR = ["python3", "-c", LISTENER, "orchestrator_agent"]


@dataclass
class Stranger:
    """A pod with all rights, and how to run Python in it."""

    place: Place
    address: str

    def run(self, program: str, *words: str) -> Any:
        """Run a program in the pod; returns what it prints, read as JSON."""
        return json.loads(in_pod(self.place, POD, NAMESPACE, program, *words))


def in_pod(place: Place, pod: str, namespace: str, program: str, *words: str) -> str:
    """Run a Python program in a pod's container `main`; returns what it prints."""
    return place.kubectl(
        "exec", "--stdin", pod, f"--namespace={namespace}", "--container=main", "--",
        "python3", "-", *words, stdin=program,
    )  # fmt: skip


@contextmanager
def unguarded(place: Place, policy: str, namespace: str) -> Iterator[None]:
    """Take a network policy away while the block runs."""
    found = place.get("networkpolicy", policy, namespace)
    kept = {k: found["metadata"][k] for k in ("name", "namespace", "labels", "annotations")}
    place.kubectl("delete", "networkpolicy", policy, f"--namespace={namespace}")
    try:
        yield
    finally:
        body = {**found, "metadata": kept}
        body.pop("status", None)
        place.kubectl("create", "--filename=-", f"--namespace={namespace}", stdin=json.dumps(body))


def _pod(image: str) -> dict[str, Any]:
    common = {"image": image, "imagePullPolicy": "IfNotPresent"}
    root = {"privileged": True, "runAsUser": 0, "runAsGroup": 0}
    main = {
        "name": "main", "command": ["sleep", "3600"], "securityContext": root,
        "env": [{"name": "SECRET", "value": "x"}],
    }  # fmt: skip
    agent = {"name": "agent", "command": NEIGHBOUR, "env": [{"name": "GATEWAY", "value": "x"}]}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "containers": [common | main, common | agent],
            "shareProcessNamespace": True, "terminationGracePeriodSeconds": 0,
        },
    }  # fmt: skip


@contextmanager
def strangers(place: Place) -> Iterator[Stranger]:
    """Make the namespace and the pod, and take them away after the block."""
    image = place.get("orchestratorservice", "example")["spec"]["image"]
    place.kubectl("create", "namespace", NAMESPACE)
    try:
        until(lambda: place.get("serviceaccount", "default", NAMESPACE), "pods can be made there")
        place.kubectl(
            "create", "--filename=-", f"--namespace={NAMESPACE}", stdin=yaml.safe_dump(_pod(image))
        )
        until(lambda: place.get("pod", POD, NAMESPACE)["status"]["phase"] == "Running", "it runs")
        yield Stranger(place, place.get("pod", POD, NAMESPACE)["status"]["podIP"])
    finally:
        place.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
