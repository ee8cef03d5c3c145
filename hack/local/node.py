"""PID 1 of the cluster's own mount, pid and network namespaces: starts and watches everything.

Run by `keeper`, never by hand. When this process ends, the kernel ends all it started and takes
mounts, interfaces and firewall rules with it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from local.components import Component, components, folders
from local.paths import LINK_NODE, LINK_PREFIX, NODE, REPORT, SERVICE_NETWORK, STATE
from local.toolchain import BIN

SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    # When all is killed at once, connections must not linger and keep the namespace alive.
    "net/ipv4/tcp_orphan_retries": "1",
}
RESTART_SECONDS = 1.0


def isolate() -> None:
    """Cover the host's folders that containers would write to, and set up the network."""
    for folder in folders():
        folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")
    _run("mount", "--bind", str(STATE / "var/lib"), "/var/lib")
    _run("mount", "--bind", str(STATE / "var/log"), "/var/log")
    _run("hostname", NODE)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "addr", "add", f"{LINK_NODE}/{LINK_PREFIX}", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    # There is no default route: nothing inside has a way out of the machine. Local connections
    # to service addresses need some route, before kube-proxy rewrites them.
    _run("ip", "route", "add", SERVICE_NETWORK, "dev", "eth0")
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


@dataclass
class Supervised:
    """A component and how it is doing."""

    spec: Component
    pid: int = 0
    ready: bool = False
    starts: int = 0
    not_before: float = 0.0
    last_exit: int | None = None


@dataclass
class Supervisor:
    """Starts components when what they need is ready, and again when they end."""

    table: dict[str, Supervised]
    reported: str = field(default="")

    def step(self, now: float) -> bool:
        """Do what can be done now; returns whether everything is ready."""
        self._reap(now)
        for name, item in self.table.items():
            if not item.pid and now >= item.not_before and self._may_start(item):
                item.pid, item.starts = self._start(name, item.spec), item.starts + 1
            if item.pid and not item.ready:
                item.ready = item.spec.ready()
        self._report()
        return all(item.ready for item in self.table.values())

    def _may_start(self, item: Supervised) -> bool:
        return all(self.table[name].ready for name in item.spec.after)

    def _start(self, name: str, spec: Component) -> int:
        with (STATE / f"logs/{name}.log").open("ab") as log:
            process = subprocess.Popen(
                spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        process.returncode = 0  # `_reap` waits for it, as PID 1 must for every orphan
        return process.pid

    def _reap(self, now: float) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for item in self.table.values():
                if item.pid == pid:
                    item.pid, item.ready = 0, False
                    item.last_exit = os.waitstatus_to_exitcode(status)
                    item.not_before = now + RESTART_SECONDS

    def _report(self) -> None:
        text = json.dumps(
            {
                name: {"pid": i.pid, "ready": i.ready, "starts": i.starts, "lastExit": i.last_exit}
                for name, i in self.table.items()
            }
        )
        if text != self.reported:
            fresh = REPORT.with_suffix(".new")
            fresh.write_text(text)
            fresh.rename(REPORT)
            self.reported = text


def main() -> None:
    """Isolate, then supervise until killed."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    isolate()
    table = {name: Supervised(spec) for name, spec in components(sys.argv[1]).items()}
    supervisor = Supervisor(table)
    while True:
        time.sleep(1.0 if supervisor.step(time.monotonic()) else 0.05)


if __name__ == "__main__":
    main()
