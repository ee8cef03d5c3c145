"""hack/up and hack/down on this machine: again, after a kill of everything, and without a trace.

Run last and alone: these tests take the cluster down.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from local.cluster import running
from local.keeper import CGROUPS
from local.paths import CGROUP, PIDFILE, ROOT, STATE, VETH
from local.toolchain import BIN
from tests.cluster.place import Place, until

# In the command lines of the cluster's own processes.
MARKS = (str(BIN).encode(), b"local.keeper", b"local.node", b"orchestrator_operator", b"/minio\0")


def hack(command: str) -> None:
    done = subprocess.run([ROOT / "hack" / command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def cluster_processes() -> list[int]:
    """Return every process in the cluster's pid namespace, and the two that hold it open."""
    keeper, unshare = (int(word) for word in PIDFILE.read_text().split())
    inside = Path(f"/proc/{unshare}/ns/pid_for_children").readlink()
    found = [keeper, unshare]
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns/pid").readlink() == inside:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def traces() -> dict[str, str]:
    """Return what the host shows of mounts, interfaces, routes, rules and processes of ours."""
    ours = [
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if any(mark in _read(path) for mark in MARKS)
    ]
    return {
        "mounts": Path("/proc/self/mounts").read_text(),
        "interfaces": "\n".join(sorted(p.name for p in Path("/sys/class/net").iterdir())),
        "routes": output("ip", "route"),
        "rules": output("nft", "list", "ruleset") + output("iptables-save"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "processes": "\n".join(ours),
        "folders": "\n".join(sorted(str(p) for p in Path("/var/lib").glob("*"))),
        "cgroups": "\n".join(str(p) for p in CGROUPS.rglob(CGROUP)),
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.timeout(300)
def test_up_twice_is_up_once() -> None:
    hack("up")
    before = PIDFILE.read_text()
    hack("up")
    assert PIDFILE.read_text() == before


@pytest.mark.timeout(300)
def test_up_after_a_kill_of_everything() -> None:
    for pid in cluster_processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    until(lambda: not running(), "all is dead")
    hack("up")
    place = Place()
    assert place.wait(place.upload("echo hi")) == "Completed"


@pytest.mark.timeout(300)
def test_down_leaves_no_trace() -> None:
    up = traces()
    assert VETH in up["interfaces"]
    assert "local.keeper" in up["processes"]
    hack("down")
    down = traces()
    assert not STATE.exists()
    assert down["processes"] == ""
    assert down["cgroups"] == ""
    assert VETH not in down["interfaces"] + down["routes"]
    assert "198.1" not in down["routes"]
    # The rest is as it was while the cluster was up, which is the point of its namespaces.
    for untouched in ("mounts", "rules", "forwarding", "folders"):
        assert down[untouched] == up[untouched], untouched
    assert "orchestrator" not in down["mounts"] + down["rules"] + down["folders"]
    hack("down")
