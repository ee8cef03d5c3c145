"""Where everything lies, and which addresses and names the local cluster uses."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GO_MODULE = ROOT / "hack/local/go"
MINIO_MODULE = ROOT / "hack/local/minio"
KWOK_MODULE = ROOT / "hack/local/kwok"
SCORE_MODULE = ROOT / "hack/local/score"
GATEWAY_MODULE = ROOT / "hack/local/gateway"
GVISOR_MODULE = ROOT / "hack/local/gvisor"
IMAGES = ROOT / "hack/local/images"
CHART = ROOT / "charts/orchestrator"
EXAMPLES = ROOT / "hack/examples"
LOCAL_VALUES = ROOT / "hack/local/values.yaml"

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestrator"
LOGS = CACHE / "logs"

# Everything of a running cluster; `hack/down` removes it.
STATE = CACHE / "cluster"
KUBECONFIG = STATE / "kubeconfig"
CONTAINERD_SOCKET = STATE / "containerd.sock"
REPORT = STATE / "report.json"
PIDFILE = STATE / "keeper.pid"
# What the object store keeps its files on; owned by the uid that it runs as.
VOLUME, VOLUME_UID = STATE / "object-store", 65532
AUDIT_LOG = STATE / "logs/audit.log"

# 198.18.0.0/15 is set aside for benchmarks (RFC 2544): nothing real lives there.
LINK_HOST, LINK_NODE, LINK_PREFIX = "198.18.254.1", "198.18.254.2", 30
POD_NETWORK, SERVICE_NETWORK = "198.18.0.0/17", "198.19.0.0/16"
NODE_POD_NETWORK = "198.18.0.0/24"
KUBERNETES_IP, DNS_IP, API_IP = "198.19.0.1", "198.19.0.10", "198.19.0.50"
VETH = "orchestrator0"
NODE = "node-1"
CGROUP = "orchestrator-local"

FRONT_PORT = 5000
FRONT = f"http://127.0.0.1:{FRONT_PORT}"
NAMESPACE, JOBS_NAMESPACE, RELEASE = "orchestrator", "orchestrator-jobs", "orchestrator"


def digest(parts: Iterable[Path | str]) -> str:
    """Return 16 hex digits that change with *parts*: texts, or what files and folders hold."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(part.encode())
            continue
        tree = [part] if part.is_file() else sorted(part.rglob("*"))
        for path in tree:
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode & 0o111}\0".encode())
                total.update(path.read_bytes())
    return total.hexdigest()[:16]
