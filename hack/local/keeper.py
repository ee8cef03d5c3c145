"""The host's side of the local cluster: holds its namespaces open and its front door.

It starts `node` in namespaces of its own, joins the two with one veth pair, and forwards
127.0.0.1:5000 to the API. When it ends, however it ends, the kernel ends the cluster.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from local.paths import (
    API_IP,
    CGROUP,
    FRONT_PORT,
    LINK_HOST,
    LINK_NODE,
    LINK_PREFIX,
    NODE_POD_NETWORK,
    PIDFILE,
    SERVICE_NETWORK,
    STATE,
    VETH,
)

PR_SET_PDEATHSIG = 1
CGROUPS = Path("/sys/fs/cgroup")


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start_node(sandbox_image: str) -> subprocess.Popen[bytes]:
    """Start the namespaces with `node` as their PID 1."""
    log = (STATE / "logs/node.log").open("ab")
    with log:
        return subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--ipc",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                # The veth end is put in from outside; nothing can start before it is there.
                'until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done; exec "$@"',
                "sh",
                sys.executable,
                "-m",
                "local.node",
                sandbox_image,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  (no threads here)
        )


def connect(pid: int) -> None:
    """Join host and namespace with a veth pair, and route the cluster's networks through it."""
    own = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{pid}/ns/net").readlink() == own:
        os.sched_yield()

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("link", "add", VETH, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    ip("addr", "add", f"{LINK_HOST}/{LINK_PREFIX}", "dev", VETH)
    ip("link", "set", VETH, "up")
    for network in (SERVICE_NETWORK, NODE_POD_NETWORK):
        ip("route", "replace", network, "via", LINK_NODE)


def remove_link() -> None:
    """Remove the veth pair, and with it the routes through it.

    It outlives its processes: connections that ended with them keep a network namespace alive for
    as long as they try to say goodbye to peers that are gone.
    """
    if Path(f"/sys/class/net/{VETH}").exists():
        subprocess.run(["ip", "link", "delete", VETH], check=False)


# What all pods together weigh against each program of the control plane, which is in no cgroup and
# has 1024 (100 in version 2). Elsewhere it has machines of its own; with as little as any of its
# programs, pods waited tens of milliseconds for a processor whenever Kubernetes was busy.
WEIGHTS = {"cpu.shares": "8192", "cpu.weight": "800"}


def make_cgroups() -> None:
    """Make the cgroup that the kubelet puts its pods under, in every hierarchy."""
    if (CGROUPS / "cgroup.controllers").exists():
        _make_cgroup()
    else:
        _make_cgroups_of_version_1()
    for folder in (*CGROUPS.glob(f"*/{CGROUP}"), CGROUPS / CGROUP):
        for name, weight in WEIGHTS.items():
            if (folder / name).exists():
                (folder / name).write_text(weight)


def _make_cgroup() -> None:
    available = (CGROUPS / "cgroup.controllers").read_text().split()
    (CGROUPS / CGROUP).mkdir(exist_ok=True)
    for folder in (CGROUPS, CGROUPS / CGROUP):
        for controller in available:
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _make_cgroups_of_version_1() -> None:
    for hierarchy in CGROUPS.iterdir():
        if hierarchy.is_symlink() or not (hierarchy / "tasks").exists():
            continue
        folder = hierarchy / CGROUP
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / name).exists():
                (folder / name).write_text((hierarchy / name).read_text())


def remove_cgroups() -> None:
    """Remove what is left of it; cgroups outlive their processes."""
    for top in (*CGROUPS.glob(f"*/{CGROUP}"), CGROUPS / CGROUP):
        folders = sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True)
        for folder in (*folders, top):
            with contextlib.suppress(OSError):
                folder.rmdir()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection(API_IP, 5000)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()
    writer.close()


async def keep(node: subprocess.Popen[bytes]) -> None:
    """Forward the front port until the node or this process is told to end."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        loop.add_signal_handler(number, over.set)
    server = await asyncio.start_server(_forward, "127.0.0.1", FRONT_PORT)
    async with server:
        while node.poll() is None and not over.is_set():
            await over.wait()


def main() -> None:
    """Hold the cluster up until it ends or SIGTERM comes; then leave nothing behind."""
    make_cgroups()
    node = start_node(sys.argv[1])
    PIDFILE.write_text(f"{os.getpid()} {node.pid}\n")
    try:
        connect(node.pid)
        asyncio.run(keep(node))
    finally:
        node.kill()
        node.wait()
        remove_link()
        remove_cgroups()


if __name__ == "__main__":
    main()
