"""An image that is against us: it says that it runs as root, and brings programs that become root."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from local.images import IMAGES, REGISTRY
from local.paths import CONTAINERD_SOCKET
from local.toolchain import BIN

REFERENCE = f"{REGISTRY}/hostile:test"
SOURCE = Path(__file__).parent / "rooted.c"
# CAP_SETGID and CAP_NET_RAW, which runtimes leave to pods by default, to whoever runs the file.
CAPABILITIES = (1 << 6 | 1 << 13).to_bytes(4, "little")
XATTR = b"\x01\x00\x00\x02" + CAPABILITIES + bytes(12)
# Nothing here may count.
CONFIG: dict[str, Any] = {
    "User": "0:0",
    "Entrypoint": ["/bin/rooted"],
    "Cmd": ["/bin/rooted"],
    "WorkingDir": "/root",
    "Volumes": {"/volume": {}, "/job": {}, "/token": {}},
    "ExposedPorts": {"22/tcp": {}},
    "StopSignal": "SIGCONT",
    "Labels": {"orchestrator.dev/job": "job-1", "io.kubernetes.container.name": "agent"},
}
ENVIRONMENT = [
    "HOME=/root",
    "ORCHESTRATOR_PROGRESS=/etc/passwd",
    "BASH_ENV=/volume/env",
    "IMAGE=hostile",
]


def load(folder: Path) -> None:
    """Make the image from that of the examples, and give it to the node."""
    program = folder / "rooted"
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", program, SOURCE], check=True)
    archive = folder / "hostile.tar"
    _change(IMAGES["example"].archive, archive, _layer(program.read_bytes()))
    subprocess.run([*_ctr(), "import", archive], check=True, capture_output=True)


def unload() -> None:
    """Take it from the node again."""
    subprocess.run([*_ctr(), "rm", REFERENCE], check=True, capture_output=True)


def _ctr() -> list[str]:
    return [str(BIN / "ctr"), f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images"]


def _layer(program: bytes) -> bytes:
    """Return a layer with *program* as root's, in two ways, and a folder that all may write to."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as layer:
        for name, mode in (("bin/rooted", 0o6755), ("bin/capable", 0o755)):
            info = tarfile.TarInfo(f"usr/{name}")
            info.size, info.mode = len(program), mode
            if name == "bin/capable":
                info.pax_headers = {"SCHILY.xattr.security.capability": XATTR.decode("ascii")}
            layer.addfile(info, io.BytesIO(program))
        folder = tarfile.TarInfo("volume")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        layer.addfile(folder)
    return made.getvalue()


def _change(source: Path, target: Path, layer: bytes) -> None:
    """Write an OCI archive with one layer more, and with CONFIG."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        held = {m.name: old.extractfile(m).read() for m in old if m.isfile()}  # type: ignore[union-attr]

        def blob(descriptor: dict[str, Any]) -> Any:
            return json.loads(held[f"blobs/{descriptor['digest'].replace(':', '/')}"])

        def keep(data: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(data).hexdigest()
            held[f"blobs/sha256/{digest}"] = data
            return {"digest": f"sha256:{digest}", "size": len(data)}

        index = json.loads(held["index.json"])
        manifest = blob(index["manifests"][0])
        config = blob(manifest["config"])
        config["config"] |= CONFIG
        config["config"]["Env"] = config["config"]["Env"] + ENVIRONMENT
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        config.pop("history")
        manifest["layers"].append(manifest["layers"][0] | keep(gzip.compress(layer, mtime=0)))
        manifest["config"] |= keep(json.dumps(config).encode())
        index["manifests"][0] |= keep(json.dumps(manifest).encode())
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": REFERENCE}
        held["index.json"] = json.dumps(index).encode()
        for name, data in held.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
