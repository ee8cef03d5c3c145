"""How long an upload takes to become a running job, beside a bare pod of the same shape.

For each round, one after the other on an idle cluster:

- ours: POST /upload → the first line of run.sh (written inside, as a time stamp) → Completed by REST;
- the limit: POST of a two-container pod → the first line that its script writes.

Run it with `hack/python -m tests.bench.first_job [ROUNDS]` while `hack/up` is up. The figure to look
at is the ratio: the machine's mood is in both.
"""

import io
import json
import statistics
import subprocess
import sys
import time
import uuid
import zipfile
from typing import Any

import httpx2

from local.cluster import kubectl
from local.images import IMAGES
from local.paths import FRONT, JOBS_NAMESPACE

ROUNDS = 12
STAMP = "date +%s.%N"


def bare(name: str) -> dict[str, Any]:
    """Return a pod with two containers of the images and sizes that a job's pod has."""
    hardened = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }  # fmt: skip
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}}
    containers = [
        {
            "name": part, "image": IMAGES[image].reference, "imagePullPolicy": "Never",
            "command": ["sh", "-c", script], "securityContext": hardened, "resources": resources,
            "volumeMounts": [{"name": "work", "mountPath": "/work"}],
        }
        for part, image, script in (("agent", "agent", "true"), ("main", "example", STAMP))
    ]  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": JOBS_NAMESPACE},
        "spec": {
            "automountServiceAccountToken": False, "containers": containers,
            "enableServiceLinks": False, "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [{"name": "work", "emptyDir": {}}],
        },
    }  # fmt: skip


def run_bare(api: httpx2.Client) -> float:
    """Return the seconds from POST to the first line of a bare pod's script."""
    name = f"bare-{uuid.uuid4().hex[:8]}"
    started = time.time()
    answer = api.post(f"/api/v1/namespaces/{JOBS_NAMESPACE}/pods", json=bare(name))
    answer.raise_for_status()
    while not (line := kubectl("logs", f"--namespace={JOBS_NAMESPACE}", name, "main", check=False)):
        time.sleep(0.2)
    kubectl("delete", "pod", f"--namespace={JOBS_NAMESPACE}", name, "--grace-period=0", "--force")
    return float(line) - started


def run_ours(rest: httpx2.Client) -> tuple[float, float]:
    """Return the seconds from POST to the first line of run.sh, and to Completed by REST."""
    started = time.time()
    answer = rest.post(
        "/upload", data={"user_id": "1", "service": "example"},
        files=[("file", ("run.sh", f"{STAMP} > first\n".encode()))],
    )  # fmt: skip
    number = answer.json()["id"]
    while True:
        poll = rest.get(f"/download/{number}")
        if poll.headers["content-type"] == "application/zip":
            break
        time.sleep(0.02)
    completed = time.time()
    with zipfile.ZipFile(io.BytesIO(poll.content)) as archive:
        first = float(archive.read("first"))
    pod = f"job-{number}-1"
    while kubectl("get", "pod", f"--namespace={JOBS_NAMESPACE}", pod, "--ignore-not-found"):
        time.sleep(0.2)
    return first - started, completed - started


def main() -> None:
    """Measure, and print medians and their ratio as JSON."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    proxy = subprocess.Popen(
        [sys.executable, "-m", "local", "kubectl", "proxy", "--port=18001"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert proxy.stdout is not None
    proxy.stdout.readline()  # it listens
    ours, limits = [], []
    try:
        with (
            httpx2.Client(base_url="http://127.0.0.1:18001", timeout=60) as api,
            httpx2.Client(base_url=FRONT, timeout=60) as rest,
        ):
            run_bare(api), run_ours(rest)  # warms caches, in the cluster and here
            for _ in range(rounds):
                limits.append(run_bare(api))
                ours.append(run_ours(rest))
    finally:
        subprocess.run(["pkill", "--parent", str(proxy.pid)], check=False)
        proxy.terminate()
        proxy.wait()
    first = statistics.median(f for f, _ in ours)
    limit = statistics.median(limits)
    print(json.dumps({
        "rounds": rounds,
        "bare pod, POST to first line, s": round(limit, 3),
        "upload to first line of run.sh, s": round(first, 3),
        "upload to Completed by REST, s": round(statistics.median(c for _, c in ours), 3),
        "ratio": round(first / limit, 2),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
